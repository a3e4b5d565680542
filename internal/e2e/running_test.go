package e2e

import (
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/postgres/postgrestest"
)

func TestShutdownSendsBrowsersToTheOtherInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}})
	who := w.boundPerson(t, "alice")
	const tabs = 20
	var browsers []*browser
	var streams []*eventStream
	var codes []qrCode
	for range tabs {
		b := newBrowser(t, w)
		s := b.events(w.a)
		browsers, streams, codes = append(browsers, b), append(streams, s), append(codes, s.code())
	}
	w.a.terminate()
	retries := map[time.Duration]bool{}
	for _, s := range streams {
		rest := s.end()
		if len(rest) == 0 || rest[len(rest)-1].retry == 0 {
			t.Fatalf("the last words of a stream are %+v, want a retry line", rest)
		}
		retries[rest[len(rest)-1].retry] = true
		for _, e := range rest {
			if e.name != "" {
				t.Errorf("a login ended by a shutdown: %+v", e)
			}
		}
	}
	if len(retries) < tabs/2 {
		t.Errorf("%d browsers come back at %d moments", tabs, len(retries))
	}
	eventually(t, "the balancer is told", func() bool { return w.a.ready() == http.StatusServiceUnavailable })
	// Who comes before the balancer has noticed gets no new login, and no error either.
	for _, e := range newBrowser(t, w).events(w.a).end() {
		if e.name != "" || e.retry == 0 {
			t.Errorf("an instance that stops says %+v to a new browser", e)
		}
	}
	w.a.awaitExit(0)
	for n, b := range browsers {
		s := b.events(w.b)
		if s.code().Ticket != codes[n].Ticket {
			t.Fatal("another code after the shutdown")
		}
		streams[n] = s
	}
	w.scan(t, who, codes[0].Ticket)
	streams[0].expect("success")
	browsers[0].post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
}

func TestKilledInstanceLosesNoLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}) // pushes go to both, so some meet the dead one first
	who := w.boundPerson(t, "alice")
	for range 2 {
		b := newBrowser(t, w)
		stream := b.events(w.a)
		code := stream.code()
		w.a.kill()
		stream.end()
		stream = b.events(w.b)
		if stream.code().Ticket != code.Ticket {
			t.Error("another code at the other instance")
		}
		w.scan(t, who, code.Ticket)
		stream.expect("success")
		b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
		w.a.restart(nil)
		if got := b.get(w.a, "/auth/verify").header.Get("X-Auth-User"); got != "alice" {
			t.Errorf("X-Auth-User %q at the instance that is back", got)
		}
	}
}

func TestInstancesStartAtOnceOnAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	w.sql("DROP SCHEMA scanlogin CASCADE")
	env := settings{"ADDR": w.a.addr, "OPS_ADDR": ""}
	maps.Copy(env, w.settings)
	if r := run(t, env, "", "serve"); r.code != 1 || !oneLine(r.stderr) || !strings.Contains(r.stderr, "its owner has to run scanlogin migrate up") {
		t.Errorf("without the right to make anything: %+v", r)
	}
	w.settings = w.owned() // one role for everything will do
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.b)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
}

func TestAnotherSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"DATABASE_SCHEMA": "sign_in"}, pushTo: []int{1}})
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	// The default schema, which has tables of its own here, was left alone.
	if n := w.count("SELECT count(*) FROM scanlogin.scene WHERE login IS NOT NULL"); n != 0 {
		t.Errorf("%d logins in the schema scanlogin", n)
	}
	if n := w.count("SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace = 'public'::regnamespace"); n != 0 {
		t.Errorf("%d tables and sequences in the schema public", n)
	}
}

func TestServeLeavesMigratingToADeployStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	w.sql("DROP SCHEMA scanlogin CASCADE")
	if r := w.migrate(t, "up"); !strings.Contains(r.stdout, "applied") {
		t.Fatalf("migrate up: %+v", r)
	}
	for _, i := range []*instance{w.a, w.b} {
		i.start("--migrate=false")
		i.awaitReady()
	}
	newBrowser(t, w).events(w.a).code()
	// An instance is not ready while the schema is behind.
	w.migrate(t, "down")
	eventually(t, "not ready without the newest migration", func() bool { return w.a.ready() == http.StatusServiceUnavailable })
	w.migrate(t, "up")
	w.a.awaitReady()
}

// With nothing pending an instance starts as the service's role whether or not it is told to
// migrate; else it says who has to.
func TestTheServiceLeavesMigratingToTheOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	w.settings["DATABASE_SERVICE_ROLE"] = postgrestest.Service // the same settings for all
	w.a.start()
	w.b.start("--migrate=false")
	w.a.awaitReady()
	w.b.awaitReady()
	newBrowser(t, w).events(w.a).code()
	if n := w.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'scanlogin%' AND usename <> '" + postgrestest.Service + "'"); n != 0 {
		t.Errorf("%d connections are somebody else's", n)
	}
	w.a.stop()
	w.b.stop()
	w.migrate(t, "down")
	env := settings{"ADDR": w.a.addr, "OPS_ADDR": w.a.ops}
	maps.Copy(env, w.settings)
	for _, args := range [][]string{{"serve"}, {"serve", "--migrate=false"}, {"migrate", "up"}} {
		r := run(t, env, "", args...)
		if r.code != 1 || !oneLine(r.stderr) || !strings.Contains(r.stderr, "scanlogin migrate up") || !strings.Contains(r.stderr, "owner") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	owned := w.owned()
	owned["DATABASE_SERVICE_ROLE"] = "nobody-made-it"
	if r := run(t, owned, "", "migrate", "up"); r.code != 1 || !oneLine(r.stderr) || !strings.Contains(r.stderr, `CREATE ROLE "nobody-made-it" LOGIN`) {
		t.Errorf("without the role: %+v", r)
	}
	w.migrate(t, "up")
	if r := w.command(t, "", "audit"); r.code != 1 || !oneLine(r.stderr) || !strings.Contains(r.stderr, "owner") {
		t.Errorf("the service reads the log: %+v", r)
	}
	w.a.restart(nil)
	w.account(t, "alice")
}

func TestDatabaseOutageLosesNoLogin(t *testing.T) {
	t.Parallel()
	server := postgrestest.NewServer(t, nil)
	postgrestest.Migrate(t, server.URL("postgres"))
	w := newWorld(t, options{database: server.URL("postgres"), settings: settings{"SCENE_GRACE": "1s"}})
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := stream.code()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready without a database", func() bool { return w.a.ready() == http.StatusServiceUnavailable })
	b.do(http.MethodGet, "http://"+w.a.ops+"/healthz", content{}).want(t, http.StatusOK)
	// Not stored, so WeChat has to push it again.
	scan := w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	w.push(b, w.b, scan).want(t, http.StatusServiceUnavailable)
	if rest := newBrowser(t, w).events(w.b).end(); len(rest) == 0 || rest[0].retry == 0 {
		t.Errorf("a new page without a database gets %+v, want a retry line", rest)
	}
	stream.comment() // the stream stays open

	postgrestest.Restart(t, server)
	w.a.awaitReady()
	w.b.awaitReady()
	w.push(b, w.b, scan).want(t, http.StatusOK)
	stream.expect("success")
	b.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
}

func TestHTTPSCookies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true, settings: settings{"PUBLIC_URL": "https://login.example.com"}})
	w.b.settings = settings{"COOKIE_DOMAIN": "example.com"}
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	w.account(t, "alice")
	for i, session := range map[*instance]string{w.a: "__Host-scanlogin_session", w.b: "__Secure-scanlogin_session"} {
		b := newBrowser(t, w)
		stream := b.events(i)
		stream.code()
		if c := stream.response.Cookies(); len(c) != 1 || c[0].Name != "__Host-scanlogin_login" || !c[0].Secure || !c[0].HttpOnly || c[0].Path != "/" || c[0].Domain != "" {
			t.Errorf("instance %s: login cookie %v", i.name, c)
		}
		a := b.post(i, "/login", form("username", "alice", "password", password),
			"Sec-Fetch-Site", "", "Origin", "https://login.example.com").want(t, http.StatusSeeOther)
		c := a.set[session]
		if c == nil || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != i.settings["COOKIE_DOMAIN"] {
			t.Errorf("instance %s: session cookies %v", i.name, a.set)
		}
		if a.header.Get("Strict-Transport-Security") == "" {
			t.Errorf("instance %s: no HSTS", i.name)
		}
		b.post(i, "/login", form("username", "alice", "password", password),
			"Sec-Fetch-Site", "", "Origin", "http://login.example.com").want(t, http.StatusForbidden)
	}
}

func TestOperatorsAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	b := newBrowser(t, w)
	b.events(w.a).code()
	ops := "http://" + w.a.ops
	b.do(http.MethodGet, ops+"/healthz", content{}).want(t, http.StatusOK)
	// A stream is counted once its first event was written.
	eventually(t, "the stream is among the metrics", func() bool {
		return strings.Contains(b.do(http.MethodGet, ops+"/metrics", content{}).want(t, http.StatusOK).body, "scanlogin_streams_open 1")
	})
	for _, name := range []string{"scanlogin_callbacks_turned_away_total", "scanlogin_streams_turned_away_total", "scanlogin_sweep_hits_total"} {
		if n := w.a.metric(name); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	// docs/deploy/kubernetes.yaml scales by this one.
	_, scaled, _ := strings.Cut(readFile(t, "../../docs/deploy/kubernetes.yaml"), "metric: {name: ")
	scaled, _, _ = strings.Cut(scaled, "}")
	if n := w.a.metric(scaled); n != 1 {
		t.Errorf("%s is %v", scaled, n)
	}
	b.do(http.MethodGet, ops+"/debug/pprof/heap", content{}).want(t, http.StatusOK)
	b.do(http.MethodGet, ops+"/login", content{}).want(t, http.StatusNotFound)
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/heap"} {
		b.get(w.a, path).want(t, http.StatusNotFound)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sql runs a statement in the world's database.
func (w *world) sql(statement string) {
	w.t.Helper()
	w.connected(func(conn *pgx.Conn) error {
		_, err := conn.Exec(w.t.Context(), statement)
		return err
	})
}

func (w *world) count(query string) (n int) {
	w.t.Helper()
	w.connected(func(conn *pgx.Conn) error { return conn.QueryRow(w.t.Context(), query).Scan(&n) })
	return n
}

func (w *world) connected(do func(*pgx.Conn) error) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(w.t.Context()); err != nil {
			w.t.Error(err)
		}
	}()
	if err := do(conn); err != nil {
		w.t.Fatal(err)
	}
}
