package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"scanlogin/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rows is what the table says, and who asked.
type rows struct {
	mu     sync.Mutex
	logins map[login.ID]login.Login
	broken error
	asked  [][]login.Watch
	looked chan struct{} // after each look, as far as somebody listens
	gone   chan []login.Ref
}

func newRows(logins ...login.Login) *rows {
	r := &rows{logins: map[login.ID]login.Login{}, looked: make(chan struct{}, 1), gone: make(chan []login.Ref, 100)}
	for _, l := range logins {
		r.logins[l.ID] = l
	}
	return r
}

func (r *rows) get(id login.ID) login.Login {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logins[id]
}

func (r *rows) set(id login.ID, s login.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.logins[id]
	l.State = s
	r.logins[id] = l
}

func (r *rows) put(l login.Login) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins[l.ID] = l
}

func (r *rows) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
}

func (r *rows) look(_ context.Context, watches []login.Watch) (changed []login.Login, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer nudge(r.looked)
	r.asked = append(r.asked, slices.Clone(watches))
	for _, w := range watches {
		if l := r.logins[w.ID]; l.State != w.Seen {
			changed = append(changed, l)
		}
	}
	return changed, r.broken
}

func (r *rows) tellGone(_ context.Context, refs []login.Ref) error {
	r.gone <- refs
	return nil
}

// looks is how often the table was asked so far.
func (r *rows) looks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

func waiting(n byte) login.Login {
	return login.Login{
		Ref:       login.Ref{Scene: int32(n), ID: login.ID{n}},
		State:     login.Waiting,
		Ticket:    login.Ticket{Ticket: "ticket", URL: "http://we.chat/q"},
		ExpiresIn: time.Minute,
	}
}

// tap is a log that tests can wait for.
type tap chan slog.Record

func (c tap) Enabled(context.Context, slog.Level) bool { return true }
func (c tap) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c tap) WithGroup(string) slog.Handler            { return c }
func (c tap) Handle(_ context.Context, r slog.Record) error {
	c <- r
	return nil
}

// ended waits for the end of a stream and returns its reason.
func (c tap) ended(t *testing.T) (why string) {
	t.Helper()
	for {
		select {
		case r := <-c:
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "reason" {
					why = a.Value.String()
				}
				return true
			})
			if why != "" {
				return why
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no stream ended")
		}
	}
}

// world is a hub behind a server, and the table it looks at.
type world struct {
	t      *testing.T
	rows   *rows
	hub    *Hub
	log    tap
	server *httptest.Server
	// before runs between Subscribe and the read of the row, and between that and Serve.
	before, between func(login.ID)
	first           func(login.Login) []byte
	wrap            func(http.ResponseWriter) http.ResponseWriter
}

// transports are the ways to a stream: taken over, or served by a handler that stays.
var transports = map[string]func(*httptest.Server){
	"http1": func(s *httptest.Server) { s.Start() },
	"http2": func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	"tls": func(s *httptest.Server) {
		s.StartTLS()
		s.Client().Transport.(*http.Transport).TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	},
	"no hijack": func(s *httptest.Server) {
		inner := s.Config.Handler
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(plain{w}, r) })
		s.Start()
	},
}

// plain is a ResponseWriter that can do all that a stream needs, but can't be taken over.
type plain struct{ http.ResponseWriter }

func (p plain) control() *http.ResponseController {
	return http.NewResponseController(p.ResponseWriter)
}
func (p plain) FlushError() error                   { return p.control().Flush() }
func (p plain) SetReadDeadline(at time.Time) error  { return p.control().SetReadDeadline(at) }
func (p plain) SetWriteDeadline(at time.Time) error { return p.control().SetWriteDeadline(at) }

// overTransports runs a test over each way to a stream.
func overTransports(t *testing.T, c Config, test func(t *testing.T, w *world), logins ...login.Login) {
	t.Helper()
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(transports)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, c, transports[name], logins...))
		})
	}
}

func newWorld(t *testing.T, c Config, start func(*httptest.Server), logins ...login.Login) *world {
	w := &world{t: t, rows: newRows(logins...), log: make(tap, 10_000)}
	w.first = func(l login.Login) []byte {
		if l.State == login.Waiting {
			return QR(l, "data:image/png;base64,AA==")
		}
		return w.hub.Event(l)
	}
	c.Look, c.Gone, c.Logger = w.rows.look, w.rows.tellGone, slog.New(w.log)
	w.hub = NewHub(c)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- w.hub.Run(ctx) }()
	w.server = httptest.NewUnstartedServer(w)
	start(w.server)
	t.Cleanup(func() {
		w.hub.Drain(context.Background())
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		w.server.Close()
		w.server.Client().CloseIdleConnections()
	})
	return w
}

// ServeHTTP is the handler as the web package writes it: GET /<login id in hex>.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	id, _ := login.ParseID(strings.TrimPrefix(r.URL.Path, "/"))
	sub := w.hub.Subscribe(id)
	defer sub.Cancel()
	if w.before != nil {
		w.before(id)
	}
	l := w.rows.get(id)
	if w.between != nil {
		w.between(id)
	}
	rw.Header().Add("Set-Cookie", "a=1")
	rw.Header().Add("Set-Cookie", "b=2")
	if w.wrap != nil {
		rw = w.wrap(rw)
	}
	if err := sub.Serve(rw, r, l, w.first(l)); err != nil {
		w.t.Error(err)
	}
}

// event is one event, or comment, as a browser reads it.
type received struct {
	event, data, id, retry, comment string
}

// browser is the reading end of a stream.
type browser struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
	hang context.CancelFunc // hangs up
}

// open opens a stream and returns what came first.
func (w *world) open(id login.ID) (*browser, received) {
	w.t.Helper()
	b := w.dial(id)
	e, err := b.next()
	if err != nil {
		w.t.Fatal(err)
	}
	return b, e
}

func (w *world) dial(id login.ID) *browser {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/"+id.String(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := w.server.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("status %s", resp.Status)
	}
	return &browser{w.t, resp, bufio.NewReader(resp.Body), cancel}
}

// next reads up to the next blank line that something came before.
func (b *browser) next() (e received, err error) {
	for {
		line, err := b.r.ReadString('\n')
		if err != nil {
			if e != (received{}) && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" && e != (received{}) {
			return e, nil
		}
		switch field, value, _ := strings.Cut(line, ":"); field {
		case "event":
			e.event = value[1:]
		case "data":
			e.data = value[1:]
		case "id":
			e.id = value[1:]
		case "retry":
			e.retry = value[1:]
		default:
			e.comment = line
		}
	}
}

// skip reads what comes next that is no comment.
func (b *browser) skip() (e received, err error) {
	for {
		if e, err = b.next(); err != nil || e.comment == "" {
			return e, err
		}
	}
}

// want reads the next event.
func (b *browser) want(name string) {
	b.t.Helper()
	if e, err := b.skip(); err != nil || e.event != name {
		b.t.Fatalf("want %s, got %+v, %v", name, e, err)
	}
}

// wantEnd reads the end of the stream.
func (b *browser) wantEnd() {
	b.t.Helper()
	if e, err := b.skip(); !errors.Is(err, io.EOF) {
		b.t.Fatalf("want the end, got %+v, %v", e, err)
	}
}

// beat gives every stream its heartbeat now.
func (w *world) beat() {
	for slot := range w.hub.wheel {
		new(sweep).run(w.hub, uint8(slot), 0)
	}
}

// gone ends everybody's grace and waits until n streams were counted as gone.
func (w *world) gone(n int) (refs []login.Ref) {
	w.t.Helper()
	for len(refs) < n {
		w.hub.release(w.hub.now() + time.Hour)
		select {
		case some := <-w.rows.gone:
			refs = append(refs, some...)
		case <-time.After(10 * time.Second):
			w.t.Fatalf("gone: %v", refs)
		}
	}
	return refs
}
