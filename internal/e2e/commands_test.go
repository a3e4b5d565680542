package e2e

import (
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"scanlogin/internal/postgres/postgrestest"
)

// dev is `scanlogin dev`: a bare machine, nothing configured.
type dev struct {
	w        *world
	wechat   string // where the phone is
	database string
}

func startDev(t *testing.T) dev {
	t.Helper()
	data, err := os.MkdirTemp("/tmp", "scanlogin-dev-") // t.TempDir can't be entered by PostgreSQL's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, secrets: map[string]bool{}}
	w.a, w.b = newInstance(w, "dev"), newInstance(w, "dev's second")
	t.Cleanup(w.close)
	wechat := freeAddr(t)
	w.a.launch(settings{"PATH": os.Getenv("PATH"), "PUBLIC_URL": w.a.url(""), "LOG_LEVEL": "debug"}, "dev", "--data", data,
		"--addr", w.a.addr, "--ops-addr", w.a.ops, "--second-addr", w.b.addr, "--second-ops-addr", w.b.ops, "--wechat-addr", wechat)
	w.a.awaitReady()
	eventually(t, "dev says what to open", func() bool { return strings.Contains(w.a.log.String(), w.a.url("/login")) })
	return dev{w, wechat, "postgres:///postgres?user=postgres&host=" + data + "/run"}
}

// Dev brings all that a login needs.
func TestDev(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	w := d.w
	scan := func(b *browser, who string) {
		t.Helper()
		a := b.do(http.MethodPost, "http://"+d.wechat+"/sim/scan", form("user", who, "latest", "true"), "Sec-Fetch-Site", "").want(t, http.StatusOK)
		w.keep(a.json(t, "openid").(string))
	}
	b := newBrowser(t, w)
	stream := b.events(w.a)
	stream.code()
	scan(b, "小明")
	stream.expect("bind-required")
	b.post(w.b, "/user/bind", form("username", "alice", "password", "alice-demo")).want(t, http.StatusOK)
	again := newBrowser(t, w)
	stream = again.events(w.b)
	stream.code()
	scan(again, "小明")
	stream.expect("success")
	again.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
}

// The simulator alone, as the demo of compose.yaml runs it: the instances are elsewhere.
func TestWeChatSimulateCommand(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	w := newWorld(t, options{stopped: true, settings: settings{"SIGNUP": "on"}})
	w.settings["WECHAT_API_URL"] = "http://" + addr
	sim := newInstance(w, "the simulator")
	sim.launch(w.settings, "wechat", "simulate", "--wechat-addr", addr, "--phone-url", "http://phone.example.com:8090",
		"--callbacks", w.a.url("/wechat/callback")+","+w.b.url("/wechat/callback"))
	t.Cleanup(sim.stop)
	w.a.start()
	w.a.awaitReady()
	eventually(t, "it says what it is", func() bool { return strings.Contains(sim.log.String(), "simulated WeChat") })

	b := newBrowser(t, w)
	stream := b.events(w.a)
	if code := stream.code(); !strings.HasPrefix(code.URL, "http://phone.example.com:8090/") {
		t.Errorf("the code leads to %s", code.URL)
	}
	// B is down, so the first try goes to A or is repeated there.
	a := b.do(http.MethodPost, "http://"+addr+"/sim/scan", form("user", "小明", "latest", "true"), "Sec-Fetch-Site", "").want(t, http.StatusOK)
	w.keep(a.json(t, "openid").(string))
	stream.expect("bind-required")
	b.post(w.a, "/user/signup", form("username", "ming", "password", password)).want(t, http.StatusOK)

	for _, args := range [][]string{{"--callbacks", "nowhere"}, {"--wechat-addr", addr}} {
		if r := run(t, w.settings, "", append([]string{"wechat", "simulate"}, args...)...); r.code != 1 || !oneLine(r.stderr) {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	env := settings{
		"DATABASE_URL":          postgrestest.As(postgrestest.NewDatabase(t), postgrestest.Owner),
		"DATABASE_SERVICE_ROLE": postgrestest.Service,
	}
	migrate := func(what string) result {
		t.Helper()
		r := run(t, env, "", "migrate", what)
		if r.code != 0 || r.stderr != "" {
			t.Fatalf("migrate %s: %+v", what, r)
		}
		return r
	}
	if r := migrate("status"); !strings.Contains(r.stdout, "applied") || strings.Contains(r.stdout, "pending") {
		t.Errorf("status: %s", r.stdout)
	}
	if r := migrate("up"); !strings.Contains(r.stdout, "nothing to apply") {
		t.Errorf("up: %s", r.stdout)
	}
	down := 0
	for strings.Contains(migrate("down").stdout, "took back") {
		down++
	}
	if r := migrate("status"); strings.Count(r.stdout, "pending") != down || down < 2 {
		t.Errorf("%d migrations taken back, then status: %s", down, r.stdout)
	}
	if r := migrate("up"); strings.Count(r.stdout, "applied") != down {
		t.Errorf("up: %s", r.stdout)
	}
}

func TestUserCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	who := w.boundPerson(t, "alice")
	w.account(t, "bob")
	if r := w.command(t, password+"\n", "user", "add", "alice"); r.code != 1 || !oneLine(r.stderr) {
		t.Errorf("a name twice: %+v", r)
	}
	if r := w.command(t, "short\n", "user", "add", "carol"); r.code != 1 || !oneLine(r.stderr) {
		t.Errorf("a short password: %+v", r)
	}
	list := w.command(t, "", "user", "list")
	if list.code != 0 || !strings.Contains(list.stdout, "alice") || !strings.Contains(list.stdout, "bob") || strings.Contains(list.stdout, "carol") {
		t.Errorf("list: %+v", list)
	}

	const changed = "another long password"
	w.keep(changed)
	if r := w.command(t, changed+"\n", "user", "passwd", "alice"); r.code != 0 || strings.Contains(r.stdout+r.stderr, changed) {
		t.Errorf("passwd: %+v", r)
	}
	b := newBrowser(t, w)
	b.post(w.a, "/login", form("username", "alice", "password", password)).want(t, http.StatusUnauthorized)
	b.post(w.a, "/login", form("username", "alice", "password", changed)).want(t, http.StatusSeeOther)
	if r := w.command(t, changed+"\n", "user", "passwd", "nobody"); r.code != 1 || !oneLine(r.stderr) {
		t.Errorf("passwd of nobody: %+v", r)
	}

	// Whoever is signed in by her password and by a scan is signed out everywhere, and can come back.
	scanned := newBrowser(t, w)
	signIn := func() {
		t.Helper()
		b.post(w.a, "/login", form("username", "alice", "password", changed)).want(t, http.StatusSeeOther)
		stream := scanned.events(w.b)
		w.scan(t, who, stream.code().Ticket)
		stream.expect("success")
		scanned.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
	}
	signIn()
	if r := w.command(t, "", "user", "logout", "alice"); r.code != 0 {
		t.Errorf("logout: %+v", r)
	}
	b.get(w.b, "/auth/verify").want(t, http.StatusUnauthorized)
	scanned.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)

	// Whoever is disabled has no way in until there is another password.
	signIn()
	if r := w.command(t, "", "user", "disable", "alice"); r.code != 0 {
		t.Errorf("disable: %+v", r)
	}
	b.get(w.b, "/auth/verify").want(t, http.StatusUnauthorized)
	scanned.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)
	b.post(w.a, "/login", form("username", "alice", "password", changed)).want(t, http.StatusUnauthorized)
	b.post(w.a, "/login", form("username", "alice", "password", "!")).want(t, http.StatusUnauthorized)
	stream := newBrowser(t, w).events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("bind-required")
	if r := w.command(t, changed+"\n", "user", "passwd", "alice"); r.code != 0 {
		t.Errorf("passwd of who is disabled: %+v", r)
	}
	b.post(w.a, "/login", form("username", "alice", "password", changed)).want(t, http.StatusSeeOther)

	who = w.boundPerson(t, "dora")
	if r := w.command(t, "", "user", "unbind", "dora"); r.code != 0 {
		t.Errorf("unbind: %+v", r)
	}
	stream = newBrowser(t, w).events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("bind-required")
	for _, do := range []string{"logout", "disable", "unbind"} {
		if r := w.command(t, "", "user", do, "nobody"); r.code != 1 || !oneLine(r.stderr) {
			t.Errorf("%s of nobody: %+v", do, r)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"nonsense"},
		{"serve", "now"},
		{"serve", "--nonsense"},
		{"migrate"},
		{"migrate", "sideways"},
		{"user"},
		{"user", "add"},
		{"user", "add", "a", "b"},
		{"user", "nonsense", "a"},
		{"help", "nonsense"},
		{"wechat"},
		{"wechat", "nonsense"},
		{"wechat", "check", "--phone-url", "http://phone.example.com"},
	} {
		env := settings{"DATABASE_URL": "postgres://localhost/none", "WECHAT_APP_ID": appID, "WECHAT_APP_SECRET": appSecret, "WECHAT_TOKEN": token}
		if r := run(t, env, "", args...); r.code != 2 || !oneLine(r.stderr) || r.stdout != "" {
			t.Errorf("scanlogin %q: %+v", args, r)
		}
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"help", "serve"}, {"serve", "--help"}, {"--version"}} {
		if r := run(t, nil, "", args...); r.code != 0 || r.stdout == "" || r.stderr != "" {
			t.Errorf("scanlogin %q: %+v", args, r)
		}
	}
}

func oneLine(s string) bool { return strings.HasSuffix(s, "\n") && strings.Count(s, "\n") == 1 }

func TestBadSettingsAreToldAllAtOnce(t *testing.T) {
	t.Parallel()
	secret := "sesame-open-sesame-open-sesame"
	r := run(t, settings{
		"SCENE_TTL": "soon", "SCENE_POOL": "0", "PUBLIC_URL": "localhost", "ADDR": "8080", "LOG_LEVEL": "loud",
		"WECHAT_ENCODING_AES_KEY": secret, "TRUSTED_PROXIES": "nowhere", "RATE_LIMITS": "maybe",
	}, "", "serve")
	if r.code != 1 {
		t.Errorf("exit %d", r.code)
	}
	for _, name := range []string{
		"DATABASE_URL", "WECHAT_APP_ID", "WECHAT_APP_SECRET", "WECHAT_TOKEN", "SCENE_TTL", "SCENE_POOL", "PUBLIC_URL",
		"ADDR", "LOG_LEVEL", "WECHAT_ENCODING_AES_KEY", "TRUSTED_PROXIES", "RATE_LIMITS",
	} {
		if !strings.Contains(r.stderr, name) || !strings.Contains(r.stderr, "example: "+name+"=") {
			t.Errorf("nothing is said of %s", name)
		}
	}
	if strings.Contains(r.stderr, secret) {
		t.Error("a secret is shown")
	}
	if t.Failed() {
		t.Log(r.stderr)
	}
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	for name, addr := range map[string]string{"ADDR": w.a.addr, "OPS_ADDR": w.a.ops} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		env := settings{"ADDR": w.a.addr, "OPS_ADDR": w.a.ops}
		maps.Copy(env, w.settings)
		r := run(t, env, "", "serve")
		if r.code != 1 || !strings.Contains(r.stderr, "scanlogin: "+name+": another program listens on "+addr) {
			t.Errorf("%s: %+v", name, r)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	r := run(t, settings{
		"DATABASE_URL": "postgres://someone:" + password + "@" + addr + "/none", "WECHAT_APP_ID": appID,
		"WECHAT_APP_SECRET": appSecret, "WECHAT_TOKEN": token, "ADDR": freeAddr(t), "OPS_ADDR": freeAddr(t),
	}, "", "serve")
	if r.code != 1 || !strings.Contains(r.stderr, addr) || strings.Contains(r.stderr, password) {
		t.Errorf("%+v", r)
	}
}

// A pool's size in the URL is for pools: the connections beside them understand it too.
func TestPoolSizeInTheDatabaseURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	glue := "?"
	if strings.Contains(w.settings["DATABASE_URL"], "?") {
		glue = "&"
	}
	w.settings["DATABASE_URL"] += glue + "pool_max_conns=4"
	w.a.start()
	w.a.awaitReady()
	newBrowser(t, w).events(w.a).code()
	if r := w.command(t, "", "migrate", "status"); r.code != 0 {
		t.Errorf("migrate status: %+v", r)
	}
}
