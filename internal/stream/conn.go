package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

var (
	errSlow   = errors.New("stream: peer is not reading")
	errHungUp = errors.New("stream: peer has hung up")
	errShut   = errors.New("stream: shut")
)

// conn is where a stream's bytes go. No method waits for the peer, and all may be
// called after close.
type conn interface {
	write(b []byte) error   // one attempt, the whole of b; after an error the conn is of no use
	check(buf []byte) error // nil while the peer is there; what it sent is dropped, through buf
	shut()                  // ends the stream once the peer has all that was written
	close()                 // ends it now
}

// socket is a connection taken over from net/http. It is reached through the net.Conn
// only, whose lock keeps the descriptor from being reused meanwhile: one person's
// login would end up in another's browser.
type socket struct {
	net net.Conn
	raw syscall.RawConn
}

func newSocket(c net.Conn) (*socket, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("stream: %T: %w", c, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("stream: raw connection: %w", err)
	}
	return &socket{c, raw}, nil
}

// write makes one non-blocking attempt. Everything that a stream is ever sent fits in
// an empty socket buffer many times over, so a short write means that nobody reads.
func (s *socket) write(b []byte) error {
	var n int
	var err error
	if e := s.raw.Write(func(fd uintptr) bool {
		for {
			if n, err = syscall.Write(int(fd), b); !errors.Is(err, syscall.EINTR) {
				return true
			}
		}
	}); e != nil {
		return e
	}
	if errors.Is(err, syscall.EAGAIN) || err == nil && n < len(b) {
		return errSlow
	}
	return err
}

// check reads what has come without waiting. A peer that talks without end is read a
// few buffers' worth: it must not hold up the others.
func (s *socket) check(buf []byte) error {
	for range 16 {
		var n int
		var err error
		if e := s.raw.Read(func(fd uintptr) bool {
			n, err = syscall.Read(int(fd), buf)
			return true
		}); e != nil {
			return e
		}
		switch {
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			return nil
		case err != nil:
			return err
		case n == 0:
			return errHungUp
		case n < len(buf):
			return nil
		}
	}
	return nil
}

// shut tells the peer that this was all. Closing at once would be an RST wherever the
// peer has sent something more, and an RST may overtake the last event.
func (s *socket) shut() {
	if c, ok := s.net.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // fails when the peer was faster
	}
}

func (s *socket) close() { _ = s.net.Close() }

// mailbox is the stream of a handler that has to stay, because its connection can't
// be taken over (HTTP/2, TLS): the hub posts, the handler writes. It notices by
// itself when the browser leaves.
type mailbox struct {
	post chan []byte
	done chan struct{} // closed by end: write what was posted, then go
	end  func()
}

func newMailbox() *mailbox {
	done := make(chan struct{})
	return &mailbox{make(chan []byte, 4), done, sync.OnceFunc(func() { close(done) })}
}

func (m *mailbox) write(b []byte) error {
	select {
	case m.post <- b:
		return nil
	default:
		return errSlow
	}
}

// next waits for the next event to write: errHungUp when ctx ends first, errShut when
// everything posted was written.
func (m *mailbox) next(ctx context.Context) ([]byte, error) {
	select {
	case b := <-m.post:
		return b, nil
	case <-ctx.Done():
		return nil, errHungUp
	case <-m.done:
	}
	select {
	case b := <-m.post:
		return b, nil
	default:
		return nil, errShut
	}
}

func (m *mailbox) check([]byte) error { return nil }
func (m *mailbox) shut()              { m.end() }
func (m *mailbox) close()             { m.end() }
