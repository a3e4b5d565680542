package stream

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"scanlogin/internal/login"
)

// Subscription is a stream that is about to open. One of [Subscription.Serve] and
// [Subscription.Cancel] must follow.
type Subscription struct {
	hub    *Hub
	stream *stream
	many   bool
}

// Subscribe begins a stream of the login. It has to come before the first read of the
// login's state: what happens from here on will reach the stream.
func (h *Hub) Subscribe(id login.ID) *Subscription {
	s := &stream{ref: login.Ref{ID: id}}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.next = h.byID[id]
	h.byID[id] = s
	return &Subscription{h, s, h.config.Tabs > 0 && s.len() > h.config.Tabs}
}

// len is how many streams of its login there are from s on.
func (s *stream) len() (n int) {
	for ; s != nil; s = s.next {
		n++
	}
	return n
}

// TooMany tells whether the login had as many streams as it may have, so that this one
// shouldn't be served.
func (s *Subscription) TooMany() bool { return s.many }

// Cancel forgets a subscription that wasn't served. Else it does nothing, so that it
// can be deferred.
func (s *Subscription) Cancel() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.stream.conn == nil {
		s.hub.remove(s.stream)
	}
}

// Serve opens the stream with first, the event of the state that was read, and leaves
// it to the hub. It takes over the connection and returns, or, where that can't be
// done (HTTP/2, TLS), returns when the stream has ended. A state or an event that
// nothing follows ends the stream at once. The header w has so far goes out with it.
//
// A browser that hangs up is no error. An error means that w can't carry a stream.
func (s *Subscription) Serve(w http.ResponseWriter, r *http.Request, l login.Login, first []byte) error {
	switch {
	case s.hub.Draining():
		s.Cancel()
		return WriteOnce(w, r, s.hub.Reconnect())
	case ended(l.State), ends(first), r.Method == http.MethodHead:
		s.abandon(l)
		return WriteOnce(w, r, append(greeting(), first...))
	}
	if r.TLS == nil && r.ProtoMajor == 1 {
		err := s.takeOver(w, l, first)
		if !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	return s.stay(w, r, l, first)
}

// WriteOnce answers with a stream of one event and ends it: for what is no login's, as
// [Unavailable].
func WriteOnce(w http.ResponseWriter, r *http.Request, event []byte) error {
	setHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := w.Write(event); err != nil {
		return fmt.Errorf("stream: write event: %w", err)
	}
	return nil
}

// Live streams what next returns as events of this name, at once and then every so often,
// until the browser leaves or next returns an error: for the few who watch an instance, of
// which each keeps a goroutine. The error is next's, or that w can't carry a stream.
func Live(w http.ResponseWriter, r *http.Request, name string, every time.Duration, next func() (any, error)) error {
	out := flusher{w, http.NewResponseController(w), 5 * time.Second}
	_ = out.SetReadDeadline(time.Time{}) // as in stay
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		data, err := next()
		if err != nil {
			return err
		}
		text := event(name, data)
		if first {
			setHeader(w.Header())
			w.WriteHeader(http.StatusOK)
			text = append(greeting(), text...)
		}
		if err := out.send(text); err != nil {
			return unsupported(err)
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		}
	}
}

// setHeader: no-transform and X-Accel-Buffering keep proxies from holding events back.
func setHeader(head http.Header) {
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store, no-transform")
	head.Set("X-Accel-Buffering", "no")
}

// abandon ends a subscription that never became a stream, but was counted as one.
func (s *Subscription) abandon(l login.Login) {
	s.hub.mu.Lock()
	s.stream.ref.Scene, s.stream.seen = l.Scene, l.State
	s.hub.mu.Unlock()
	s.hub.forget(s.stream, true)
}

// takeOver takes the connection from net/http, which so frees all that it keeps for a
// request: 27 KB. The body ends with the connection (RFC 9112, section 6.3).
func (s *Subscription) takeOver(w http.ResponseWriter, l login.Login, first []byte) error {
	nc, _, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err != nil {
		s.abandon(l)
		return fmt.Errorf("stream: hijack: %w", err)
	}
	c, err := newSocket(nc)
	if err != nil {
		s.abandon(l)
		_ = nc.Close()
		return err
	}
	s.open(c, l, response(w.Header(), first))
	return nil
}

// maxHeader is about what the header takes, with the retry line: so much that the answer is put
// together without being moved about.
const maxHeader = 1 << 10

// response is the whole answer: one write, one packet.
func response(head http.Header, first []byte) []byte {
	setHeader(head)
	head.Set("Connection", "close")
	head.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	b.Grow(maxHeader + len(first))
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = head.Write(&b) // a Buffer takes everything
	b.WriteString("\r\n")
	b.Write(greeting())
	b.Write(first)
	return b.Bytes()
}

// open writes the first bytes and makes the stream known, in this order: nothing may
// come before them.
func (s *Subscription) open(c conn, l login.Login, first []byte) {
	err := c.write(first)
	if !s.hub.attach(s.stream, c, l) {
		_ = c.write(s.hub.Reconnect())
		c.shut()
		_ = c.check(make([]byte, 512))
		c.close()
		return
	}
	if err != nil {
		s.hub.drop(s.stream, err)
	}
}

// stay serves the stream from the handler's goroutine, by a mailbox.
func (s *Subscription) stay(w http.ResponseWriter, r *http.Request, l login.Login, first []byte) error {
	out := flusher{w, http.NewResponseController(w), s.hub.writeTimeout}
	_ = out.SetReadDeadline(time.Time{}) // the server's are for requests; not every writer has any
	setHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	box := newMailbox()
	s.open(box, l, append(greeting(), first...))
	for {
		b, err := box.next(r.Context())
		if errors.Is(err, errShut) {
			return nil
		}
		if err == nil {
			err = out.send(b)
		}
		if err != nil {
			s.hub.drop(s.stream, err)
			return unsupported(err)
		}
	}
}

// flusher writes what net/http would like to keep for later.
type flusher struct {
	w http.ResponseWriter
	*http.ResponseController
	timeout time.Duration
}

// send must leave no deadline behind: HTTP/2 ends a stream whose deadline passes, though
// nothing is being written.
func (f flusher) send(b []byte) error {
	_ = f.SetWriteDeadline(time.Now().Add(f.timeout))
	if _, err := f.w.Write(b); err != nil {
		return err
	}
	if err := f.Flush(); err != nil {
		return err
	}
	_ = f.SetWriteDeadline(time.Time{})
	return nil
}

// unsupported keeps the one error that isn't the browser's doing.
func unsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("stream: flush: %w", err)
	}
	return nil
}
