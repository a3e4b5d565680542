package postgres_test

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// Clocks of instances differ. What they tell the database are durations; when something
// ends it says by itself.
func TestNoStatementTakesATimeOfOurs(t *testing.T) {
	t.Parallel()
	// A time that the database gave, and gets back: it names a turn.
	handedBack := []string{"SetTokenParams.Turn", "EndTokenFetchParams.Turn", "EndNotice", "LeaveNotice"}
	// What somebody asks for who reads the audit log, by the clock on their wall.
	handedBack = append(handedBack, "AuditLogParams.Since", "AuditLogParams.Until")
	var taken []string
	queries := reflect.TypeFor[*pgstore.Queries]()
	for m := range queries.Methods() {
		for in := range m.Type.Ins() {
			taken = append(taken, times(in, m.Name)...)
		}
	}
	slices.Sort(taken)
	slices.Sort(handedBack)
	if diff := cmp.Diff(handedBack, taken); diff != "" {
		t.Errorf("times that statements take (-want +got):\n%s", diff)
	}
	for _, s := range currentStatements(t) {
		if found := regexp.MustCompile(`\$\d+::(timestamp|date|time)\w*`).FindString(s.text); found != "" {
			t.Errorf("%s takes a time: %s", s.name, found)
		}
		if found := regexp.MustCompile(`(?i)\b(clock_timestamp|statement_timestamp|timeofday|current_\w*time\w*|localtime\w*)\b`).FindString(s.text); found != "" {
			t.Errorf("%s has another clock than the others, now(): %s", s.name, found)
		}
	}
}

// times finds what of a parameter is a time.
func times(in reflect.Type, name string) (found []string) {
	switch {
	case in == reflect.TypeFor[time.Time]():
		return []string{name}
	case in == reflect.TypeFor[*pgstore.Queries]():
	case in.Kind() == reflect.Slice, in.Kind() == reflect.Pointer:
		return times(in.Elem(), name)
	case in.Kind() == reflect.Struct && in.PkgPath() == queriesPackage():
		for f := range in.Fields() {
			found = append(found, times(f.Type, in.Name()+"."+f.Name)...)
		}
	}
	return found
}

func queriesPackage() string { return reflect.TypeFor[pgstore.Queries]().PkgPath() }

// clock is the one that statements find as now(), before PostgreSQL's own.
type clock struct{ *world }

func (w *world) newClock() clock {
	w.exec("CREATE SCHEMA clock")
	w.exec("CREATE TABLE clock.ahead AS SELECT interval '0' AS by")
	w.exec("CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT pg_catalog.now() + by FROM clock.ahead'")
	w.exec("GRANT USAGE ON SCHEMA clock TO PUBLIC")
	w.exec("GRANT SELECT ON clock.ahead TO PUBLIC")
	w.exec("ALTER DATABASE " + pgx.Identifier{get[string](w, "SELECT current_database()::text")}.Sanitize() + " SET search_path = clock, pg_catalog")
	w.db = w.instance()
	w.logins.DB, w.accounts.DB = w.db, w.db
	return clock{w}
}

func (c clock) ahead(by time.Duration) {
	c.t.Helper()
	c.exec("UPDATE clock.ahead SET by = $1", by)
}

// The instance's own clock stands where it stood, as good as: what ends and what doesn't
// is the database's alone, years ahead of it or behind.
func TestOnlyTheDatabasesClockEndsAnything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	ann := w.account("ann")
	w.tie("ann", ann)
	c := w.newClock()
	for _, off := range []time.Duration{0, 3 * 365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		c.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
		c.ahead(off)
		waiting, scanned, completed := c.show(), c.show(), c.show()
		for _, l := range []login.Login{scanned, completed} {
			if o := c.scan(l, "ann"); o != login.LoggedIn {
				t.Errorf("%v off: the scan was told %v", off, o)
			}
		}
		hash := newHash()
		c.ok(c.logins.Complete(t.Context(), completed.Ref, login.Session{Hash: hash}, long))

		c.ahead(off + long - 10*time.Second)
		if l, err := c.logins.Join(t.Context(), waiting.Ref); err != nil || l.ExpiresIn <= 0 || l.ExpiresIn > 10*time.Second {
			t.Errorf("%v off: joined with %v left (%v)", off, l.ExpiresIn, err)
		}
		if s := c.state(scanned.Ref); s != login.Authenticated {
			t.Errorf("%v off: the scanned login is %v", off, s)
		}
		if _, err := c.session(hash); err != nil {
			t.Errorf("%v off: the session: %v", off, err)
		}
		if _, _, err := c.accounts.SessionByHash(t.Context(), hash, long); err != nil {
			t.Errorf("%v off: the session, seen less than %v ago: %v", off, long, err)
		}
		if _, _, err := c.accounts.SessionByHash(t.Context(), hash, long-time.Minute); !errors.Is(err, account.ErrNoSession) {
			t.Errorf("%v off: the session, not seen for too long: %v", off, err)
		}
		if _, err := c.logins.Claim(t.Context(), newID(), long, long); !errors.Is(err, login.ErrExhausted) {
			t.Errorf("%v off: a scene that is held or rests was claimed: %v", off, err)
		}

		c.ahead(off + long + time.Second)
		for _, ref := range []login.Ref{waiting.Ref, scanned.Ref} {
			if s := c.state(ref); s != login.Expired {
				t.Errorf("%v off: out of time, the login is %v", off, s)
			}
			if _, err := c.logins.Join(t.Context(), ref); !errors.Is(err, login.ErrEnded) {
				t.Errorf("%v off: joined out of time: %v", off, err)
			}
		}
		if o := c.scan(waiting, "ann"); o != login.Stale {
			t.Errorf("%v off: out of time, the scan was told %v", off, o)
		}
		if err := c.world.complete(scanned.Ref); !errors.Is(err, login.ErrEnded) {
			t.Errorf("%v off: completed out of time: %v", off, err)
		}
		if _, err := c.session(hash); !errors.Is(err, account.ErrNoSession) {
			t.Errorf("%v off: the session out of time: %v", off, err)
		}
		if n, err := c.db.RemoveSessions(t.Context(), 10); err != nil || n != 1 {
			t.Errorf("%v off: %d sessions were removed (%v)", off, n, err)
		}
	}
}
