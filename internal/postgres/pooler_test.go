package postgres_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

// pooled is the database through pgbouncer, as its owner would write it.
func (w *world) pooled() string {
	w.t.Helper()
	return postgrestest.NewPooler(w.t, postgrestest.As(w.url, postgrestest.Service)) + "&default_query_exec_mode=exec"
}

// Many browsers at three instances, and three connections to PostgreSQL: nobody's statement
// ends up in another's transaction.
func TestManyLoginsThroughAPooler(t *testing.T) {
	t.Parallel()
	const browsers, rounds = 30, 10
	w := newWorld(t, 2*browsers)
	through := w.pooled()
	var instances []postgres.Logins
	for range 3 {
		instances = append(instances, postgres.Logins{DB: w.open(through), AppID: appID})
	}
	reserve := postgres.Reserve{DB: instances[0].DB, Holder: newID()}
	for scene := range int32(2 * browsers) {
		code := login.Ticket{Ticket: fmt.Sprint("ready ", scene+1), URL: "url"}
		w.ok(reserve.Prepare(t.Context(), scene+1, code, 2*long, time.Minute))
	}
	var mu sync.Mutex
	held := map[int32]bool{}
	atOnce(browsers, func(i int) {
		name := fmt.Sprint("browser ", i)
		accounts := postgres.Accounts{DB: instances[i%3].DB, AppID: appID}
		user, err := accounts.CreateUser(t.Context(), name, "hash")
		if err != nil {
			t.Error(err)
			return
		}
		for round := range rounds {
			at := func() postgres.Logins { i++; return instances[i%3] } // another instance each time
			hash := newHash()
			err := func() error {
				l, err := at().Claim(t.Context(), newID(), long, 0)
				if err != nil {
					return err
				}
				mu.Lock()
				taken := held[l.Scene]
				held[l.Scene] = true
				mu.Unlock()
				if taken {
					t.Errorf("scene %d is held twice", l.Scene)
				}
				defer func() { mu.Lock(); delete(held, l.Scene); mu.Unlock() }()
				if l.Ticket.Ticket == "" {
					l.Ticket = login.Ticket{Ticket: "ticket " + l.ID.String(), URL: "url"}
					if err := at().SetTicket(t.Context(), l.Ref, l.Ticket); err != nil {
						return err
					}
				}
				if err := at().SetOrigin(t.Context(), l.Ref, login.Origin{Place: name}); err != nil {
					return err
				}
				if _, err := at().Join(t.Context(), l.Ref); err != nil {
					return err
				}
				if err := at().Leave(t.Context(), []login.Ref{l.Ref}); err != nil {
					return err
				}
				o, id, err := at().Scan(t.Context(), scanOf(l, name), long)
				if err != nil || id != l.ID || (o == login.LoggedIn) != (round > 0) {
					return fmt.Errorf("scanning: %v for %v, %w", o, id, err)
				}
				if now, err := at().Current(t.Context(), l.Ref); err != nil || now.State == login.Waiting {
					return fmt.Errorf("after the scan: %v, %w", now.State, err)
				}
				if round == 0 {
					return at().Bind(t.Context(), l.Ref, login.Owner{ID: user.ID}, login.Session{Hash: hash}, long)
				}
				return at().Complete(t.Context(), l.Ref, login.Session{Hash: hash}, long)
			}()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if s, _, err := accounts.SessionByHash(t.Context(), hash, long); err != nil || s.User.Name != name {
				t.Errorf("%s is logged in as %q, %v", name, s.User.Name, err)
			}
		}
	})
	if n := w.sessions(); n != browsers*rounds {
		t.Errorf("%d sessions, want %d", n, browsers*rounds)
	}
}

// What relaxes a statement goes to the same connection as the statement, and stays there for
// nobody else's.
func TestDurabilityIsNotMixedUpByAPooler(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.exec(`CREATE TABLE written (want text PRIMARY KEY, got text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			UPDATE written SET got = current_setting('synchronous_commit') WHERE want = NEW.want;
			RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER note AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
		GRANT ALL ON written TO PUBLIC`)
	pool := must(pgxpool.New(t.Context(), w.pooled()+"&pool_max_conns=16"))(t)
	t.Cleanup(pool.Close)
	relaxed := postgres.Relaxed(pool)
	const insert = "INSERT INTO written (want) VALUES ($1)"
	atOnce(16, func(i int) {
		for n := range 50 {
			_, err := relaxed.Exec(t.Context(), insert, fmt.Sprintf("off %d %d", i, n))
			if err == nil {
				_, err = pool.Exec(t.Context(), insert, fmt.Sprintf("on %d %d", i, n))
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	if n := get[int](w, "SELECT count(*) FROM written WHERE split_part(want, ' ', 1) = got"); n != 16*50*2 {
		t.Errorf("%d of %d have the durability that they were written with", n, 16*50*2)
	}
}

func TestAListenerBesideAPooler(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	through := w.pooled()
	e := startListening(t, through, w.url, 300*time.Millisecond)
	e.awaitUp(t)
	n, _ := notifier(t, w.open(through))
	for range 20 {
		e.hearsAgain(t, n)
	}
}

// A pooler gives our own NOTIFY back to us, within our own statement: that proves nothing.
func TestAListenerBehindAPoolerIsNotFooled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	through := w.pooled()
	e := startListening(t, through, through, 100*time.Millisecond)
	for range 3 { // each time anew
		await(t, "the complaint", func() bool { return strings.Contains(e.log.String(), "has to be a direct connection") })
		e.awaitUp(t)
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, 1), newWorld(t, 1)
	plain := postgrestest.NewPooler(t, w.url)
	through := plain + "&default_query_exec_mode=exec"
	nobody := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	must(0, nobody.Close())(t)
	gone := "postgres://someone:secret-word@" + nobody.Addr().String() + "/none"
	const readOnly = "&default_transaction_read_only=on"
	for name, c := range map[string]struct{ database, listen, want string }{
		"one database":            {w.url, w.url, ""},
		"a pooler beside":         {through, w.url, ""},
		"through a pooler":        {through, through, "DATABASE_LISTEN_URL has to be a direct connection"},
		"another database":        {w.url, other.url, "to the same database"},
		"no prepared statements":  {plain, w.url, "add default_query_exec_mode=exec"},
		"a standby":               {w.url, w.url + readOnly, "DATABASE_LISTEN_URL leads to a standby"},
		"the database, a standby": {w.url + readOnly, w.url, "DATABASE_URL leads to a standby"},
		"nobody there":            {w.url, gone, "connecting by DATABASE_LISTEN_URL"},
		"no database":             {gone, w.url, "through DATABASE_URL"},
		"not a URL":               {w.url, "postgres://someone:secret-word@:port/none", "reading the database URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := postgres.CheckListen(t.Context(), c.database, c.listen)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "secret-word"):
				t.Errorf("a password is told: %v", err)
			}
		})
	}
}
