package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

func exec(ctx context.Context, db *postgres.DB, statement string) error {
	return db.Do(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, statement)
		return err
	})
}

// The network goes, with every connection of the pool, and nobody hangs up.
func TestABlackHoleOfAllConnectionsIsLeftSoon(t *testing.T) {
	t.Parallel()
	const conns = 40
	w := newWorld(t, 1)
	// One by one, the dead would take more than half a minute.
	for name, callers := range map[string]int{"idle": 1, "all in use": conns} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, through := newRelay(t, w.url)
			r.dumb = true
			db := must(postgres.Open(t.Context(), through+"&pool_max_conns=40", "scanlogin"))(t)
			t.Cleanup(db.Close)
			w.ok(db.Fill(t.Context(), conns))
			if n := r.made.Load(); n != conns {
				t.Fatalf("%d connections", n)
			}
			r.cut()
			caller, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			atOnce(callers, func(int) {
				if err := exec(caller, db, "SELECT 1"); err == nil {
					t.Error("an answer through a black hole")
				}
			})
			patient, cancel := context.WithTimeout(t.Context(), 12*time.Second)
			defer cancel()
			if err := exec(patient, db, "SELECT 1"); err != nil {
				t.Errorf("after the network came back: %v", err)
			}
		})
	}
}

// twoServers returns two servers, and the URL of both.
func twoServers(t *testing.T, first map[string]string) (a, b, both string) {
	t.Helper()
	a = postgrestest.NewServer(t, first).URL("postgres")
	b = postgrestest.NewServer(t, nil).URL("postgres")
	hosts := must(pgx.ParseConfig(a))(t).Host + "," + must(pgx.ParseConfig(b))(t).Host
	q := url.Values{"host": {hosts}, "port": {"5432,5432"}, "user": {"postgres"}, "pool_max_conns": {"1"}}
	return a, b, "postgres:///postgres?" + q.Encode()
}

func TestOfSeveralServersTheOneThatCanBeWrittenToIsFound(t *testing.T) {
	t.Parallel()
	_, _, both := twoServers(t, map[string]string{"default_transaction_read_only": "on"})
	db := must(postgres.Open(t.Context(), both, "scanlogin"))(t)
	t.Cleanup(db.Close)
	if err := exec(t.Context(), db, "CREATE TABLE written ()"); err != nil {
		t.Error(err)
	}
	m := migrator(t, both, "scanlogin")
	must(m.Up(t.Context()))(t)
	e := listen(t, both, 0)
	n, _ := notifier(t, db)
	id := newID()
	must(0, n.Notify(t.Context(), id))(t)
	if got := e.hear(t); got != id {
		t.Errorf("heard of %v, want %v", got, id)
	}
}

// A primary that was demoted, or a pooler that now leads to a standby.
func TestAServerThatCannotBeWrittenToAnyMoreIsLeft(t *testing.T) {
	t.Parallel()
	a, _, both := twoServers(t, nil)
	db := must(postgres.Open(t.Context(), both, "scanlogin"))(t)
	t.Cleanup(db.Close)
	var here int
	server := func() (pid int) {
		must(0, db.Do(t.Context(), func(c *pgx.Conn) error {
			return c.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid)
		}))(t)
		return pid
	}
	here = server()
	query(t, a, "ALTER SYSTEM SET default_transaction_read_only = on")
	query(t, a, "SELECT pg_reload_conf()")
	// One statement tells that it is a standby now, and takes the connection with it.
	await(t, "the refusal", func() bool {
		err := exec(t.Context(), db, "CREATE TABLE IF NOT EXISTS written ()")
		return err != nil
	})
	if err := exec(t.Context(), db, "CREATE TABLE written ()"); err != nil {
		t.Errorf("the next statement: %v", err)
	}
	if there := server(); there == here {
		t.Error("still on the old connection")
	}
}
