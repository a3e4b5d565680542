package e2e

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scanlogin/internal/postgres/postgrestest"
	"scanlogin/internal/wechatsim"
)

// patience is how long anything may take that should happen at once: a busy machine
// under the race detector is slow.
const patience = 15 * time.Second

const (
	appID     = "wx0123456789abcdef"
	appSecret = "app-secret-of-the-tests-0123456789"
	token     = "callbacktokenofthetests"
	aesKey    = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	password  = "correct horse battery"
)

// settings are environment variables.
type settings map[string]string

// options say how a world differs from the usual one. The zero value is two instances
// with WeChat pushing to both in turn.
type options struct {
	settings settings // of every instance
	pushTo   []int    // the instances that WeChat pushes to, in turn; nil: all
	pushURL  string   // where it pushes to instead, by way of pushHTTP
	pushHTTP *http.Client
	stopped  bool   // the test starts the instances itself
	database string // with the roles of postgrestest; empty: a fresh one on the server that the tests share
	mode     wechatsim.Mode
	retryGap time.Duration // of WeChat's pushes; 0: a tenth of a second
}

// world is everything that a login needs: a database, WeChat, and instances A and B.
type world struct {
	t        testing.TB
	database string // for the superuser; instances come as another role
	sim      *wechatsim.Server
	settings settings
	a, b     *instance
	front    *front

	mu      sync.Mutex
	secrets map[string]bool // what no log may hold
	people  atomic.Int64
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	if o.database == "" {
		o.database = postgrestest.NewDatabase(t)
	}
	w := &world{t: t, database: o.database, secrets: map[string]bool{}}
	w.keep(appSecret, token, aesKey, password)
	w.a, w.b = newInstance(w, "A"), newInstance(w, "B")
	w.front = newFront(t, w.a.addr, w.b.addr)
	w.settings = settings{
		"DATABASE_URL": postgrestest.As(w.database, postgrestest.Service), "PUBLIC_URL": "http://" + w.front.addr(), "RATE_LIMITS": "off",
		"WECHAT_APP_ID": appID, "WECHAT_APP_SECRET": appSecret, "WECHAT_TOKEN": token,
		"SCENE_POOL": "500", "LOG_LEVEL": "debug", "LOG_FORMAT": "text",
		"DRAIN_WINDOW":    "1s", // nobody here needs longer to notice
		"CODES_READY_MAX": "0",  // but where a test is about them: WeChat is asked when one expects it
	}
	maps.Copy(w.settings, o.settings)
	w.settings["WECHAT_API_URL"] = w.startWeChat(o).URL
	t.Cleanup(w.close)
	if o.settings["DATABASE_SCHEMA"] != "" {
		w.migrate(t, "up")
	}
	if !o.stopped {
		w.a.start()
		w.b.start()
		w.a.awaitReady()
		w.b.awaitReady()
	}
	return w
}

func (w *world) startWeChat(o options) *httptest.Server {
	instances := []*instance{w.a, w.b}
	var callbacks []string
	for n, i := range instances {
		if o.pushTo == nil || slices.Contains(o.pushTo, n) {
			callbacks = append(callbacks, i.url("/wechat/callback"))
		}
	}
	if o.pushURL != "" {
		callbacks = []string{o.pushURL}
	}
	sim, err := wechatsim.New(wechatsim.Config{
		AppID: appID, AppSecret: appSecret, Token: token, EncodingAESKey: o.settings["WECHAT_ENCODING_AES_KEY"],
		CallbackURLs: callbacks, HTTP: o.pushHTTP, RetryGap: cmp.Or(o.retryGap, 100*time.Millisecond), Mode: o.mode,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.sim = sim
	api := httptest.NewServer(sim.Handler())
	w.t.Cleanup(func() {
		sim.Close()
		api.Close()
	})
	return api
}

// keep notes what must not be in any log.
func (w *world) keep(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range secrets {
		if len(s) >= 8 {
			w.secrets[s] = true
		}
	}
}

// close stops what still runs and looks at what was logged.
func (w *world) close() {
	instances := []*instance{w.a, w.b}
	for _, i := range instances {
		i.terminate()
	}
	for _, i := range instances {
		i.awaitExit(0)
	}
	for _, i := range instances {
		w.checkLog(i)
		if w.t.Failed() && i.log.String() != "" {
			w.t.Logf("instance %s said:\n%s", i.name, i.log.String())
		}
	}
}

func (w *world) checkLog(i *instance) {
	log := i.log.String()
	for _, bad := range []string{"DATA RACE", "panic", "goroutine ", "signature=", "echostr", "ticket=", "openid="} {
		if strings.Contains(log, bad) {
			w.t.Errorf("instance %s logged %q", i.name, bad)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.secrets {
		if strings.Contains(log, s) {
			w.t.Errorf("instance %s logged a secret, a ticket or an openid: %q", i.name, s)
		}
	}
}

// person is somebody with WeChat whom nobody has heard of yet.
func (w *world) person(follower bool) wechatsim.User {
	u := w.sim.AddUser("person-"+strconv.FormatInt(w.people.Add(1), 10), follower)
	w.keep(u.OpenID)
	return u
}

// scan is what the phone shows after a scan.
func (w *world) scan(t testing.TB, who wechatsim.User, ticket string) wechatsim.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := w.sim.Scan(ctx, who.OpenID, ticket)
	if err != nil {
		t.Fatalf("scanning: %v", err)
	}
	if d.Failed {
		t.Fatalf("the phone shows a failure: %s, statuses %v", d.Problem, d.Statuses)
	}
	return d
}

// account makes an account as an administrator does, from the shell.
func (w *world) account(t testing.TB, name string) {
	t.Helper()
	if r := w.command(t, password+"\n", "user", "add", name); r.code != 0 {
		t.Fatalf("user add %s: exit %d: %s", name, r.code, r.stderr)
	}
}

// boundPerson is somebody whose WeChat is tied to a new account of that name.
func (w *world) boundPerson(t testing.TB, name string) wechatsim.User {
	t.Helper()
	w.account(t, name)
	who := w.person(true)
	b := newBrowser(t, w)
	s := b.events(w.a)
	w.scan(t, who, s.code().Ticket)
	s.expect("bind-required")
	b.post(w.a, "/user/bind", form("username", name, "password", password)).want(t, http.StatusOK)
	return who
}

// result is what became of a command.
type result struct {
	code           int
	stdout, stderr string
}

// owned are the settings of whoever owns the tables.
func (w *world) owned() settings {
	s := maps.Clone(w.settings)
	s["DATABASE_URL"] = postgrestest.As(w.database, postgrestest.Owner)
	s["DATABASE_SERVICE_ROLE"] = postgrestest.Service
	delete(s, "DATABASE_LISTEN_URL")
	return s
}

// migrate is the deploy step.
func (w *world) migrate(t testing.TB, what string) result {
	t.Helper()
	r := run(t, w.owned(), "", "migrate", what)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("migrate %s: %+v", what, r)
	}
	return r
}

// command runs scanlogin with the world's settings to its end.
func (w *world) command(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	return run(t, w.settings, stdin, args...)
}

// run runs scanlogin with an environment of these settings alone.
func run(t testing.TB, env settings, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.SysProcAttr = env.environ(), dieWithParent()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("scanlogin %s: %v", strings.Join(args, " "), err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (s settings) environ() (env []string) {
	for name, value := range s {
		env = append(env, name+"="+value)
	}
	return env
}

// instance is one `scanlogin serve`. It keeps its addresses when it is started again.
type instance struct {
	w         *world
	name      string
	addr, ops string
	settings  settings // its own, over the world's
	log       output   // of all its lives

	cmd    *exec.Cmd
	exited chan struct{}
}

func newInstance(w *world, name string) *instance {
	return &instance{w: w, name: name, addr: freeAddr(w.t), ops: freeAddr(w.t), settings: settings{}}
}

func (i *instance) url(path string) string { return "http://" + i.addr + path }

// start starts the program and doesn't wait for it to be ready.
func (i *instance) start(args ...string) {
	i.w.t.Helper()
	env := settings{"ADDR": i.addr, "OPS_ADDR": i.ops, "INSTANCE": i.name}
	maps.Copy(env, i.w.settings)
	maps.Copy(env, i.settings)
	i.launch(env, append([]string{"serve"}, args...)...)
}

func (i *instance) launch(env settings, args ...string) {
	i.w.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.SysProcAttr = env.environ(), dieWithParent()
	cmd.Stdout, cmd.Stderr = &i.log, &i.log
	if err := cmd.Start(); err != nil {
		i.w.t.Fatal(err)
	}
	exited := make(chan struct{})
	i.cmd, i.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // the exit code is looked at later
		close(exited)
	}()
}

// ready asks /readyz: 0 for no answer.
func (i *instance) ready() int {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.ops+"/readyz", http.NoBody)
	if err != nil {
		return 0
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func (i *instance) awaitReady() {
	i.w.t.Helper()
	eventually(i.w.t, "instance "+i.name+" is ready", func() bool {
		select {
		case <-i.exited:
			i.w.t.Fatalf("instance %s has ended", i.name)
		default:
		}
		return i.ready() == http.StatusOK
	})
}

// restart starts a program that has ended again.
func (i *instance) restart(own settings) {
	i.w.t.Helper()
	maps.Copy(i.settings, own)
	i.start()
	i.awaitReady()
}

func (i *instance) running() bool {
	if i.cmd == nil {
		return false
	}
	select {
	case <-i.exited:
		return false
	default:
		return true
	}
}

// terminate asks the program to end, if it runs.
func (i *instance) terminate() {
	if i.running() {
		_ = i.cmd.Process.Signal(syscall.SIGTERM) // it may end right now
	}
}

// awaitExit waits for the end of the program, which has to come within the 10 s that the
// contract allows after SIGTERM.
func (i *instance) awaitExit(code int) {
	i.w.t.Helper()
	if i.cmd == nil {
		return
	}
	select {
	case <-i.exited:
	case <-time.After(10 * time.Second):
		i.w.t.Errorf("instance %s didn't end within 10 s", i.name)
		_ = i.cmd.Process.Kill()
		<-i.exited
	}
	if got := i.cmd.ProcessState.ExitCode(); got != code {
		i.w.t.Errorf("instance %s: exit code %d, want %d", i.name, got, code)
	}
	i.cmd = nil
}

func (i *instance) stop() {
	i.w.t.Helper()
	i.terminate()
	i.awaitExit(0)
}

// kill ends the program as a power cut does.
func (i *instance) kill() {
	i.w.t.Helper()
	if err := i.cmd.Process.Kill(); err != nil {
		i.w.t.Fatal(err)
	}
	i.awaitExit(-1)
}

// output collects what a program writes.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write keeps b.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

// String is all that was written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// nextPort begins anywhere below the ports that the kernel gives to connections, so that
// none of them takes a port between here and the start of the program.
var nextPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(20_000 + rand.Int64N(10_000))
	return &n
}()

func freeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.FormatInt(20_000+nextPort.Add(1)%12_000, 10))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if !within(2*patience, cond) {
		t.Fatalf("waited in vain: %s", what)
	}
}

// within waits until cond holds, but not for ever.
func within(d time.Duration, cond func() bool) bool {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}
