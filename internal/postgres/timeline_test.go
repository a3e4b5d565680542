package postgres_test

import (
	"slices"
	"testing"
	"time"

	"scanlogin/internal/login"
)

// promote lets the database go on as one that was a standby. A real promotion takes a
// second server.
func (w *world) promote(timeline string) {
	w.t.Helper()
	w.exec("CREATE OR REPLACE FUNCTION scanlogin.timeline() RETURNS text LANGUAGE sql AS $$ SELECT '" + timeline + "' $$")
}

// What lies ready in a standby may have been shown by a claim that was lost with the
// primary.
func TestACodeOfAnotherTimelineIsNotShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.prepare(1, "before", 2*long, time.Minute)
	if got := w.bare(100); len(got) > 0 {
		t.Errorf("bare before the promotion: %v", got)
	}
	w.promote("00000002")
	l := w.claimFor(long)
	if l.Ticket != (login.Ticket{}) {
		t.Errorf("claimed with %+v", l.Ticket)
	}
	if o := w.scan(login.Login{Ref: l.Ref, Ticket: login.Ticket{Ticket: "before"}}, "ann"); o != login.Stale {
		t.Errorf("the picture of whom the old primary forgot was scanned: %v", o)
	}
	w.timeOut(l.Ref)
	if next := w.claimFor(long); next.Ticket != (login.Ticket{}) {
		t.Errorf("the next one got %+v", next.Ticket)
	}
}

func TestAPromotionMakesTheReserveAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	for scene := range int32(3) {
		w.prepare(scene+1, "before", 3*long, time.Minute)
	}
	w.promote("00000002")
	if got := w.bare(100); !slices.Equal(got, []int32{2, 3, 1}) {
		t.Errorf("bare after the promotion: %v", got)
	}
	w.prepare(2, "after", 2*long, time.Minute) // though the one that lies there is younger
	w.prepare(2, "late", 3*long, time.Minute)
	if got := w.bare(100); !slices.Equal(got, []int32{3, 1}) {
		t.Errorf("bare after one was made: %v", got)
	}
	if l := w.claimFor(long); l.Scene != 2 || l.Ticket.Ticket != "after" {
		t.Errorf("claimed scene %d with %+v", l.Scene, l.Ticket)
	}
	w.promote("00000003") // and once more
	if got := w.bare(100); !slices.Equal(got, []int32{3, 1, 2}) {
		t.Errorf("bare after the second promotion: %v", got)
	}
}

func TestTheTimelineIsTheServersOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	const own = "SELECT lpad(to_hex(timeline_id), 8, '0') FROM pg_control_checkpoint()"
	if got, want := get[string](w, "SELECT scanlogin.timeline()"), get[string](w, own); got != want {
		t.Errorf("the timeline is %q, the server's is %q", got, want)
	}
}

// What an instance of version 3 runs to make a code ready, beside those of version 4.
const prepareOfVersion3 = `
UPDATE scanlogin.scene SET ready_ticket = $2, ready_url = $2, ready_until = now() + interval '2 h'
WHERE id = $1 AND ready_until < now() + interval '1 min'`

func TestACodeOfAnOlderInstanceIsShownOnItsTimelineOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	older := func(ticket string) {
		t.Helper()
		if n := w.exec(prepareOfVersion3, 1, ticket); n != 1 {
			t.Fatalf("%s: %d scenes were given a code", ticket, n)
		}
	}
	claims := func(what, want string) {
		t.Helper()
		l := w.claimFor(long)
		if l.Ticket.Ticket != want {
			t.Errorf("%s was claimed as %q, want %q", what, l.Ticket.Ticket, want)
		}
		w.timeOut(l.Ref)
	}
	older("first")
	if got := w.bare(100); !slices.Equal(got, []int32{1}) {
		t.Errorf("bare, where nobody knows the code's timeline: %v", got)
	}
	claims("a code of no known timeline", "")
	w.prepare(1, "newer", 2*long, time.Minute)
	claims("a newer instance's code", "newer")
	older("second") // its timeline is the one that stands there
	claims("an older instance's code after a newer one's", "second")
	older("third")
	w.promote("00000002")
	claims("an older instance's code from before the promotion", "")
	older("fourth")
	claims("an older instance's code after the promotion", "")
}
