package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestProxy runs the examples in docs/deploy as they stand there, but for addresses, ports and
// paths: the proxy itself reads them, and stands before two instances and an app. On Linux
// alone, where all of 127.0.0.0/8 is this machine.
func TestProxy(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*site){
		"nginx": (*site).startNginx, "caddy": (*site).startCaddy, "haproxy": (*site).startHAProxy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			start(s)
			eventually(t, "the proxy answers", func() bool { return s.up() })
			s.appIsClosedToStrangers()
			s.loginPasses()
			s.streamsPass()
			s.oneInstanceIsEnough()
			s.addressesAreTrue()
		})
	}
}

func TestDeployReadmeShowsTheTestedFile(t *testing.T) {
	t.Parallel()
	readme, conf := readFile(t, "../../README.md"), readFile(t, "../../docs/deploy/nginx.conf")
	_, block, _ := strings.Cut(readme, "```nginx\n")
	block, _, _ = strings.Cut(block, "```\n")
	if block == "" || !strings.Contains(conf, block) {
		t.Error("README's nginx block is not what docs/deploy/nginx.conf says")
	}
}

// The examples' addresses, and those that stand for them here.
const (
	exampleA, exampleB     = "10.0.0.1", "10.0.0.2"
	hostA, hostB           = "127.0.0.2", "127.0.0.3"
	proxyHost              = "127.0.0.1"
	visitorHost, otherHost = "127.0.0.9", "127.0.0.10"
	loginSite, appSite     = "https://login.example.com", "https://app.example.com"
)

// site is scanlogin and an app behind a proxy.
type site struct {
	*testing.T
	w     *world
	dir   string
	https string // where the proxy listens
	roots *x509.CertPool
	app   *guardedApp
	alice *browser // signed in
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, dir: t.TempDir(), https: freeAddr(t), app: newGuardedApp(t)}
	s.makeCertificate()
	s.w = newWorld(t, options{
		stopped: true, pushURL: loginSite + "/wechat/callback", pushHTTP: &http.Client{Transport: s.transport("127.0.0.1")},
		settings: settings{
			"PUBLIC_URL": loginSite, "COOKIE_DOMAIN": "example.com", "ALLOWED_ORIGINS": appSite,
			"TRUSTED_PROXIES": proxyHost, "RATE_LIMITS": "on", "LIMIT_CODES": "20/1h",
		},
	})
	s.placeInstances()
	s.w.a.start()
	s.w.b.start()
	s.w.a.awaitReady()
	s.w.b.awaitReady()
	return s
}

// placeInstances gives them addresses of their own with the same ports, as in the examples.
func (s *site) placeInstances() {
	s.Helper()
	_, port, _ := net.SplitHostPort(freeAddr(s))
	_, ops, _ := net.SplitHostPort(freeAddr(s))
	for i, host := range map[*instance]string{s.w.a: hostA, s.w.b: hostB} {
		i.addr, i.ops = net.JoinHostPort(host, port), net.JoinHostPort(host, ops)
	}
}

// transport reaches every host by way of the proxy, from an address of this machine.
func (s *site) transport(from string) *http.Transport {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, s.https)
		},
		TLSClientConfig:   &tls.Config{RootCAs: s.roots},
		ForceAttemptHTTP2: true, // as browsers do
	}
}

func (s *site) browser(from string) *browser {
	s.Helper()
	b := newBrowser(s, s.w)
	transport := s.transport(from)
	s.Cleanup(transport.CloseIdleConnections)
	b.client.Transport = transport
	return b
}

func (s *site) up() bool {
	c := http.Client{Transport: s.transport(visitorHost), Timeout: patience}
	defer c.CloseIdleConnections()
	resp, err := c.Get(loginSite + "/login")
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // only the status counts
	return resp.StatusCode == http.StatusOK
}

// makeCertificate writes what a certificate authority would have made.
func (s *site) makeCertificate() {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"login.example.com", "app.example.com"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	s.write("example.com.crt", string(crt))
	s.write("example.com.key", string(private))
	s.write("example.com.pem", string(crt)+string(private))
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(crt)
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) string {
	s.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return s.path(name)
}

// example is a proxy's file, with the addresses of this site.
func (s *site) example(name string, replacements ...string) string {
	s.Helper()
	return s.replaced(name, append([]string{
		exampleA + ":8080", s.w.a.addr, exampleB + ":8080", s.w.b.addr, "127.0.0.1:3000", s.app.addr,
	}, replacements...)...)
}

// replaced is a file of docs/deploy with the replacements, in pairs, each of which has to be needed.
func (s *site) replaced(name string, replacements ...string) string {
	s.Helper()
	text := readFile(s, "../../docs/deploy/"+name)
	for pair := range slices.Chunk(replacements, 2) {
		if !strings.Contains(text, pair[0]) {
			s.Fatalf("docs/deploy/%s has no %q to replace", name, pair[0])
		}
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

func (s *site) opsPort() string {
	_, port, _ := net.SplitHostPort(s.w.a.ops)
	return port
}

func (s *site) startNginx() {
	s.Helper()
	s.write("scanlogin.conf", s.example("nginx.conf",
		"listen 443 ", "listen "+s.https+" ",
		"listen 80;", "listen "+freeAddr(s)+";",
		"/etc/nginx/tls/", s.path("")+"/",
	))
	frame := s.write("nginx.conf", fmt.Sprintf(`user root;
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    include %[1]s/scanlogin.conf;
}
`, s.dir))
	s.check("nginx", "-e", "stderr", "-t", "-c", frame)
	s.run("nginx", "-e", "stderr", "-c", frame)
}

// Caddy would get certificates by itself; here it is given one.
func (s *site) startCaddy() {
	s.Helper()
	_, port, _ := net.SplitHostPort(s.https)
	tls := fmt.Sprintf(":%s {\n\ttls %s %s\n", port, s.path("example.com.crt"), s.path("example.com.key"))
	file := s.write("Caddyfile", "{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind "+proxyHost+"\n}\n"+
		s.example("Caddyfile",
			"health_port 9090", "health_port "+s.opsPort(),
			"login.example.com {\n", "login.example.com"+tls,
			"app.example.com {\n", "app.example.com"+tls,
		))
	s.check("caddy", "validate", "--adapter", "caddyfile", "--config", file)
	s.run("caddy", "run", "--adapter", "caddyfile", "--config", file)
}

func (s *site) startHAProxy() {
	s.Helper()
	auth := freeAddr(s)
	s.write("scanlogin-auth.lua", s.replaced("scanlogin-auth.lua", "127.0.0.1:8079", auth))
	file := s.write("haproxy.cfg", s.example("haproxy.cfg",
		"check port 9090", "check port "+s.opsPort(),
		"bind :443 ", "bind "+s.https+" ",
		"bind :80\n", "bind "+freeAddr(s)+"\n",
		"127.0.0.1:8079", auth,
		"/etc/haproxy/tls/", s.path("")+"/",
		"/etc/haproxy/scanlogin-auth.lua", s.path("scanlogin-auth.lua"),
		"maxconn 60000", "maxconn 500", // as many files may be open here
	))
	s.check("haproxy", "-c", "-f", file)
	s.run("haproxy", "-db", "-f", file)
}

// command is a program, also from where Debian keeps servers, outside of people's PATH.
func (s *site) command(name string, args ...string) *exec.Cmd {
	s.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			s.Fatalf("install %s: make setup", name)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.SysProcAttr = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}, dieWithParent()
	return cmd
}

// check has the program itself read its configuration.
func (s *site) check(name string, args ...string) {
	s.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil || strings.Contains(string(out), "[warn]") {
		s.Fatalf("%s refuses its configuration: %v\n%s", name, err, out)
	}
}

// run runs the program until the test ends.
func (s *site) run(name string, args ...string) {
	s.Helper()
	cmd := s.command(name, args...)
	var log output
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // what it says is in its log
		if s.Failed() {
			s.Logf("%s said:\n%s", name, log.String())
		}
	})
}

// guardedApp is an app that believes X-Auth-User, as the only one who reaches it is the proxy.
type guardedApp struct {
	addr string
	mu   sync.Mutex
	seen []*http.Request
}

func newGuardedApp(t *testing.T) *guardedApp {
	t.Helper()
	a := &guardedApp{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.seen = append(a.seen, r)
	}))
	t.Cleanup(server.Close)
	a.addr = server.Listener.Addr().String()
	return a
}

// last is what the app was asked since it was looked at.
func (a *guardedApp) last() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

const asked = "/orders?id=7&note=%25"

// appIsClosedToStrangers: nobody reaches the app by claiming to be somebody.
func (s *site) appIsClosedToStrangers() {
	s.Helper()
	b := s.browser(visitorHost)
	claim := []string{"X-Auth-User", "alice", "X-Auth-User-Id", "1", "X-Forwarded-Method", "GET"}
	page := b.do(http.MethodGet, appSite+asked, content{}, append(claim, "Accept", "text/html")...).want(s, http.StatusFound)
	if got, want := page.header.Get("Location"), loginSite+"/login?next="+url.QueryEscape(appSite+asked); got != want {
		s.Errorf("a page leads to %s, want %s", got, want)
	}
	b.do(http.MethodGet, page.header.Get("Location"), content{}).want(s, http.StatusOK)
	b.do(http.MethodGet, appSite+asked, content{}, append(claim, "Accept", "application/json")...).want(s, http.StatusUnauthorized)
	b.do(http.MethodPost, appSite+asked, form("a", "b"), append(claim, "Accept", "text/html")...).want(s, http.StatusUnauthorized)
	if seen := s.app.last(); len(seen) > 0 {
		s.Errorf("the app was asked by a stranger: %v", seen[0].Header)
	}
}

// loginPasses: the code comes at once, though nothing follows it, so does what a scan causes, and
// the app then knows who it is.
func (s *site) loginPasses() {
	s.Helper()
	s.w.account(s, "alice")
	s.alice = s.browser(visitorHost)
	stream := s.alice.eventsAt(loginSite+"/login/events", "X-Forwarded-For", "203.0.113.7")
	s.w.scan(s, s.w.person(false), stream.code().Ticket)
	stream.expect("bind-required")
	bound := s.alice.do(http.MethodPost, loginSite+"/user/bind", form("username", "alice", "password", password)).want(s, http.StatusOK)
	if c := bound.set["__Secure-scanlogin_session"]; c == nil || !c.Secure || c.Domain != "example.com" {
		s.Errorf("session cookies %v", bound.set)
	}
	stream.expect("success")
	stream.end()

	s.alice.do(http.MethodPost, appSite+asked, form("a", "b"), "X-Auth-User", "mallory", "X-Auth-User-Id", "1000000",
		"X-Forwarded-For", "203.0.113.7").want(s, http.StatusOK)
	seen := s.app.last()
	if len(seen) != 1 {
		s.Fatalf("the app was asked %d times", len(seen))
	}
	r := seen[0]
	if r.Method != http.MethodPost || r.URL.String() != asked || r.Host != "app.example.com" {
		s.Errorf("the app was asked %s %s of %s", r.Method, r.URL, r.Host)
	}
	if who, id := r.Header.Values("X-Auth-User"), r.Header.Values("X-Auth-User-Id"); !slices.Equal(who, []string{"alice"}) || !slices.Equal(id, []string{"1"}) {
		s.Errorf("the app sees X-Auth-User %q, X-Auth-User-Id %q", who, id)
	}
	if from := r.Header.Values("X-Forwarded-For"); !slices.Equal(from, []string{visitorHost}) {
		s.Errorf("the app sees X-Forwarded-For %q", from)
	}
}

// streamsPass: a stream that says nothing but a comment every 12 s stays, and is told of its scan.
func (s *site) streamsPass() {
	s.Helper()
	who, b := s.w.person(true), s.browser(visitorHost)
	stream := b.eventsAt(loginSite + "/login/events")
	code := stream.code()
	stream.comment()
	stream.comment() // the first one may come early
	s.w.scan(s, who, code.Ticket)
	stream.expect("bind-required")
}

// oneInstanceIsEnough: no page loses its code and no request fails while an instance dies,
// nor while the other one shuts down.
func (s *site) oneInstanceIsEnough() {
	s.Helper()
	var pages []*browser
	var tickets []string
	var streams []*eventStream
	for range 4 {
		b := s.browser(visitorHost)
		stream := b.eventsAt(loginSite + "/login/events")
		pages, streams, tickets = append(pages, b), append(streams, stream), append(tickets, stream.code().Ticket)
	}
	for _, i := range []*instance{s.w.a, s.w.b} {
		eventually(s, "instance "+i.name+" has a stream", func() bool { return i.metric("scanlogin_streams_open") > 0 })
	}
	resume := func() {
		for n, b := range pages {
			streams[n].close()
			streams[n] = b.eventsAt(loginSite + "/login/events")
			if streams[n].code().Ticket != tickets[n] {
				s.Error("another code at the other instance")
			}
		}
	}
	visit := func() { s.alice.do(http.MethodGet, appSite+asked, content{}).want(s, http.StatusOK) }

	s.w.a.kill()
	for range 20 {
		visit()
	}
	resume()
	s.w.a.restart(nil)
	before := strings.Count(s.w.a.log.String(), "msg=request")
	eventually(s, "the proxy goes to the instance that is back", func() bool {
		visit()
		return strings.Count(s.w.a.log.String(), "msg=request") > before
	})

	s.w.b.terminate()
	for s.w.b.running() {
		visit()
	}
	s.w.b.awaitExit(0)
	visit()
	resume()
	s.w.scan(s, s.w.person(true), tickets[0]) // the push is balanced, too
	streams[0].expect("bind-required")
	s.w.b.restart(nil)
}

// addressesAreTrue: whoever makes addresses up is limited by their own.
func (s *site) addressesAreTrue() {
	s.Helper()
	refused := false
	for n := 0; n < 30 && !refused; n++ {
		stream := s.browser(visitorHost).eventsAt(loginSite+"/login/events", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d, 127.0.0.1", n))
		switch e := stream.next(); e.name {
		case "unavailable":
			refused = strings.Contains(e.data, "rate_limited")
		case "qr":
			stream.codeIn(e)
		}
		stream.close()
	}
	if !refused {
		s.Error("30 codes for one address that makes addresses up, 20 allowed")
	}
	s.browser(otherHost).eventsAt(loginSite + "/login/events").code()
	logs := s.w.a.log.String() + s.w.b.log.String()
	if strings.Contains(logs, "203.0.113.") || !strings.Contains(logs, "ip="+visitorHost) {
		s.Error("the log believes X-Forwarded-For of the client")
	}
}
