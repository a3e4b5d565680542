package e2e

import (
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// collector takes traces over OTLP/HTTP, as any collector does.
type collector struct {
	t   testing.TB
	url string

	mu    sync.Mutex
	spans []span
	texts []string // all that came
}

// span is one that came, with its attributes as text.
type span struct {
	service, name     string
	trace, id, parent string
	attributes        map[string]string
	failed            bool
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{t: t}
	s := httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	var in coltrace.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &in)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s: %v", r.URL.Path, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts = append(c.texts, protojson.Format(&in))
	for _, from := range in.GetResourceSpans() {
		service := ""
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				got := span{
					service, s.GetName(), hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId()), hex.EncodeToString(s.GetParentSpanId()),
					map[string]string{},
					s.GetStatus().GetCode() == 2,
				}
				for _, a := range s.GetAttributes() {
					got.attributes[a.GetKey()] = strings.Trim(a.GetValue().String(), `"`)
					if text := a.GetValue().GetStringValue(); text != "" {
						got.attributes[a.GetKey()] = text
					}
				}
				c.spans = append(c.spans, got)
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(nil)
}

// of waits for the span of that name that is about a login.
func (c *collector) of(id, name string) (found span) {
	c.t.Helper()
	eventually(c.t, name+" has come", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := slices.IndexFunc(c.spans, func(s span) bool { return s.name == name && s.attributes["scanlogin.login"] == id })
		if n >= 0 {
			found = c.spans[n]
		}
		return n >= 0
	})
	return found
}

// The page is on A, which a trusted proxy stands before, and WeChat pushes to B.
func TestTracesOfALogin(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := newWorld(t, options{pushTo: []int{1}, stopped: true, settings: settings{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.url, "OTEL_SERVICE_NAME": "scanlogin-of-the-tests", "OTEL_BSP_SCHEDULE_DELAY": "100",
		"LOG_FORMAT": "json",
	}})
	w.a.settings["TRUSTED_PROXIES"] = "127.0.0.1"
	for _, i := range []*instance{w.a, w.b} {
		i.start()
		i.awaitReady()
	}
	who := w.boundPerson(t, "alice")
	const proxys, strangers = "0af7651916cd43dd8448eb211c80319c", "ffffffffffffffffffffffffffffffff"
	b := newBrowser(t, w)
	s := b.events(w.a, "traceparent", "00-"+proxys+"-b7ad6b7169203331-01")
	code := s.code()
	w.scan(t, who, code.Ticket)
	s.expect("success")
	b.post(w.b, "/login/complete", jsonBody(), "traceparent", "00-"+strangers+"-b7ad6b7169203331-01").want(t, http.StatusOK)
	id := w.waiting(code.SceneID)

	open, claim := c.of(id, "GET /login/events"), c.of(id, "login claim")
	if open.trace != proxys || open.parent != "b7ad6b7169203331" || open.service != "scanlogin-of-the-tests" {
		t.Errorf("the stream's span: %+v", open)
	}
	if claim.trace != proxys || claim.parent != open.id || claim.attributes["scanlogin.outcome"] != "made" {
		t.Errorf("the claim's span: %+v", claim)
	}
	callback, scan := c.of(id, "POST /wechat/callback"), c.of(id, "login scan")
	if scan.parent != callback.id || scan.attributes["scanlogin.outcome"] != "logged_in" || callback.attributes["http.response.status_code"] != "int_value:200" {
		t.Errorf("the callback's span: %+v, the scan's: %+v", callback, scan)
	}
	if push := c.of(id, "login push"); push.attributes["scanlogin.state"] != "authenticated" || push.parent != "" {
		t.Errorf("the push's span: %+v", push)
	}
	if done := c.of(id, "POST /login/complete"); done.trace == strangers || c.of(id, "login complete").parent != done.id {
		t.Errorf("the completion's span: %+v", done)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.spans, func(s span) bool {
		return s.name == "wechat create" && s.trace == proxys && s.attributes["scanlogin.errcode"] == "0"
	}) {
		t.Error("no span of the call that made the code")
	}
	if !slices.ContainsFunc(w.a.lines(), func(l logLine) bool { return l["msg"] == "request" && l["login"] == id && l["trace_id"] == proxys }) {
		t.Error("the line of the request doesn't name the trace")
	}
	all := strings.Join(c.texts, "\n")
	for secret := range w.secrets {
		if strings.Contains(all, secret) {
			t.Errorf("a span says %q", secret)
		}
	}
	for _, s := range c.spans {
		if s.failed {
			t.Errorf("an error where nothing went wrong: %+v", s)
		}
	}
}

func TestTracesAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := newWorld(t, options{pushTo: []int{1}, stopped: true, settings: settings{"OTEL_BSP_SCHEDULE_DELAY": "1"}})
	w.a.settings["OTEL_EXPORTER_OTLP_ENDPOINT"], w.a.settings["OTEL_SDK_DISABLED"] = c.url, "true"
	w.b.settings["OTEL_EXPORTER_OTLP_ENDPOINT"], w.b.settings["OTEL_TRACES_EXPORTER"] = c.url, "none"
	for _, i := range []*instance{w.a, w.b} {
		i.start()
		i.awaitReady()
	}
	w.boundPerson(t, "alice")
	w.a.stop() // which would send what is left
	w.b.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.texts) > 0 {
		t.Errorf("%d exports", len(c.texts))
	}
	for name, value := range map[string]string{"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} {
		env := settings{"OTEL_EXPORTER_OTLP_ENDPOINT": c.url, name: value}
		maps.Copy(env, w.settings)
		env["ADDR"], env["OPS_ADDR"] = w.a.addr, w.a.ops
		if r := run(t, env, "", "serve"); r.code != 1 || !strings.Contains(r.stderr, name) || !strings.Contains(r.stderr, value) {
			t.Errorf("%s=%s: exit %d: %s", name, value, r.code, r.stderr)
		}
	}
}
