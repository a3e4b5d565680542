package main

import (
	"context"
	"net"
	"sync"
	"time"
)

// wire is the network between an instance and a database server: a TCP proxy that can
// fall silent without a word, be slow, and break.
type wire struct {
	listener net.Listener
	dial     func() (net.Conn, error)
	done     chan struct{}
	work     sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while bytes pass
	delay time.Duration // of every piece
	conns map[net.Conn]struct{}
}

func newWire(ctx context.Context, dial func() (net.Conn, error)) (*wire, error) {
	l, err := listen(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, dial: dial, done: make(chan struct{}), open: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(w.open)
	w.work.Go(w.accept)
	return w, nil
}

func (w *wire) addr() string { return w.listener.Addr().String() }

func (w *wire) close() {
	close(w.done)
	_ = w.listener.Close()
	w.reset()
	w.work.Wait()
}

// cut makes the wire a black hole: connections stay open, nothing passes.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
		w.open = make(chan struct{})
	default: // cut already
	}
}

// heal lets pass what was held back, as TCP's repetitions would.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = 0
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

func (w *wire) slow(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = delay
}

// reset breaks every connection.
func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		resetConn(c)
	}
	clear(w.conns)
}

// resetConn makes the peer see a reset instead of an end.
func resetConn(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it may be closed already
	}
	_ = c.Close()
}

func (w *wire) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		w.work.Go(func() { w.serve(c) })
	}
}

func (w *wire) serve(c net.Conn) {
	defer c.Close()
	if !w.keep(c) || !w.pass() {
		return
	}
	server, err := w.dial()
	if err != nil {
		return // as a machine whose database is down
	}
	defer server.Close()
	if !w.keep(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(server, c) })
	both.Go(func() { w.copy(c, server) })
	both.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	delete(w.conns, server)
}

// keep is false when the wire is closed.
func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.done:
		return false
	default:
		w.conns[c] = struct{}{}
		return true
	}
}

func (w *wire) copy(to, from net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if !w.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			_ = to.Close() // PostgreSQL's protocol knows no half-closed connection
			return
		}
	}
}

// pass waits until bytes may pass; false when the wire is closed.
func (w *wire) pass() bool {
	w.mu.Lock()
	open, delay := w.open, w.delay
	w.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-w.done:
			return false
		}
	}
	select {
	case <-open:
		return true
	case <-w.done:
		return false
	}
}
