package e2e

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/postgres/postgrestest"
)

// metric reads one of the instance's metrics.
func (i *instance) metric(name string) float64 {
	i.w.t.Helper()
	a := newBrowser(i.w.t, i.w).do(http.MethodGet, "http://"+i.ops+"/metrics", content{}).want(i.w.t, http.StatusOK)
	for line := range strings.Lines(a.body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				i.w.t.Fatal(err)
			}
			return n
		}
	}
	i.w.t.Fatalf("no metric %s", name)
	return 0
}

// The sweep is there for what nobody thought of. What it finds in a calm run is a NOTIFY
// that should have come.
func TestTheSafetySweepFindsNothingWhenAllIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}, settings: settings{"SCENE_GRACE": "5s"}}) // and a comment every 5 s
	who := w.boundPerson(t, "alice")
	for n := range 40 {
		b := newBrowser(t, w)
		i := []*instance{w.a, w.b}[n%2]
		stream := b.events(i)
		w.scan(t, who, stream.code().Ticket)
		stream.expect("success")
		b.post(i, "/login/complete", jsonBody()).want(t, http.StatusOK)
	}
	for _, i := range []*instance{w.a, w.b} {
		// What it finds is counted when no NOTIFY has come for a while.
		idle := newBrowser(t, w).events(i)
		idle.comment()
		idle.comment()
		if n := i.metric("scanlogin_sweep_hits_total"); n != 0 {
			t.Errorf("the sweep of instance %s found %v", i.name, n)
		}
	}
}

// Whoever listens may lose the connection at any moment: what happens just then is found
// when it is back, or by the sweep.
func TestLostListenConnectionsDelayNoLoginForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}})
	who := w.boundPerson(t, "alice")
	for range 5 {
		stream := newBrowser(t, w).events(w.a)
		code := stream.code()
		w.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'scanlogin listen'")
		w.scan(t, who, code.Ticket)
		stream.expect("success")
		w.a.awaitReady()
		w.b.awaitReady()
	}
}

func TestScenesOfAKilledInstanceAreClaimedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_TTL": "3s", "SCENE_REST": "0s"}})
	forgotten := newBrowser(t, w).events(w.a).code()
	newBrowser(t, w).events(w.b).unavailable("pool_exhausted")
	w.a.kill() // its browser never comes back
	_, code := newBrowser(t, w).codeSoon(w.b)
	if code.SceneID != forgotten.SceneID || code.Ticket == forgotten.Ticket {
		t.Errorf("scene %d with the same code: %v; want scene %d with a new code",
			code.SceneID, code.Ticket == forgotten.Ticket, forgotten.SceneID)
	}
}

// A callback that is being worked on while the instance stops is answered, and counts.
func TestShutdownFinishesCallbacksInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.b)
	code := stream.code()
	scan := w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	answered := make(chan answer)
	w.connected(func(conn *pgx.Conn) error {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), "SELECT FROM scanlogin.scene WHERE id = $1 FOR UPDATE", code.SceneID); err != nil {
			return err
		}
		go func() { answered <- w.push(b, w.a, scan) }()
		eventually(t, "the callback waits for the row", func() bool {
			return w.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
		})
		w.a.terminate()
		eventually(t, "not ready", func() bool { return w.a.ready() != http.StatusOK })
		return tx.Commit(t.Context())
	})
	(<-answered).want(t, http.StatusOK)
	stream.expect("success")
	w.a.awaitExit(0)
}

// The network to the database falls silent: nothing is closed, nothing is refused.
func TestSilentNetworkLosesNoLogin(t *testing.T) {
	t.Parallel()
	database := postgrestest.NewDatabase(t)
	cable, through := newCable(t, database)
	w := newWorld(t, options{database: through, settings: settings{"SCENE_GRACE": "1s"}})
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := stream.code()
	cable.cut()
	eventually(t, "not ready", func() bool { return w.a.ready() == http.StatusServiceUnavailable })
	scan := w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	w.push(b, w.b, scan).want(t, http.StatusServiceUnavailable)
	// The page keeps its code, and whoever reads the stream can see why nothing happens.
	stream.take("word of the outage", func(e event) bool {
		if e.name != "" {
			t.Errorf("a silent network made an event %s", e.name)
		}
		return strings.Contains(e.comment, "unavailable")
	})
	cable.mend()
	w.a.awaitReady()
	w.b.awaitReady()
	w.push(b, w.b, scan).want(t, http.StatusOK)
	stream.expect("success")
	b.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
}

// SIGTERM during an outage: the promise to be gone within 10 s holds all the same.
func TestShutdownWithoutADatabaseEndsInTime(t *testing.T) {
	t.Parallel()
	cable, through := newCable(t, postgrestest.NewDatabase(t))
	w := newWorld(t, options{database: through, settings: settings{"DRAIN_WINDOW": "5s"}})
	b := newBrowser(t, w)
	code := b.events(w.a).code()
	cable.cut()
	// Somebody asks for something all the time, up to the end.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	scan := w.pushXML(w.person(true).OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	for n := range 8 {
		i := []*instance{w.a, w.b}[n%2]
		go func() {
			for {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url("/wechat/callback?"+signed(time.Now()).Encode()), strings.NewReader(scan))
				if err != nil {
					return
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return // the instance is gone
				}
				resp.Body.Close()
			}
		}()
	}
	eventually(t, "not ready", func() bool { return w.a.ready() == http.StatusServiceUnavailable })
	w.a.terminate()
	w.b.terminate()
	w.a.awaitExit(0)
	w.b.awaitExit(0)
}

// What teams with many connections have: a transaction pooler for the statements, and
// PostgreSQL itself for LISTEN and for migrations.
func TestBehindATransactionPooler(t *testing.T) {
	t.Parallel()
	direct := postgrestest.NewDatabase(t)
	pooled := postgrestest.NewPooler(t, postgrestest.As(direct, postgrestest.Service))
	w := newWorld(t, options{database: direct, pushTo: []int{1}, settings: settings{
		"DATABASE_URL": pooled + "&default_query_exec_mode=exec", "DATABASE_LISTEN_URL": postgrestest.As(direct, postgrestest.Service),
	}})
	who := w.boundPerson(t, "alice")
	for range 5 {
		b := newBrowser(t, w)
		stream := b.events(w.a)
		w.scan(t, who, stream.code().Ticket)
		stream.expect("success")
		b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	}
	if n := w.a.metric("scanlogin_sweep_hits_total"); n != 0 {
		t.Errorf("the sweep found %v: NOTIFY doesn't pass the pooler", n)
	}
	// With LISTEN through the pooler it would seem to work, a second late each time.
	for _, args := range [][]string{{"serve"}, {"migrate", "up"}} {
		env := maps.Clone(w.settings)
		env["DATABASE_LISTEN_URL"] = env["DATABASE_URL"]
		env["ADDR"], env["OPS_ADDR"] = freeAddr(t), ""
		r := run(t, env, "", args...)
		if r.code != 1 || !strings.Contains(r.stderr, "DATABASE_LISTEN_URL") || !oneLine(r.stderr) {
			t.Errorf("%q without a direct connection: exit %d: %s", args, r.code, r.stderr)
		}
	}
}
