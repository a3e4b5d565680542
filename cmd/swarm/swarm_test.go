package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"scanlogin/internal/wechat"
)

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(childVariable); ok {
		main() // of a run with several processes; exits
	}
	goleak.VerifyTestMain(m)
}

const (
	testToken = "token"
	testKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	testAppID = "wx1"
)

// site plays scanlogin, and has a different kind of trouble for every few browsers.
type site struct {
	t        *testing.T
	callback wechat.Callback
	quiet    bool // no trouble
	swallow  bool // scans are acknowledged, and nobody is told

	mu      sync.Mutex
	logins  []*siteLogin
	opening int
	stop    chan struct{}
	begun   context.Context // ends with the first stream
	begin   func()
}

type siteLogin struct {
	scene   int
	visits  int
	openid  string
	ended   bool
	scanned chan struct{}
}

func newSite(t *testing.T) (*site, string) {
	t.Helper()
	c, err := wechat.NewCipher(testKey, testAppID)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, callback: wechat.Callback{Token: testToken, Cipher: c, AppID: testAppID}, stop: make(chan struct{})}
	s.begun, s.begin = context.WithCancel(t.Context())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/events", s.events)
	mux.HandleFunc("POST /wechat/callback", s.push)
	mux.HandleFunc("POST /login/complete", s.complete)
	mux.HandleFunc("POST /user/bind", s.complete)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(s.stop) })
	return s, server.URL
}

// visit is the login of a browser, a new one where it has none or an ended one.
func (s *site) visit(w http.ResponseWriter, r *http.Request) *siteLogin {
	var scene int
	if c, err := r.Cookie("login"); err == nil {
		_, _ = fmt.Sscan(c.Value, &scene)
	}
	if scene == 0 || s.logins[scene-1].ended {
		s.logins = append(s.logins, &siteLogin{scene: len(s.logins) + 1, scanned: make(chan struct{})})
		scene = len(s.logins)
		http.SetCookie(w, &http.Cookie{Name: "login", Value: fmt.Sprint(scene), Secure: true})
	}
	l := s.logins[scene-1]
	l.visits++
	return l
}

func (s *site) events(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Last-Event-ID") != "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.opening++
	if s.opening == 2 && !s.quiet {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	l := s.visit(w, r)
	s.begin()
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(format string, args ...any) {
		fmt.Fprintf(w, format, args...)
		_ = http.NewResponseController(w).Flush()
	}
	if s.opening == 3 && !s.quiet {
		send("retry: 1000\nevent: unavailable\ndata: {\"reason\":\"pool_exhausted\",\"retry_in\":1}\n\n")
		return
	}
	send("retry: 20\n:\n\nevent: qr\r\ndata: {\"ticket\":\"t%d\",\"scene_id\":%[1]d,\"expires_in\":180}\r\n\r\n", l.scene)
	if l.visits == 1 && !s.quiet {
		switch {
		case l.scene%8 == 1: // lost: it comes back by itself
			return
		case l.scene%8 == 2:
			l.ended = true
			send("id: expired\nevent: expired\ndata: {}\n\n")
			return
		case l.scene == 3, l.scene == 4: // of a held stream: behind an id, the end is for good
			send("id: x\ndata: {}\n\n")
			return
		}
	}
	s.mu.Unlock()
	select {
	case <-l.scanned:
	case <-r.Context().Done():
	case <-s.stop:
	}
	s.mu.Lock()
	switch {
	case l.openid == "":
	case strings.HasSuffix(l.openid, "0"), strings.HasPrefix(l.openid, "oNEW"):
		send("event: bind-required\rdata: {\"signup\":false}\r\r")
		s.mu.Unlock()
		select {
		case <-r.Context().Done():
		case <-s.stop:
		}
		s.mu.Lock()
	default:
		send("id: success\nevent: success\ndata: {\"redirect\":\"/user\"}\n\n")
	}
}

func (s *site) push(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	m, err := s.callback.Read(r.URL.Query(), body)
	if err != nil {
		s.t.Errorf("a callback that scanlogin would refuse: %v", err)
	}
	scene, ok := m.Scan()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok || m.Ticket != fmt.Sprintf("t%d", scene) {
		s.t.Errorf("no scan of a code: %+v", m)
		return
	}
	if l := s.logins[scene-1]; l.openid == "" && !s.swallow {
		l.openid = m.FromUserName
		close(l.scanned)
	}
	_, _ = io.WriteString(w, "success")
}

func (s *site) complete(_ http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie("login"); err != nil || r.Header.Get("Sec-Fetch-Site") != "same-origin" {
		s.t.Errorf("%s is not from the page that began the login: %v", r.URL.Path, r.Header)
	}
}

// swarmAt runs the command against a site and returns its exit code and the counts that it wrote.
func swarmAt(t *testing.T, url string, args ...string) (code int, counts map[string]int64, out string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	var text strings.Builder
	p := program{environment(map[string]string{
		"WECHAT_TOKEN": testToken, "WECHAT_ENCODING_AES_KEY": testKey, "WECHAT_APP_ID": testAppID,
		"SWARM_USERNAME": "alice", "SWARM_PASSWORD": "secret",
	}), nil, &text, &text}
	code = p.main(t.Context(), append([]string{"-url", url, "-json", file, "-objective", "late<=100%"}, args...))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err, text.String())
	}
	var r struct{ Counts map[string]int64 }
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return code, r.Counts, text.String()
}

func TestBrowsersGoThroughEverything(t *testing.T) {
	_, url := newSite(t)
	// Two people, one of whom is asked to bind: of 20, two would be, and now and then nobody came.
	code, counts, out := swarmAt(t, url, "-streams", "24", "-ramp", "200", "-logins", "30/s", "-churn", "10", "-think", "50ms", "-for", "2s",
		"-people", "2", "-objective", "lost<1", "-objective", "changed<1", "-objective", "unanswered<1", "-objective", "resume.max<1h",
		"-objective", "push.p99<1h", "-objective", "complete.p99<1h", "-objective", "bind.max<1h")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, name := range []string{
		"pushed", "success", "bind_required", "completed", "bound", "expired", "unavailable.pool_exhausted", "stopped", "hangups", "reconnects",
	} {
		if counts[name] == 0 {
			t.Errorf("nothing was %s", name)
		}
	}
	for one, other := range map[string]string{
		"pushed": "acknowledged", "completed": "success", "bound": "bind_required", "errors": "errors.open: status 503 ",
	} {
		if counts[one] != counts[other] {
			t.Errorf("%d %s, %d %s", counts[one], one, counts[other], other)
		}
	}
	if counts["open"] != 0 {
		t.Errorf("%d streams are left open", counts["open"])
	}
	if t.Failed() {
		t.Log(out)
	}
}

// A scan that was acknowledged and never told must not vanish from the figures.
func TestLostScansAreCounted(t *testing.T) {
	s, url := newSite(t)
	s.quiet, s.swallow = true, true
	code, counts, out := swarmAt(t, url, "-logins", "50", "-think", "1ms", "-for", "300ms", "-grace", "100ms",
		"-objective", "lost<1", "-objective", "push.max>90ms")
	if code != 1 || counts["lost"] == 0 || counts["lost"] != counts["acknowledged"] || strings.Count(out, "MISSED") != 1 {
		t.Errorf("exit %d, %s", code, out)
	}
}

// The streams that are scanned stay, and nobody opens another.
func TestHeldStreamsAreScannedOnce(t *testing.T) {
	s, url := newSite(t)
	s.quiet = true
	code, counts, out := swarmAt(t, url, "-streams", "40", "-ramp", "1000", "-scans", "1000", "-for", "1s",
		"-objective", "lost<1", "-objective", "push.max<1h", "-objective", "after_answer.max<1h")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, name := range []string{"codes", "opened", "scans", "acknowledged", "pushed", "bind_required"} {
		if counts[name] != 40 {
			t.Errorf("%d %s of 40 streams", counts[name], name)
		}
	}
	if counts["bound"]+counts["expired"]+counts["open"] != 0 || t.Failed() {
		t.Error(out)
	}
}

func TestLostScansOfHeldStreamsAreCounted(t *testing.T) {
	s, url := newSite(t)
	s.quiet, s.swallow = true, true
	code, counts, out := swarmAt(t, url, "-streams", "5", "-scans", "1000", "-for", "300ms", "-grace", "100ms",
		"-objective", "lost<1", "-objective", "push.max>90ms")
	if code != 1 || counts["lost"] != 5 || counts["acknowledged"] != 5 || strings.Count(out, "MISSED") != 1 {
		t.Errorf("exit %d, %s", code, out)
	}
}

func TestProcessesShareTheLoad(t *testing.T) {
	s, url := newSite(t)
	s.quiet = true
	for name, value := range map[string]string{"WECHAT_TOKEN": testToken, "WECHAT_ENCODING_AES_KEY": testKey, "WECHAT_APP_ID": testAppID} {
		t.Setenv(name, value)
	}
	code, counts, out := swarmAt(t, url, "-processes", "3", "-streams", "10", "-logins", "60", "-think", "1ms", "-for", "500ms",
		"-objective", "lost<1", "-objective", "push.p50<1h")
	if code != 0 || counts["opened"] != counts["logins"]+10 || counts["pushed"] == 0 {
		t.Errorf("exit %d, %s", code, out)
	}
}

func TestInterruptedRunStillSums(t *testing.T) {
	s, url := newSite(t)
	s.quiet = true
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	context.AfterFunc(s.begun, interrupt)
	var out strings.Builder
	p := program{environment(nil), nil, &out, io.Discard}
	code := p.main(ctx, []string{"-url", url, "-streams", "10", "-for", "1h", "-objective", "late<=100%"})
	if code != 130 || !strings.Contains(out.String(), "interrupted") || !strings.Contains(out.String(), "opened") {
		t.Errorf("exit %d, %s", code, out.String())
	}
}
