package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// written is a log that can be asked what was written since the last time.
type written struct {
	mu      sync.Mutex
	rows    []string
	err     error
	dropped int
}

func (w *written) write(_ context.Context, events []Counted) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	for _, e := range events {
		w.rows = append(w.rows, fmt.Sprintf("%s %s %s %s x%d", e.Kind, e.Detail, e.Account, e.Addr, e.Times))
	}
	return nil
}

func (w *written) drop(events int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped += events
}

// fail makes writes fail with err, or none.
func (w *written) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *written) next() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := w.rows
	w.rows = nil
	return rows
}

// recording runs f with a recorder that runs, in a time of its own.
func recording(t *testing.T, f func(t *testing.T, r *Recorder, log *written)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log written
		r := &Recorder{AppID: "wx", Write: log.write, Dropped: log.drop, Logger: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			r.Run(ctx)
			close(ended)
		}()
		synctest.Wait()
		f(t, r, &log)
		cancel()
		<-ended
	})
}

func from(addr string) context.Context {
	return With(context.Background(), Where{Addr: netip.MustParseAddr(addr), Browser: "Firefox"})
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("written, -want +got:\n%s", diff)
	}
}

func TestAFloodIsARowAtOnceAndThenOneAMinute(t *testing.T) {
	recording(t, func(t *testing.T, r *Recorder, log *written) {
		for range 1000 {
			r.Note(from("192.0.2.1"), Event{Kind: Limited, Detail: "codes"})
		}
		synctest.Wait()
		got := log.next()
		for range 2000 {
			r.Note(from("192.0.2.1"), Event{Kind: Limited, Detail: "codes"})
		}
		synctest.Wait()
		// How many the first write has found depends on who was faster.
		if then := log.next(); len(got) != 1 || !strings.HasPrefix(got[0], "limited codes  192.0.2.1 x") || len(then) != 0 {
			t.Errorf("at once: %q, then %q", got, then)
		}
		var first int
		if _, err := fmt.Sscanf(got[0], "limited codes  192.0.2.1 x%d", &first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(gather)
		synctest.Wait()
		want(t, log.next(), fmt.Sprintf("limited codes  192.0.2.1 x%d", 3000-first))
		time.Sleep(gather) // in which nothing happens: the next one is new
		synctest.Wait()
		r.Note(from("192.0.2.1"), Event{Kind: Limited, Detail: "codes"})
		synctest.Wait()
		want(t, log.next(), "limited codes  192.0.2.1 x1")
	})
}

func TestDifferentEventsAreDifferentRows(t *testing.T) {
	recording(t, func(t *testing.T, r *Recorder, log *written) {
		for _, e := range []struct {
			addr string
			Event
		}{
			{"192.0.2.1", Event{Kind: SignInFailed, Detail: "login", Account: "ann"}},
			{"192.0.2.1", Event{Kind: SignInFailed, Detail: "login", Account: "bob"}},
			{"192.0.2.1", Event{Kind: SignInFailed, Detail: "bind", Account: "ann"}},
			{"192.0.2.2", Event{Kind: SignInFailed, Detail: "login", Account: "ann"}},
			{"2001:db8::1", Event{Kind: Forged, Detail: "stale"}},
			{"2001:db8::2", Event{Kind: Forged, Detail: "stale"}}, // of the same /64
			{"2001:db8:0:1::1", Event{Kind: Forged, Detail: "stale"}},
		} {
			r.Note(from(e.addr), e.Event)
			synctest.Wait()
		}
		want(t, log.next(),
			"sign_in_failed login ann 192.0.2.1 x1", "sign_in_failed login bob 192.0.2.1 x1", "sign_in_failed bind ann 192.0.2.1 x1",
			"sign_in_failed login ann 192.0.2.2 x1", "forged stale  2001:db8::1 x1", "forged stale  2001:db8:0:1::1 x1")
	})
}

func TestWhatDoesNotFitIsCounted(t *testing.T) {
	recording(t, func(t *testing.T, r *Recorder, log *written) {
		log.fail(errors.New("away"))
		for n := range mostEvents + 7 {
			r.Note(t.Context(), Event{Kind: SignInFailed, Account: fmt.Sprint(n)})
		}
		if log.dropped != 7 {
			t.Errorf("%d are dropped", log.dropped)
		}
		synctest.Wait()
		log.fail(nil)
		time.Sleep(gather) // what could not be written is kept
		synctest.Wait()
		if n := len(log.next()); n != mostEvents {
			t.Errorf("%d rows", n)
		}
		time.Sleep(gather)
		synctest.Wait()
		r.Note(t.Context(), Event{Kind: SignInFailed, Account: "late"}) // there is room again
		synctest.Wait()
		want(t, log.next(), "sign_in_failed  late invalid IP x1")
	})
}

func TestWhatIsLeftIsWrittenAtTheEnd(t *testing.T) {
	var log *written
	recording(t, func(_ *testing.T, r *Recorder, l *written) {
		log = l
		r.Note(from("192.0.2.1"), Event{Kind: Forged})
		synctest.Wait()
		log.next()
		r.Note(from("192.0.2.1"), Event{Kind: Forged})
	})
	want(t, log.next(), "forged   192.0.2.1 x1")
	recording(t, func(_ *testing.T, r *Recorder, l *written) {
		log = l
		log.fail(errors.New("away"))
		r.Note(from("192.0.2.1"), Event{Kind: Forged})
		synctest.Wait()
	})
	if log.dropped != 1 {
		t.Errorf("%d are dropped", log.dropped)
	}
}

// A text that PostgreSQL doesn't take would take all others of its batch along.
func TestNamesAreBoundedAndPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"ann":                               "ann",
		"a\x00n\xff\n\x1b[31mn":             "an[31mn",
		strings.Repeat("x", 100_000):        strings.Repeat("x", longestName),
		strings.Repeat("\U0001F600", 1_000): strings.Repeat("\U0001F600", longestName),
		strings.Repeat("\xf0\x9f", 1_000):   "",
	} {
		if got := name(text); got != want {
			t.Errorf("%.20q became %.20q", text, got)
		}
	}
}

func TestNobodyRecords(t *testing.T) {
	var r *Recorder
	r.Note(t.Context(), Event{Kind: Forged})
	if r.Person("openid") != "" {
		t.Error("a person without a log")
	}
}
