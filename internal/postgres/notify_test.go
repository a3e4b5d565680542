package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

const channel = "scanlogin_login"

// ears is a listener that runs, and what it has heard.
type ears struct {
	*postgres.Listener
	ups   chan struct{}
	heard chan login.ID
	log   *safeBuffer
	stop  func()
}

// listen starts a listener and waits until it listens, where at is an address that
// can be listened at.
func listen(t testing.TB, address string, interval time.Duration) *ears {
	t.Helper()
	e := startListening(t, address, address, interval)
	e.awaitUp(t)
	return e
}

// startListening starts a listener, whose proofs of life are sent through the database URL.
func startListening(t testing.TB, database, address string, interval time.Duration) *ears {
	t.Helper()
	db := must(postgres.Open(t.Context(), database, postgrestest.Schema))(t)
	t.Cleanup(db.Close)
	e := &ears{ups: make(chan struct{}, 100), heard: make(chan login.ID, 10_000), log: &safeBuffer{}}
	e.Listener = &postgres.Listener{
		DB:      db,
		URL:     address,
		Channel: channel,
		Up:      func() { e.ups <- struct{}{} },
		Changed: func(hints ...login.Hint) {
			for _, h := range hints {
				e.heard <- h.ID
			}
		},
		Logger: slog.New(slog.NewTextHandler(e.log, nil)),
	}
	e.SetInterval(interval)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	e.stop = func() { cancel(); running.Wait() }
	t.Cleanup(e.stop)
	return e
}

func (e *ears) awaitUp(t testing.TB) {
	t.Helper()
	select {
	case <-e.ups:
	case <-time.After(20 * time.Second):
		t.Fatal("not listening (again): " + e.log.String())
	}
}

func (e *ears) hear(t testing.TB) login.ID {
	t.Helper()
	select {
	case id := <-e.heard:
		return id
	case <-time.After(20 * time.Second):
		t.Fatal("nothing heard: " + e.log.String())
		return login.ID{}
	}
}

// hearsAgain tells until something is heard: with proofs of life that follow each other this
// fast, a busy machine breaks a connection now and then.
func (e *ears) hearsAgain(t testing.TB, n *postgres.Notifier) {
	t.Helper()
	await(t, "a notification", func() bool {
		if err := n.Notify(t.Context(), newID()); err != nil {
			return false
		}
		select {
		case <-e.heard:
			return true
		case <-time.After(time.Second):
			return false
		}
	})
}

// safeBuffer is written by the listener while the test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// notifier runs until the test's end, or until stop.
func notifier(t testing.TB, db *postgres.DB) (n *postgres.Notifier, stop func()) {
	n = postgres.NewNotifier(db, channel)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return n, cancel
}

func TestEveryInstanceHearsOfAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	all := []*ears{listen(t, w.url, 0), listen(t, w.url, 0)}
	n, _ := notifier(t, w.db)
	for range 3 {
		id := newID()
		w.ok(n.Notify(t.Context(), id))
		for _, e := range all {
			if got := e.hear(t); got != id {
				t.Errorf("heard of %v, want %v", got, id)
			}
		}
	}
	all[0].stop()
	if all[0].Listening() || !all[1].Listening() {
		t.Error("Listening doesn't say who listens")
	}
}

func TestNotificationsGoOutInBatches(t *testing.T) {
	t.Parallel()
	const callers = 1000
	w := newWorld(t, 1)
	e := listen(t, w.url, 0)
	first, proceed := make(chan struct{}), make(chan struct{})
	var statements atomic.Int32
	var payloads atomic.Int32
	w.db.BeforeEach(func(_ string, args []any) {
		if statements.Add(1) == 1 {
			close(first)
			<-proceed
		}
		payloads.Add(int32(len(args[1].([]string))))
	})
	n, _ := notifier(t, w.db)
	var calls sync.WaitGroup
	want := map[login.ID]bool{}
	call := func() {
		id := newID()
		want[id] = true
		calls.Go(func() {
			if err := n.Notify(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	call()
	<-first // one is under way: the others gather
	for range callers {
		call()
	}
	await(t, "a thousand callers", func() bool { return n.Waiting() == callers })
	close(proceed)
	calls.Wait()
	if statements.Load() != 2 || payloads.Load() != 1+5 {
		t.Errorf("%d statements with %d payloads for 1 and %d callers", statements.Load(), payloads.Load(), callers)
	}
	for range callers + 1 {
		id := e.hear(t)
		if !want[id] {
			t.Errorf("heard of %v, which nobody has told, or twice", id)
		}
		delete(want, id)
	}
}

func TestAStoppedNotifierSendsTheRestAndRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	first, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.db.BeforeEach(func(string, []any) {
		once.Do(func() { close(first); <-proceed })
	})
	n, stop := notifier(t, w.db)
	var calls sync.WaitGroup
	send := func() {
		calls.Go(func() {
			if err := n.Notify(t.Context(), newID()); err != nil {
				t.Errorf("what was accepted before the stop: %v", err)
			}
		})
	}
	send()
	<-first
	send()
	await(t, "the second caller", func() bool { return n.Waiting() == 1 })
	stop()
	close(proceed)
	calls.Wait()
	await(t, "the refusal", func() bool { return n.Notify(t.Context(), newID()) != nil })
}

func TestNotifyGivesUpWithItsCallerAndSendsAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	e := listen(t, w.url, 0)
	proceed := make(chan struct{})
	w.db.BeforeEach(func(string, []any) { <-proceed })
	n, _ := notifier(t, w.db)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	id := newID()
	if err := n.Notify(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left was told %v", err)
	}
	close(proceed)
	if got := e.hear(t); got != id {
		t.Errorf("heard of %v, want %v", got, id)
	}
}

func TestANotifierSaysWhatFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	db := w.open("postgres:///?host=/nowhere")
	n, _ := notifier(t, db)
	if err := n.Notify(t.Context(), newID()); err == nil {
		t.Error("sent to a database that isn't there")
	}
}

func TestAListenerComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	e := listen(t, w.url, 0)
	n, _ := notifier(t, w.db)
	for range 3 {
		if ended := w.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'scanlogin listen' AND datname = current_database()"); ended != 1 {
			t.Fatalf("%d connections that listen", ended)
		}
		e.awaitUp(t)
		id := newID()
		w.ok(n.Notify(t.Context(), id))
		if got := e.hear(t); got != id {
			t.Errorf("heard of %v, want %v", got, id)
		}
	}
}

func TestAListenerComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	server := postgrestest.NewServer(t, nil)
	address := server.URL("postgres")
	e := listen(t, address, 50*time.Millisecond)
	server.Kill()
	await(t, "a dozen tries", func() bool { return strings.Count(e.log.String(), "LISTEN connection lost") >= 12 })
	if e.Listening() {
		t.Error("listening to a server that is gone")
	}
	postgrestest.Restart(t, server)
	e.awaitUp(t)
	db := must(postgres.Open(t.Context(), address, "scanlogin"))(t)
	t.Cleanup(db.Close)
	n, _ := notifier(t, db)
	e.hearsAgain(t, n)
}

func TestWhatIsNotOursIsIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	e := listen(t, w.url, 0)
	n, _ := notifier(t, w.db)
	for _, payload := range []string{"", "x", "private words", strings.Repeat("z", 32), newID().String() + "ab", newID().String() + " "} {
		w.exec("SELECT pg_notify($1, $2)", channel, payload)
	}
	id := newID()
	w.ok(n.Notify(t.Context(), id))
	if got := e.hear(t); got != id {
		t.Errorf("heard of %v, want %v only", got, id)
	}
	if strings.Contains(e.log.String(), "private words") {
		t.Error("somebody's payload is in the log")
	}
}

// relay stands between us and PostgreSQL. What was connected when it is cut turns deaf in
// the way that pass says, without anybody hanging up; later connections are fine.
type relay struct {
	t        testing.TB
	listener net.Listener
	socket   string
	work     sync.WaitGroup
	made     atomic.Int32
	deaf     atomic.Int32         // connections up to this one
	pass     func(kind byte) bool // of what the server says
	dumb     bool                 // nothing of what we say arrives either
}

func (r *relay) cut() { r.deaf.Store(r.made.Load()) }

func newRelay(t testing.TB, address string) (r *relay, through string) {
	t.Helper()
	cfg := must(pgx.ParseConfig(address))(t)
	r = &relay{t: t, pass: func(byte) bool { return false }, socket: cfg.Host + "/.s.PGSQL.5432"}
	r.listener = must(net.Listen("tcp", "127.0.0.1:0"))(t)
	r.work.Go(func() {
		for {
			client, err := r.listener.Accept()
			if err != nil {
				return
			}
			n := r.made.Add(1)
			r.work.Go(func() { r.serve(client, n) })
		}
	})
	t.Cleanup(func() { r.listener.Close(); r.work.Wait() })
	u := must(url.Parse(address))(t)
	q := url.Values{"user": {"postgres"}, "sslmode": {"disable"}}
	return r, (&url.URL{Scheme: "postgres", Host: r.listener.Addr().String(), Path: u.Path, RawQuery: q.Encode()}).String()
}

func (r *relay) serve(client net.Conn, n int32) {
	defer client.Close()
	server, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer server.Close()
	r.work.Go(func() {
		defer server.Close()
		piece := make([]byte, 8192)
		for {
			length, err := client.Read(piece)
			if err != nil {
				return
			}
			if r.dumb && n <= r.deaf.Load() {
				continue
			}
			if _, err := server.Write(piece[:length]); err != nil {
				return
			}
		}
	})
	for {
		message, err := readMessage(server)
		if err != nil {
			return
		}
		if n <= r.deaf.Load() && !r.pass(message[0]) {
			continue
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads one of the server's: a kind, a length that counts itself, the rest.
func readMessage(from io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
	copy(message, head)
	_, err := io.ReadFull(from, message[5:])
	return message, err
}

func TestADeafConnectionIsFound(t *testing.T) {
	t.Parallel()
	const notificationResponse = 'A'
	for name, set := range map[string]func(*relay){
		"half-open socket":   func(*relay) {},
		"black hole":         func(r *relay) { r.dumb = true },
		"transaction pooler": func(r *relay) { r.pass = func(kind byte) bool { return kind != notificationResponse } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			r, through := newRelay(t, w.url)
			set(r)
			e := startListening(t, w.url, through, 300*time.Millisecond)
			e.awaitUp(t)
			n, _ := notifier(t, w.db)
			e.hearsAgain(t, n)
			r.cut()
			w.ok(n.Notify(t.Context(), newID())) // lost, hence Up
			e.awaitUp(t)
			e.hearsAgain(t, n)
			if name == "transaction pooler" && !strings.Contains(e.log.String(), "DATABASE_LISTEN_URL has to be a direct connection") {
				t.Error("the log doesn't say what may be wrong: " + e.log.String())
			}
		})
	}
}

func TestAQuietConnectionIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	r, through := newRelay(t, w.url)
	e := startListening(t, w.url, through, 500*time.Millisecond)
	e.awaitUp(t)
	const proofs = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scanlogin listen' AND datname = current_database() AND state_change > $1"
	for range 4 { // proofs of life come and go, and nothing else
		now := get[time.Time](w, "SELECT clock_timestamp()")
		await(t, "a proof of life", func() bool { return get[int](w, proofs, now) == 1 })
	}
	if n := r.made.Load(); n != 1 {
		t.Errorf("%d connections, want one that stays: %s", n, e.log.String())
	}
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hints := make([]login.Hint, rapid.IntRange(1, 600).Draw(t, "hints"))
		for i := range hints {
			hints[i].ID = newID()
			if rapid.Bool().Draw(t, "stamped") {
				hints[i].Since = time.UnixMicro(rapid.Int64().Draw(t, "at"))
			}
		}
		var back []login.Hint
		for _, p := range postgres.Payloads(hints) {
			if len(p) >= postgres.MaxPayload {
				t.Fatalf("a payload of %d bytes", len(p))
			}
			some, ok := postgres.ParsePayload(p)
			if !ok {
				t.Fatalf("not read: %q", p)
			}
			back = append(back, some...)
		}
		if diff := cmp.Diff(hints, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A version that knows of no stamps reads one ID after the other, and needs each to be one.
func TestAVersionWithoutStampsHearsOfTheSameLogins(t *testing.T) {
	t.Parallel()
	want := []login.ID{newID(), newID(), newID()}
	at := time.Now()
	payload := strings.Join(postgres.Payloads([]login.Hint{{ID: want[0], Since: at}, {ID: want[1]}, {ID: want[2], Since: at}}), "")
	var heard []login.ID
	for ; payload != ""; payload = payload[32:] {
		id, ok := login.ParseID(payload[:32])
		if !ok {
			t.Fatalf("%q is no ID", payload[:32])
		}
		if slices.Contains(want, id) {
			heard = append(heard, id)
		} else if id[0] != 0 || id[7] != 0 {
			t.Errorf("a stamp looks like a login that there may be: %x", id[:])
		}
	}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Error(diff)
	}
	back, ok := postgres.ParsePayload(want[0].String() + want[1].String()) // and the other way round
	if diff := cmp.Diff([]login.Hint{{ID: want[0]}, {ID: want[1]}}, back); !ok || diff != "" {
		t.Error(diff)
	}
}

func TestANotificationSaysSinceWhen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	heard, lags := make(chan login.Hint, 1), make(chan time.Duration, 100)
	l := &postgres.Listener{
		DB: w.db, URL: w.url, Channel: channel, Up: func() {}, Logger: slog.New(slog.DiscardHandler),
		Changed: func(hints ...login.Hint) { heard <- hints[0] },
		Heard:   func(lag time.Duration) { lags <- lag },
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	await(t, "the listener", l.Listening)
	if lag := <-lags; lag <= 0 || lag > time.Minute {
		t.Errorf("a NOTIFY took %v", lag)
	}
	n, _ := notifier(t, w.db)
	at, id := time.UnixMicro(1_700_000_000_123_456), newID()
	w.ok(n.Notify(login.Arrived(t.Context(), at), id))
	if h := <-heard; h.ID != id || !h.Since.Equal(at) {
		t.Errorf("heard %+v", h)
	}
}

func FuzzParsePayload(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("0a", 16))
	f.Add(strings.Repeat("0A", 32) + "x")
	f.Add(strings.Repeat("0a", 16) + "0000000000000000" + "0006400000000000")
	f.Fuzz(func(t *testing.T, s string) {
		hints, ok := postgres.ParsePayload(s)
		if !ok {
			return
		}
		if joined := strings.Join(postgres.Payloads(hints), ""); joined != strings.ToLower(s) {
			t.Errorf("%q was read as %q", s, joined)
		}
	})
}
