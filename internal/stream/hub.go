// Package stream holds the event streams of this instance: who streams which login.
//
// A stream costs its connection and a few words of memory. No goroutine, buffer or
// timer belongs to it: net/http's connection is taken over and its handler returns, a
// wheel with a slot a second does what has to be done now and then, and one looker
// goroutine asks the database what became of the logins that a hint was about. The
// row is the truth, a hint is a hint: a lost one costs a second, a wrong one a query.
package stream

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"scanlogin/internal/login"
)

// Config says how a [Hub] works. Look and Gone are required.
type Config struct {
	// Beat is how often each stream gets a comment and is checked for a hang-up: whole
	// seconds, 1 to 14, since the contract promises a comment every 15 s. 0 means 12 s.
	Beat time.Duration
	// Grace is how long a stream may be gone before it counts as left.
	Grace time.Duration
	// Window is the time over which browsers come back that are sent away together, each at
	// a moment of its own; at least 10 ms. 0 means 5 s.
	Window time.Duration
	// Tabs is how many streams of one login there may be here; 0: any number. Each has a
	// connection of its own, for HTTP/1.1 can't carry two.
	Tabs int
	// Signup is what bind-required says of creating an account.
	Signup bool
	// Look returns, of these logins, those whose state is no longer the one seen. What
	// has run out, or lost its scene to another login, is Expired.
	Look func(context.Context, []login.Watch) ([]login.Login, error)
	// Gone is told of streams of waiting logins that left and stayed away for Grace: one
	// entry a stream, each at most once, even where Gone fails.
	Gone func(context.Context, []login.Ref) error
	// Pushed, where it isn't nil, hears of each login whose streams here were told its state,
	// and since when that was under way, as the hint said; the zero time where none did.
	Pushed func(l login.Login, since time.Time)
	// Took, where it isn't nil, hears how long it took to tell a login's streams: from the
	// time that the hint had, by the clock of where it came from. Neither may block.
	Took func(time.Duration)
	// Logger gets what browsers were told, the end of each stream, and outages. Nil:
	// slog.Default.
	Logger *slog.Logger
}

// stream is one browser's event stream, or one that is about to open (conn is nil).
// All but ref and conn is guarded by the hub's lock; those are set once, before anybody
// but Serve knows of them. Times are since the hub's start.
type stream struct {
	conn    conn
	next    *stream // another stream of the same login
	opened  time.Duration
	expires time.Duration // when seen runs out, as far as this machine can tell
	ref     login.Ref
	seen    login.State // what the browser was told last
	slot    uint8       // where on the wheel it is
	told    uint8       // events, the first included
	marks   mark
}

// mark is what else there is to know of a stream: in one byte, so that 64 are enough.
type mark uint8

const (
	woken mark = 1 << iota // a hint came before the stream opened
	gone
)

// Hub keeps the open streams of this instance. Its methods may be called at any time,
// by anybody. It works while [Hub.Run] does.
type Hub struct {
	config       Config
	start        time.Time
	writeTimeout time.Duration // for browsers whose connection is net/http's
	kick         chan struct{} // to the looker: something is in wakes or everyone is set
	reap         chan struct{} // to the reaper: something is in left
	count        counters

	mu       sync.Mutex // no system call and no query is made under it
	byID     map[login.ID]*stream
	wheel    []map[*stream]struct{}     // a slot a second
	turned   int64                      // the second that was swept last
	wakes    map[login.ID]time.Time     // hints that nobody looked into yet, and since when they are on their way
	found    map[login.ID]time.Duration // by the sweep, and when: a hint may still be on its way
	everyone bool                       // look at every login here
	failing  bool                       // the last look failed
	draining bool
	leaving  []leave // in the order of their time
	left     []login.Ref
	parting  []parting
}

// leave is a stream whose grace runs.
type leave struct {
	ref login.Ref
	at  time.Duration
}

// parting is a connection whose last event is on its way to the peer.
type parting struct {
	conn  conn
	until time.Duration
}

// linger is how long a peer has to read the last event and hang up.
const linger = 2 * time.Second

// NewHub returns a hub without streams.
func NewHub(c Config) *Hub {
	if c.Beat == 0 {
		c.Beat = 12 * time.Second
	}
	if c.Window == 0 {
		c.Window = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	h := &Hub{
		config:       c,
		start:        time.Now(),
		writeTimeout: 5 * time.Second,
		kick:         make(chan struct{}, 1),
		reap:         make(chan struct{}, 1),
		byID:         make(map[login.ID]*stream),
		wheel:        make([]map[*stream]struct{}, min(max(1, c.Beat/time.Second), 14)),
		wakes:        make(map[login.ID]time.Time),
		found:        make(map[login.ID]time.Duration),
	}
	for i := range h.wheel {
		h.wheel[i] = make(map[*stream]struct{})
	}
	return h
}

// Run keeps the hub going until ctx ends, and returns nil then. It closes no stream:
// that is for [Hub.Drain], which comes first.
func (h *Hub) Run(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() { h.lookOut(ctx) })
	work.Go(func() { h.reapLeft(ctx) })
	h.turn(ctx)
	work.Wait()
	h.part(h.now() + linger)
	return nil
}

// Wake says that something may have happened to these logins. It doesn't wait for
// anything, and those that nobody streams here cost a map access.
func (h *Hub) Wake(hints ...login.Hint) {
	h.mu.Lock()
	for _, hint := range hints {
		if at, ok := h.found[hint.ID]; ok {
			delete(h.found, hint.ID)
			h.took(hint.Since, h.start.Add(at))
		}
		if h.byID[hint.ID] != nil {
			h.wake(hint.ID, hint.Since)
		}
	}
	found := len(h.wakes) > 0
	h.mu.Unlock()
	if found {
		nudge(h.kick)
	}
}

// wake notes a hint, with the earliest time that is known of those for one look. It needs
// the lock.
func (h *Hub) wake(id login.ID, since time.Time) {
	if had := h.wakes[id]; since.IsZero() || !had.IsZero() && had.Before(since) {
		since = had
	}
	h.wakes[id] = since
}

func (h *Hub) took(since, until time.Time) {
	if h.config.Took != nil && !since.IsZero() {
		h.config.Took(max(0, until.Sub(since))) // clocks differ
	}
}

// WakeAll says that hints may have been lost: LISTEN was away.
func (h *Hub) WakeAll() {
	h.mu.Lock()
	h.everyone = true
	h.mu.Unlock()
	nudge(h.kick)
}

// Len is how many streams are open.
func (h *Hub) Len() int { return int(h.count.open.Load()) }

// Draining reports whether [Hub.Drain] was called.
func (h *Hub) Draining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining
}

// Drain ends every stream, telling each browser its own moment to come back, and
// answers those that open from now on in the same way. Nobody is counted as gone: the
// browsers are on their way to another instance. Where ctx ends early, the rest is
// closed without a word.
func (h *Hub) Drain(ctx context.Context) {
	streams, partings := h.takeAll()
	for _, s := range streams {
		if ctx.Err() == nil && s.conn.write(h.Reconnect()) == nil {
			s.conn.shut()
		}
	}
	// Only now, so that browsers had time to take it in.
	buf := make([]byte, 512)
	for _, s := range streams {
		_ = s.conn.check(buf) // unread input would make close an RST
		h.finish(s, drained)
		s.conn.close()
	}
	for _, p := range partings {
		p.conn.close()
	}
}

// takeAll empties the hub, for good. What isn't open yet stays: attach will refuse it.
func (h *Hub) takeAll() (streams []*stream, partings []parting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	for id, s := range h.byID {
		delete(h.byID, id)
		for next := s; next != nil; {
			s, next = next, next.next
			if s.conn == nil {
				s.next, h.byID[id] = h.byID[id], s
				continue
			}
			s.marks |= gone
			streams = append(streams, s)
		}
	}
	for _, slot := range h.wheel {
		clear(slot)
	}
	partings, h.parting = h.parting, nil
	h.leaving, h.left = nil, nil
	return streams, partings
}

// attach makes the stream of an open connection known, its first event being written.
// It is false when the hub drains.
func (h *Hub) attach(s *stream, c conn, l login.Login) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		h.remove(s)
		return false
	}
	s.conn, s.seen, s.ref.Scene, s.told = c, l.State, l.Scene, 1
	s.opened = h.now()
	s.expires = s.opened + l.ExpiresIn
	h.arm(s)
	h.count.open.Add(1)
	h.count.opened.Add(1)
	if s.marks&woken != 0 {
		h.wake(s.ref.ID, time.Time{})
		nudge(h.kick)
	}
	return true
}

// drop ends a stream because of err, once; its grace begins.
func (h *Hub) drop(s *stream, err error) {
	if h.forget(s, true) {
		h.finish(s, because(err))
		s.conn.close()
	}
}

// end ends a stream whose last event was written.
func (h *Hub) end(s *stream) {
	if !h.forget(s, false) {
		return
	}
	h.finish(s, completed)
	s.conn.shut()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parting = append(h.parting, parting{s.conn, h.now() + linger})
}

// forget takes a stream out of the hub; false when it was out already.
func (h *Hub) forget(s *stream, grace bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.remove(s) {
		return false
	}
	if grace && s.seen == login.Waiting {
		h.leaving = append(h.leaving, leave{s.ref, h.now() + h.config.Grace})
	}
	return true
}

// remove unhooks a stream from everything. It needs the lock.
func (h *Hub) remove(s *stream) bool {
	if s.marks&gone != 0 {
		return false
	}
	s.marks |= gone
	delete(h.wheel[s.slot], s)
	first := h.byID[s.ref.ID]
	if first == s {
		if s.next == nil {
			delete(h.byID, s.ref.ID)
		} else {
			h.byID[s.ref.ID] = s.next
		}
		return true
	}
	for p := first; p != nil; p = p.next {
		if p.next == s {
			p.next = s.next
		}
	}
	return true
}

// finish counts and logs the end of a stream, of which the line of its request knows nothing.
// Those of an instance that stops all end at once, and go on elsewhere.
func (h *Hub) finish(s *stream, why reason) {
	h.count.open.Add(-1)
	h.count.dropped[why].Add(1)
	level := slog.LevelInfo
	if why == drained {
		level = slog.LevelDebug
	}
	h.config.Logger.LogAttrs(context.Background(), level, "stream ended", slog.String("login", s.ref.ID.Short()),
		slog.String("reason", why.String()), slog.Int("events", int(s.told)), slog.Float64("took_ms", milliseconds(h.now()-s.opened)))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (h *Hub) now() time.Duration { return time.Since(h.start) }

// because tells a slow peer from one that left.
func because(err error) reason {
	if errors.Is(err, errSlow) || errors.Is(err, os.ErrDeadlineExceeded) {
		return slow
	}
	return hungUp
}

// nudge makes sure that the receiver has a look soon.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
