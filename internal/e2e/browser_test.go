package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// browser is what a browser is to the server: cookies, headers, event streams. It
// follows no redirect, so that a test sees each.
type browser struct {
	t      testing.TB
	w      *world
	client *http.Client
	header http.Header // of every request
}

func newBrowser(t testing.TB, w *world) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t: t, w: w, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}, client: &http.Client{
		Jar: jar, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// cookie is the value of a cookie that the browser holds, empty for none.
func (b *browser) cookie(name string) string {
	for _, c := range b.client.Jar.Cookies(&url.URL{Scheme: "http", Host: "127.0.0.1"}) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// hold puts a cookie into the browser, as a thief of it would.
func (b *browser) hold(name, value string) {
	b.client.Jar.SetCookies(&url.URL{Scheme: "http", Host: "127.0.0.1", Path: "/"},
		[]*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

const (
	loginCookie   = "scanlogin_login"
	sessionCookie = "scanlogin_session"
)

func (b *browser) send(ctx context.Context, method, url string, body content, header ...string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body.text))
	if err != nil {
		b.t.Fatal(err)
	}
	maps.Copy(req.Header, b.header)
	if body.kind != "" {
		req.Header.Set("Content-Type", body.kind)
	}
	for n := 0; n < len(header); n += 2 {
		if req.Header.Set(header[n], header[n+1]); header[n+1] == "" {
			req.Header.Del(header[n])
		}
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, url, err)
	}
	for _, c := range resp.Cookies() {
		b.w.keep(c.Value)
	}
	return resp
}

// content is a request's body.
type content struct{ kind, text string }

func form(pairs ...string) content {
	v := url.Values{}
	for n := 0; n < len(pairs); n += 2 {
		v.Set(pairs[n], pairs[n+1])
	}
	return content{"application/x-www-form-urlencoded", v.Encode()}
}

func jsonBody(pairs ...string) content {
	v := map[string]string{}
	for n := 0; n < len(pairs); n += 2 {
		v[pairs[n]] = pairs[n+1]
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings only
	}
	return content{"application/json", string(text)}
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	set    map[string]*http.Cookie // cookies that it sets
}

func (b *browser) do(method, url string, body content, header ...string) answer {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*patience)
	defer cancel()
	resp := b.send(ctx, method, url, body, header...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, url, err)
	}
	a := answer{resp.StatusCode, resp.Header, string(text), map[string]*http.Cookie{}}
	for _, c := range resp.Cookies() {
		a.set[c.Name] = c
	}
	return a
}

func (b *browser) get(i *instance, path string, header ...string) answer {
	b.t.Helper()
	return b.do(http.MethodGet, i.url(path), content{}, header...)
}

func (b *browser) post(i *instance, path string, body content, header ...string) answer {
	b.t.Helper()
	return b.do(http.MethodPost, i.url(path), body, header...)
}

// want insists on a status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %.300s", a.status, status, a.body)
	}
	return a
}

// json is a field of a JSON answer.
func (a answer) json(t testing.TB, field string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("not a JSON object: %.300s", a.body)
	}
	return v[field]
}

// event is one of a stream: an event, a comment, or a retry line.
type event struct {
	name, data, id, comment string
	retry                   time.Duration
}

// eventStream reads an event stream as the WHATWG standard says, section 9.2.6, strictly:
// it takes no field that the contract doesn't name.
type eventStream struct {
	t        testing.TB
	w        *world
	response *http.Response
	cancel   context.CancelFunc
	events   chan event // closed at the end of the stream
}

// events opens this browser's stream at an instance.
func (b *browser) events(i *instance, header ...string) *eventStream {
	b.t.Helper()
	s := b.eventsAt(i.url("/login/events"), header...)
	if got := s.response.Header.Get("X-Accel-Buffering"); got != "no" { // for nginx, which keeps it
		b.t.Errorf("X-Accel-Buffering: %q", got)
	}
	return s
}

// eventsAt opens this browser's stream.
func (b *browser) eventsAt(url string, header ...string) *eventStream {
	b.t.Helper()
	s := b.openEventsAt(url, header...)
	if s.response.StatusCode != http.StatusOK {
		b.t.Fatalf("GET /login/events: status %d", s.response.StatusCode)
	}
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store"} {
		if got := s.response.Header.Get(name); !strings.HasPrefix(got, want) {
			b.t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	return s
}

func (b *browser) openEvents(i *instance, header ...string) *eventStream {
	b.t.Helper()
	return b.openEventsAt(i.url("/login/events"), header...)
}

func (b *browser) openEventsAt(url string, header ...string) *eventStream {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	header = append([]string{"Accept", "text/event-stream"}, header...)
	resp := b.send(ctx, http.MethodGet, url, content{}, header...) //nolint:bodyclose // read does
	s := &eventStream{b.t, b.w, resp, cancel, make(chan event, 256)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read()
	}()
	b.t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

func (s *eventStream) read() {
	defer close(s.events)
	defer s.response.Body.Close()
	if s.response.StatusCode != http.StatusOK {
		return // no stream
	}
	var e event
	lines := bufio.NewScanner(s.response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if e != (event{}) {
				s.events <- e
			}
			e = event{}
		case field == "":
			s.events <- event{comment: ":" + value}
		case field == "event":
			e.name = value
		case field == "data":
			e.data += value
		case field == "id":
			e.id = value
		case field == "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				s.t.Errorf("retry: %q", value)
			}
			s.events <- event{retry: time.Duration(ms) * time.Millisecond}
		default:
			s.t.Errorf("the stream has a line %q", lines.Text())
		}
	}
}

// take returns the next event that is wanted, and fails when none comes.
func (s *eventStream) take(what string, wanted func(event) bool) event {
	s.t.Helper()
	deadline := time.NewTimer(2 * patience)
	defer deadline.Stop()
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				s.t.Fatalf("the stream ended, waiting for %s", what)
			}
			if wanted(e) {
				return e
			}
		case <-deadline.C:
			s.t.Fatalf("no %s in time", what)
		}
	}
}

// next is the next event, whichever it is.
func (s *eventStream) next() event {
	s.t.Helper()
	e := s.take("event", func(e event) bool { return e.name != "" })
	if e.data == "" {
		s.t.Errorf("event %s without data: browsers drop it", e.name)
	}
	return e
}

// expect insists on the name of the next event.
func (s *eventStream) expect(name string) event {
	s.t.Helper()
	e := s.next()
	if e.name != name {
		s.t.Fatalf("event %s %.200s, want %s", e.name, e.data, name)
	}
	return e
}

func (s *eventStream) comment() event {
	s.t.Helper()
	return s.take("comment", func(e event) bool { return e.comment != "" })
}

func (s *eventStream) retry() time.Duration {
	s.t.Helper()
	return s.take("retry line", func(e event) bool { return e.retry != 0 }).retry
}

// qrCode is the data of a qr event.
type qrCode struct {
	URL       string `json:"url"`
	Image     string `json:"image"`
	Ticket    string `json:"ticket"`
	SceneID   int    `json:"scene_id"`
	ExpiresIn int    `json:"expires_in"`
}

// code expects a qr event.
func (s *eventStream) code() (c qrCode) {
	s.t.Helper()
	return s.codeIn(s.expect("qr"))
}

func (s *eventStream) codeIn(e event) (c qrCode) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(e.data), &c); err != nil {
		s.t.Fatalf("qr: %v", err)
	}
	if c.Ticket == "" || c.URL == "" || c.SceneID < 1 || !strings.HasPrefix(c.Image, "data:image/png;base64,") {
		s.t.Fatalf("qr: %.300s", e.data)
	}
	s.w.keep(c.Ticket, c.URL)
	return c
}

// end waits until the server has ended the stream, and returns what came before that.
func (s *eventStream) end() (rest []event) {
	s.t.Helper()
	deadline := time.NewTimer(2 * patience)
	defer deadline.Stop()
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return rest
			}
			rest = append(rest, e)
		case <-deadline.C:
			s.t.Fatal("the stream stays open")
		}
	}
}

// close hangs up.
func (s *eventStream) close() { s.cancel() }
