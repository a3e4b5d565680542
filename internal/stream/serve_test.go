package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"scanlogin/internal/login"
)

func TestStreamBeginsWithHeaderRetryAndFirstEvent(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		b, e := w.open(login.ID{1})
		want := map[string]string{
			"Content-Type":      "text/event-stream",
			"Cache-Control":     "no-store, no-transform",
			"X-Accel-Buffering": "no",
		}
		for name, value := range want {
			if got := b.resp.Header.Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
		if _, err := http.ParseTime(b.resp.Header.Get("Date")); err != nil {
			t.Errorf("Date: %v", err)
		}
		if got := b.resp.Header.Values("Set-Cookie"); !slices.Equal(got, []string{"a=1", "b=2"}) {
			t.Errorf("cookies of the middleware: %q", got)
		}
		if ms, err := strconv.Atoi(e.retry); err != nil || ms < 1000 || ms >= 4000 {
			t.Errorf("retry: %q", e.retry)
		}
		if e.event != "qr" || !strings.Contains(e.data, `"scene_id":1`) {
			t.Errorf("first event: %+v", e)
		}
	}, waiting(1))
}

func TestWakeBetweenSubscribeAndServeIsNotLost(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		w.between = func(id login.ID) { // the row was read
			w.rows.set(id, login.Authenticated)
			w.hub.Wake(login.Hint{ID: id})
			for w.pending() > 0 { // until the looker has taken it
				runtime.Gosched()
			}
		}
		b, e := w.open(login.ID{1})
		if e.event != "qr" {
			t.Fatalf("%+v", e)
		}
		b.want("success")
		if n := w.hub.Stats().SweepHits; n != 0 {
			t.Error("found by the sweep only")
		}
	}, waiting(1))
}

// pending is how many hints nobody took yet.
func (w *world) pending() int {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return len(w.hub.wakes)
}

func TestTwoTabsAreBothPushed(t *testing.T) {
	overTransports(t, Config{Signup: true}, func(t *testing.T, w *world) {
		one, _ := w.open(login.ID{1})
		two, _ := w.open(login.ID{1})
		other, _ := w.open(login.ID{2})
		w.rows.set(login.ID{1}, login.BindRequired)
		w.hub.Wake(login.Hint{ID: login.ID{1}}, login.Hint{ID: login.ID{99}})
		one.want("bind-required")
		two.want("bind-required")
		late, e := w.open(login.ID{1})
		if e.event != "bind-required" || e.data != `{"signup":true}` {
			t.Fatalf("%+v", e)
		}
		w.rows.set(login.ID{1}, login.Completed)
		w.hub.Wake(login.Hint{ID: login.ID{1}})
		for _, b := range []*browser{one, two, late} {
			b.want("success")
			b.wantEnd()
		}
		w.rows.set(login.ID{2}, login.Expired)
		w.hub.WakeAll()
		other.want("expired")
		other.wantEnd()
		for range 4 {
			if why := w.log.ended(t); why != "completed" {
				t.Errorf("ended: %s", why)
			}
		}
		if s := w.hub.Stats(); s.Open != 0 || s.Opened != 4 || s.Pushed != 6 || s.Dropped["completed"] != 4 {
			t.Errorf("%+v", s)
		}
	}, waiting(1), waiting(2))
}

func TestTabsThatSawDifferentStatesAreBothAskedFor(t *testing.T) {
	w := newWorld(t, Config{}, transports["http1"], waiting(1))
	first, _ := w.open(login.ID{1})
	w.rows.fail(errors.New("down")) // the first tab stays behind
	w.rows.set(login.ID{1}, login.BindRequired)
	second, e := w.open(login.ID{1})
	if e.event != "bind-required" {
		t.Fatalf("%+v", e)
	}
	w.rows.fail(nil)
	w.hub.Wake(login.Hint{ID: login.ID{1}})
	first.want("bind-required")
	w.rows.set(login.ID{1}, login.Completed)
	w.hub.Wake(login.Hint{ID: login.ID{1}})
	first.want("success")
	second.want("success") // and no second bind-required
}

func TestDuplicateWakeWritesNothing(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		b, _ := w.open(login.ID{1})
		w.rows.set(login.ID{1}, login.BindRequired)
		w.hub.Wake(login.Hint{ID: login.ID{1}})
		b.want("bind-required")
		for range 5 {
			w.hub.Wake(login.Hint{ID: login.ID{1}}, login.Hint{ID: login.ID{1}})
			<-w.rows.looked
			w.hub.push(w.rows.get(login.ID{1})) // a look that answers more than asked
		}
		w.rows.set(login.ID{1}, login.Authenticated)
		w.hub.Wake(login.Hint{ID: login.ID{1}})
		b.want("success")
		b.wantEnd()
	}, waiting(1))
}

func TestTerminalEventArrivesBeforeClose(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		for range 20 {
			w.rows.set(login.ID{1}, login.Waiting)
			b, _ := w.open(login.ID{1})
			w.rows.set(login.ID{1}, login.Expired)
			w.hub.Wake(login.Hint{ID: login.ID{1}})
			b.want("expired")
			b.wantEnd()
		}
	}, waiting(1))
}

// The server has unread input when it closes: an RST would be the answer to that.
func TestTerminalEventArrivesThoughTheBrowserTalks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{}, transports["http1"], waiting(1))
	for range 20 {
		w.rows.set(login.ID{1}, login.Waiting)
		c, r := w.raw("GET /" + login.ID{1}.String() + " HTTP/1.1\r\nHost: a\r\n\r\n")
		readUntil(t, r, "event: qr")
		_, _ = c.Write(bytes.Repeat([]byte("x"), 100_000))
		w.rows.set(login.ID{1}, login.Expired)
		w.hub.Wake(login.Hint{ID: login.ID{1}})
		if why := w.log.ended(t); why != "completed" {
			t.Fatal(why)
		}
		_, _ = c.Write([]byte("and more"))
		rest, err := io.ReadAll(r)
		if err != nil || !strings.HasSuffix(string(rest), "event: expired\ndata: {}\n\n") {
			t.Fatalf("%q, %v", rest, err)
		}
	}
}

// raw sends bytes as they are.
func (w *world) raw(request string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		w.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// readUntil reads up to and with the line that begins so.
func readUntil(t *testing.T, r *bufio.Reader, prefix string) (lines []string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("want %q, got %v after %q", prefix, err, lines)
		}
		lines = append(lines, line)
		if strings.HasPrefix(line, prefix) {
			return lines
		}
	}
}

func TestPipelinedBytesAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{}, transports["http1"], waiting(1))
	get := "GET /" + login.ID{1}.String() + " HTTP/1.1\r\nHost: a\r\n\r\n"
	_, r := w.raw(get + get + strings.Repeat("x", 10_000))
	readUntil(t, r, "event: qr")
	w.only(login.ID{1})
	w.beat() // reads what came
	readUntil(t, r, ":")
	w.rows.set(login.ID{1}, login.Completed)
	w.hub.Wake(login.Hint{ID: login.ID{1}})
	readUntil(t, r, "event: success")
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
	if n := w.hub.Stats().Opened; n != 1 {
		t.Errorf("%d streams", n)
	}
}

func TestOldClientsGetAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{}, transports["http1"], waiting(1))
	_, r := w.raw("GET /" + login.ID{1}.String() + " HTTP/1.0\r\n\r\n")
	head := readUntil(t, r, "event: qr")
	if !slices.Contains(head, "Connection: close\r\n") || slices.ContainsFunc(head, func(s string) bool { return strings.HasPrefix(s, "Transfer-") }) {
		t.Errorf("%q", head)
	}
	w.rows.set(login.ID{1}, login.Completed)
	w.hub.Wake(login.Hint{ID: login.ID{1}})
	readUntil(t, r, "event: success")
}

func TestHeadGetsTheHeaderOnly(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		resp, err := w.server.Client().Head(w.server.URL + "/" + login.ID{1}.String())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.Header.Get("Content-Type") != "text/event-stream" || w.hub.Len() != 0 {
			t.Errorf("%v, %d streams", resp.Header, w.hub.Len())
		}
		if refs := w.gone(1); !slices.Equal(refs, []login.Ref{waiting(1).Ref}) {
			t.Errorf("gone: %v", refs) // it was counted as a stream when the login was claimed
		}
	}, waiting(1))
}

// Each stream hears of a scan to be confirmed and of what came of it; who opens in between
// is told the same.
func TestAScanToBeConfirmedIsToldAgain(t *testing.T) {
	asked := waiting(1)
	asked.State, asked.Question = login.Scanned, login.Question{By: login.ConfirmReply, Number: "42"}
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		first, _ := w.open(login.ID{1})
		w.rows.put(asked)
		w.hub.Wake(login.Hint{ID: login.ID{1}})
		first.want("scanned")
		second, e := w.open(login.ID{1})
		if e.event != "scanned" || e.data != `{"confirm":"reply","number":"42"}` {
			t.Errorf("whoever comes back is told %+v", e)
		}
		w.rows.set(login.ID{1}, login.Declined)
		w.hub.Wake(login.Hint{ID: login.ID{1}})
		for _, b := range []*browser{first, second} {
			b.want("declined")
			b.wantEnd()
		}
	}, waiting(1))
}

func TestEndedLoginIsToldAndLeavesNothing(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		for s, want := range map[login.State]string{login.Authenticated: "success", login.Completed: "success", login.Declined: "declined", login.Expired: "expired"} {
			w.rows.set(login.ID{1}, s)
			b, e := w.open(login.ID{1})
			if e.event != want || e.id == "" || e.retry == "" {
				t.Errorf("%+v", e)
			}
			b.wantEnd()
		}
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if len(w.hub.byID) != 0 {
			t.Error("the hub still holds something")
		}
	}, waiting(1))
}

func TestUnavailableIsWrittenOnce(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	rec.Header().Set("Set-Cookie", "a=1")
	event := Unavailable("pool_exhausted", 5*time.Second)
	if err := WriteOnce(rec, httptest.NewRequest(http.MethodGet, "/", nil), event); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 200 || rec.Header().Get("Set-Cookie") == "" || rec.Header().Get("Content-Type") != "text/event-stream" || rec.Body.String() != string(event) {
		t.Errorf("%d %v %q", rec.Code, rec.Header(), rec.Body)
	}
}

func TestWriterThatCannotFlushIsRefused(t *testing.T) {
	t.Parallel()
	hub := NewHub(Config{})
	sub := hub.Subscribe(login.ID{1})
	w := struct{ http.ResponseWriter }{httptest.NewRecorder()}
	err := sub.Serve(w, httptest.NewRequest(http.MethodGet, "/", nil), waiting(1), QR(waiting(1), ""))
	if !errors.Is(err, http.ErrNotSupported) || hub.Len() != 0 {
		t.Errorf("%v, %d streams", err, hub.Len())
	}
}

// hijacker gives away what it has.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
	err  error
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, nil, h.err }

func TestConnectionThatCannotBeTakenOverIsClosed(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe() // has no descriptor
	broken := errors.New("broken")
	for want, w := range map[error]http.ResponseWriter{
		errors.ErrUnsupported: hijacker{httptest.NewRecorder(), ours, nil},
		broken:                hijacker{httptest.NewRecorder(), nil, broken},
	} {
		hub := NewHub(Config{})
		sub := hub.Subscribe(login.ID{1})
		err := sub.Serve(w, httptest.NewRequest(http.MethodGet, "/", nil), waiting(1), QR(waiting(1), ""))
		if !errors.Is(err, want) || len(hub.byID) != 0 || len(hub.leaving) != 1 {
			t.Errorf("%v, %d logins, %d leave", err, len(hub.byID), len(hub.leaving))
		}
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error("still open")
	}
}

func TestHangupIsNoticedWithinABeat(t *testing.T) {
	overTransports(t, Config{Beat: time.Second, Grace: time.Millisecond}, func(t *testing.T, w *world) {
		b, _ := w.open(login.ID{1})
		left := time.Now()
		b.hang()
		if why := w.log.ended(t); why != "hung_up" {
			t.Errorf("ended: %s", why)
		}
		if after := time.Since(left); after > 3*time.Second {
			t.Errorf("noticed after %v", after)
		}
		if refs := w.gone(1); !slices.Equal(refs, []login.Ref{waiting(1).Ref}) {
			t.Errorf("gone: %v", refs)
		}
		if w.hub.Len() != 0 {
			t.Error("still there")
		}
	}, waiting(1))
}

func TestGraceCountsEveryStream(t *testing.T) {
	overTransports(t, Config{Grace: time.Minute}, func(t *testing.T, w *world) {
		var tabs []*browser
		for range 3 {
			b, _ := w.open(login.ID{1})
			tabs = append(tabs, b)
		}
		bound, _ := w.open(login.ID{2})
		w.rows.set(login.ID{2}, login.BindRequired)
		w.hub.Wake(login.Hint{ID: login.ID{2}})
		bound.want("bind-required")
		ended, _ := w.open(login.ID{3})
		w.rows.set(login.ID{3}, login.Expired)
		w.hub.Wake(login.Hint{ID: login.ID{3}})
		ended.want("expired")
		for w.hub.Stats().Opened < 5 { // a browser has its first event a moment before it is known
			runtime.Gosched()
		}
		for _, b := range append(tabs, bound) {
			b.hang()
		}
		for w.hub.Len() > 0 {
			w.beat()
		}
		refs := w.gone(3)
		one := waiting(1).Ref
		if !slices.Equal(refs, []login.Ref{one, one, one}) {
			t.Errorf("gone: %v", refs)
		}
		w.hub.release(w.hub.now() + time.Hour)
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if len(w.hub.left)+len(w.hub.leaving) > 0 {
			t.Errorf("too many: %v", w.hub.left)
		}
	}, waiting(1), waiting(2), waiting(3))
}

// The first event is larger than all buffers on the way, and nobody reads.
func TestSlowReaderIsDropped(t *testing.T) {
	t.Parallel()
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Config{Beat: time.Second}, func(s *httptest.Server) { smallBuffers(s, start) }, waiting(1))
			w.hub.writeTimeout = 100 * time.Millisecond
			w.first = func(login.Login) []byte { return bytes.Repeat([]byte("x"), 1<<20) }
			b := w.dial(login.ID{1})
			why := w.log.ended(t)
			if b.resp.ProtoMajor == 1 && why != "slow" { // HTTP/2 resets the stream at its deadline
				t.Errorf("ended: %s", why)
			}
			if w.hub.Len() != 0 {
				t.Error("still there")
			}
		})
	}
}

func smallBuffers(s *httptest.Server, start func(*httptest.Server)) {
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		_ = c.(*net.TCPConn).SetWriteBuffer(4096)
		return ctx
	}
	start(s)
	transport := s.Client().Transport.(*http.Transport)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 16}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_ = c.(*net.TCPConn).SetReadBuffer(4096)
		}
		return c, err
	}
}

func TestFullMailboxIsSlow(t *testing.T) {
	t.Parallel()
	box := newMailbox()
	for range cap(box.post) {
		if err := box.write([]byte(heartbeat)); err != nil {
			t.Fatal(err)
		}
	}
	if err := box.write([]byte(heartbeat)); because(err) != slow {
		t.Error(err)
	}
}

func TestServerTimeoutsDoNotEndStreams(t *testing.T) {
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Config{Beat: time.Second}, func(s *httptest.Server) {
				s.Config.ReadTimeout, s.Config.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond
				start(s)
			}, waiting(1))
			b, _ := w.open(login.ID{1})
			if e, err := b.next(); err != nil || e.comment == "" { // after a second
				t.Fatalf("%+v, %v", e, err)
			}
			w.rows.set(login.ID{1}, login.Completed)
			w.hub.Wake(login.Hint{ID: login.ID{1}})
			b.want("success")
		})
	}
}

func TestDrainSpreadsRetries(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		var tabs []*browser
		for range 40 {
			b, _ := w.open(login.ID{1})
			tabs = append(tabs, b)
		}
		w.hub.Drain(t.Context())
		if !w.hub.Draining() || w.hub.Len() != 0 {
			t.Errorf("%d streams", w.hub.Len())
		}
		late := w.dial(login.ID{1})
		var all []int
		for _, b := range append(tabs, late) {
			e, err := b.skip()
			ms, bad := strconv.Atoi(e.retry)
			if err != nil || bad != nil || e.event != "" || ms < 500 || ms >= 5000 {
				t.Fatalf("%+v, %v", e, err)
			}
			all = append(all, ms)
			b.wantEnd()
		}
		slices.Sort(all)
		if all[0] > 2000 || all[len(all)-1] < 3500 {
			t.Errorf("retries: %v", all)
		}
		w.hub.release(w.hub.now() + time.Hour)
		if left := w.hub.takeLeft(); len(left) > 0 {
			t.Errorf("gone: %v", left)
		}
	}, waiting(1))
}

func TestDrainWhileServing(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		w.between = func(login.ID) { w.hub.Drain(t.Context()) }
		b, e := w.open(login.ID{1})
		if e.event != "" || e.retry == "" || w.hub.Len() != 0 {
			t.Errorf("%+v", e)
		}
		b.wantEnd()
	}, waiting(1))
}

// moment runs something just before a stream gets its connection.
type moment struct {
	http.ResponseWriter
	run func()
}

func (m moment) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func (m moment) WriteHeader(status int) {
	m.run()
	m.ResponseWriter.WriteHeader(status)
}

func (m moment) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	m.run()
	return http.NewResponseController(m.ResponseWriter).Hijack()
}

func TestStreamThatOpensInTheMiddleOfADrainIsEnded(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		w.wrap = func(rw http.ResponseWriter) http.ResponseWriter {
			return moment{rw, func() { w.hub.Drain(t.Context()) }}
		}
		b, e := w.open(login.ID{1})
		if e.event != "qr" {
			t.Errorf("%+v", e)
		}
		if e, err := b.next(); err != nil || e.retry == "" || e.event != "" {
			t.Errorf("%+v, %v", e, err)
		}
		b.wantEnd()
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if len(w.hub.byID) != 0 || w.hub.Len() != 0 {
			t.Error("the hub still holds something")
		}
	}, waiting(1))
}

func TestUnavailableEndsTheStreamOfAWaitingLogin(t *testing.T) {
	overTransports(t, Config{}, func(t *testing.T, w *world) {
		w.first = func(login.Login) []byte { return Unavailable("wechat_unavailable", 5*time.Second) }
		b, e := w.open(login.ID{1})
		if e.event != "unavailable" || e.retry != "5000" { // the last retry line counts
			t.Errorf("%+v", e)
		}
		b.wantEnd()
		if refs := w.gone(1); !slices.Equal(refs, []login.Ref{waiting(1).Ref}) {
			t.Errorf("gone: %v", refs)
		}
	}, waiting(1))
}

// A late write to a stream that is gone must fail, also where its descriptor's number
// belongs to somebody else by now.
func TestReusedFDNeverGetsForeignEvent(t *testing.T) {
	w := newWorld(t, Config{}, transports["http1"], waiting(1), waiting(2))
	for range 200 {
		lower, err := os.Open(os.DevNull) // its number is for the second browser's own end
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.open(login.ID{1})
		old := w.only(login.ID{1})
		fd := descriptor(t, old)
		w.hub.drop(old, errHungUp)
		_ = lower.Close()
		b, _ := w.open(login.ID{2})
		current := w.only(login.ID{2})
		same := descriptor(t, current) == fd
		if err := old.conn.write(Success()); err == nil {
			t.Fatal("wrote to a closed stream")
		}
		if err := old.conn.check(make([]byte, 1)); err == nil {
			t.Fatal("read from a closed stream")
		}
		old.conn.shut()
		old.conn.close()
		w.rows.set(login.ID{2}, login.Expired)
		w.hub.Wake(login.Hint{ID: login.ID{2}})
		b.want("expired")
		w.rows.set(login.ID{2}, login.Waiting)
		if same {
			return
		}
	}
	t.Error("no descriptor was reused")
}

func (w *world) only(id login.ID) *stream {
	for {
		w.hub.mu.Lock()
		s := w.hub.byID[id]
		open := s != nil && s.conn != nil
		w.hub.mu.Unlock()
		if open {
			return s
		}
	}
}

func descriptor(t *testing.T, s *stream) (n uintptr) {
	t.Helper()
	if err := s.conn.(*socket).raw.Control(func(fd uintptr) { n = fd }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCancelledSubscriptionLeavesNothing(t *testing.T) {
	t.Parallel()
	h := NewHub(Config{Logger: slog.New(slog.DiscardHandler)})
	a, b, c := h.Subscribe(login.ID{1}), h.Subscribe(login.ID{1}), h.Subscribe(login.ID{1})
	b.Cancel()
	b.Cancel()
	c.Cancel()
	a.Cancel()
	if len(h.byID) != 0 || h.Len() != 0 {
		t.Errorf("%d logins, %d streams", len(h.byID), h.Len())
	}
}

// Browsers come, go and reload while their logins are scanned, half of the hints are
// lost, and then the instance stops: every browser that stays is told, in order, once.
func TestALoginHasOnlySoManyStreams(t *testing.T) {
	h := NewHub(Config{Tabs: 3})
	other := h.Subscribe(login.ID{2})
	var subs []*Subscription
	for n := range 5 {
		subs = append(subs, h.Subscribe(login.ID{1}))
		if got := subs[n].TooMany(); got != (n >= 3) {
			t.Errorf("the stream after %d others is too many: %v", n, got)
		}
	}
	subs[4].Cancel() // as who is told so does
	subs[3].Cancel()
	subs[0].Cancel()
	if h.Subscribe(login.ID{1}).TooMany() {
		t.Error("there was room again")
	}
	if !h.Subscribe(login.ID{1}).TooMany() || other.TooMany() {
		t.Error("each login has its own")
	}
	h = NewHub(Config{})
	for range 100 {
		if h.Subscribe(login.ID{1}).TooMany() {
			t.Fatal("there is no limit")
		}
	}
}

func TestNothingIsLostInTheCrowd(t *testing.T) {
	overTransports(t, Config{Beat: time.Second, Grace: 10 * time.Millisecond}, func(t *testing.T, w *world) {
		var crowd sync.WaitGroup
		for n := range byte(60) {
			w.rows.mu.Lock()
			w.rows.logins[login.ID{n}] = waiting(n)
			w.rows.mu.Unlock()
			crowd.Go(func() { w.visit(login.ID{n}, n) })
		}
		crowd.Wait()
		w.hub.Drain(context.Background())
		if w.hub.Len() != 0 {
			t.Errorf("%d streams", w.hub.Len())
		}
	})
}

func (w *world) visit(id login.ID, n byte) {
	leaver, _ := w.open(id)
	stayer := w.dial(id)
	leaver.hang()
	for _, s := range []login.State{login.BindRequired, login.Completed} {
		w.rows.set(id, s)
		if n%2 == 0 {
			w.hub.Wake(login.Hint{ID: id})
		}
	}
	var seen []string
	for {
		e, err := stayer.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.t.Error(err)
			return
		}
		if e.event != "" {
			seen = append(seen, e.event)
		}
	}
	if len(seen) == 0 || seen[len(seen)-1] != "success" || len(slices.Compact(slices.Clone(seen))) != len(seen) {
		w.t.Errorf("%v was told %q", id, seen)
	}
}
