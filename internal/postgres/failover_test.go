package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/devpg"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/postgrestest"
)

func connect(t testing.TB, server *devpg.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func ask(t testing.TB, conn *pgx.Conn, query string) (answer string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

// failOver ends the primary and makes the standby the primary.
func failOver(t testing.TB, primary, standby *devpg.Server) {
	t.Helper()
	primary.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
}

// fallBehind waits until the standby has all that was written so far, and keeps
// from it what is written from now on.
func fallBehind(t testing.TB, primary, standby *devpg.Server) {
	t.Helper()
	p, s := connect(t, primary), connect(t, standby)
	written := ask(t, p, "SELECT pg_current_wal_lsn()::text")
	await(t, "the standby", func() bool {
		return ask(t, s, "SELECT (pg_last_wal_replay_lsn() >= '"+written+"')::text") == "true"
	})
	if _, err := s.Exec(t.Context(), "ALTER SYSTEM SET primary_conninfo = ''"); err != nil {
		t.Fatal(err)
	}
	ask(t, s, "SELECT pg_reload_conf()::text")
	await(t, "the end of replication", func() bool {
		return ask(t, p, "SELECT count(*)::text FROM pg_stat_replication") == "0"
	})
}

// With a standby that every commit waits for, the loss of the primary is as a crash: what
// was answered stays true.
func TestAFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	primary, standby := postgrestest.NewPair(t, map[string]string{"synchronous_standby_names": devpg.StandbyName})
	c := newCrowd(worldOn(t, 200, primary, standby), 16)
	c.start()
	c.await(3)
	timeline := func(conn *pgx.Conn) string { return ask(t, conn, "SELECT scanlogin.timeline()") }
	old, conn := timeline(connect(t, primary)), connect(t, standby)
	failOver(t, primary, standby)
	c.await(3) // everybody goes on by himself
	wantNothingLost(t, c)

	// Also on a connection that was there before the promotion.
	if here, now := timeline(conn), timeline(connect(t, standby)); here != now || now == old {
		t.Errorf("the timeline was %s and is %s, on an older connection %s", old, now, here)
	}
}

func TestTheListenerFindsTheNewPrimary(t *testing.T) {
	t.Parallel()
	primary, standby := postgrestest.NewPair(t, map[string]string{"synchronous_standby_names": devpg.StandbyName})
	w := worldOn(t, 1, primary, standby)
	e := listen(t, w.url+"&target_session_attrs=read-write", 0) // which we ask for anyway
	failOver(t, primary, standby)
	e.awaitUp(t)
	n, _ := notifier(t, w.db)
	id := newID()
	await(t, "a connection to the new primary", func() bool { return n.Notify(t.Context(), id) == nil })
	if got := e.hear(t); got != id {
		t.Errorf("heard of %v, want %v", got, id)
	}
}

// A standby that lags is promoted. It doesn't know of the last claims, so codes lie ready
// in it that are on screens already.
type lagging struct {
	*world
	known     login.Login   // of a browser that the standby knows
	forgotten []login.Login // of browsers that it doesn't, with codes that lie ready there
}

const laggingScenes = 8

// loseClaims makes such a failover, in a world where prepared has happened to the schema.
func loseClaims(t *testing.T, prepared func(*world)) *lagging {
	t.Helper()
	primary, standby := postgrestest.NewPair(t, nil)
	l := &lagging{world: worldOn(t, laggingScenes, primary, standby)}
	prepared(l.world)
	for scene := range int32(laggingScenes) {
		l.prepare(scene+1, fmt.Sprintf("ready %d", scene+1), 2*long, time.Minute)
	}
	l.known = l.claim()
	fallBehind(t, primary, standby)
	for range laggingScenes / 2 {
		l.forgotten = append(l.forgotten, l.claim())
	}
	failOver(t, primary, standby)
	l.admin.Reset()
	l.db = l.instance()
	l.logins.DB = l.db
	for _, f := range l.forgotten {
		if ready := get[string](l.world, "SELECT ready_ticket FROM scanlogin.scene WHERE id = $1", f.Scene); f.Ticket.Ticket != ready {
			t.Fatalf("%q is on a screen and %q lies ready: that tests nothing", f.Ticket.Ticket, ready)
		}
	}
	return l
}

func TestAFailoverToALaggingStandbyLogsNobodyElseIn(t *testing.T) {
	t.Parallel()
	w := loseClaims(t, func(*world) {})
	unscannable := func() {
		t.Helper()
		for _, f := range w.forgotten {
			before := w.row(f.Scene)
			if o := w.scan(f, "ann"); o != login.Stale {
				t.Errorf("a code whose claim was lost was scanned: %v", o)
			}
			if after := w.row(f.Scene); after != before {
				t.Errorf("that changed the scene from %s to %s", before, after)
			}
		}
	}
	unscannable()
	for _, f := range w.forgotten {
		if s := w.state(f.Ref); s != login.Expired {
			t.Errorf("a login that was lost is %v", s)
		}
		if _, err := w.logins.Join(t.Context(), f.Ref); !errors.Is(err, login.ErrEnded) {
			t.Errorf("going on with a login that was lost: %v", err)
		}
	}
	if got := w.bare(100); len(got) != laggingScenes {
		t.Errorf("scenes %v want a code, which all do", got)
	}
	w.prepare(w.bare(100)[0], "new", 2*long, time.Minute)
	if l := w.claim(); l.Ticket.Ticket != "new" {
		t.Errorf("the code that was made on the new primary wasn't shown, but %q", l.Ticket.Ticket)
	}
	for range laggingScenes - 2 { // but the new one, and the one that is held
		if l := w.claim(); l.Ticket != (login.Ticket{}) {
			t.Errorf("%q of the old primary is shown", l.Ticket.Ticket)
		}
	}
	unscannable()
	if o := w.scan(w.known, "ann"); o != login.MustBind {
		t.Errorf("the code of a login that the standby knew was scanned: %v", o)
	}
}

// What the timeline is for: without it, a scan of one browser's picture logs in another.
func TestWithoutATimelineALaggingStandbyShowsACodeTwice(t *testing.T) {
	t.Parallel()
	w := loseClaims(t, func(w *world) { w.promote("none") })
	mine := map[string]login.Login{} // ticket -> shown after the failover
	for range laggingScenes - 1 {    // but the one that is held
		l := w.claim()
		mine[l.Ticket.Ticket] = l
	}
	for _, theirs := range w.forgotten {
		l, twice := mine[theirs.Ticket.Ticket]
		if !twice {
			t.Fatalf("%q was shown once", theirs.Ticket.Ticket)
		}
		if o := w.scan(theirs, "ann"); o != login.MustBind || w.state(l.Ref) != login.BindRequired {
			t.Errorf("a scan of their picture was %v, and made mine %v", o, w.state(l.Ref))
		}
	}
}
