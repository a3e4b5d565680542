package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// front is what stands before the instances in a real installation: one address, behind
// which connections go to one instance or the other. It knows nothing of HTTP.
type front struct {
	listener net.Listener
	work     sync.WaitGroup

	mu       sync.Mutex
	backends []string // in turn; none: the site can't be reached
	next     int
	open     map[net.Conn]bool
}

func newFront(t testing.TB, backends ...string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{listener: l, backends: backends, open: map[net.Conn]bool{}}
	f.work.Go(f.accept)
	t.Cleanup(func() {
		_ = l.Close()
		f.route()
		f.work.Wait()
	})
	return f
}

func (f *front) addr() string { return f.listener.Addr().String() }

func (f *front) url(path string) string { return "http://" + f.addr() + path }

// prefer sends new connections to these backends, in turn, and leaves the others alone.
func (f *front) prefer(backends ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.backends = backends
}

// route does the same and cuts every connection.
func (f *front) route(backends ...string) {
	f.prefer(backends...)
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		_ = c.Close()
	}
}

func (f *front) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.work.Go(func() { f.carry(c) })
	}
}

// carry brings one connection to a backend, or to the next where that one is down.
func (f *front) carry(c net.Conn) {
	defer f.forget(c)
	if !f.remember(c) {
		return
	}
	for range 2 {
		back, err := net.Dial("tcp", f.backend())
		if err != nil {
			continue
		}
		defer f.forget(back)
		if !f.remember(back) {
			return
		}
		var both sync.WaitGroup
		both.Go(func() { pipe(back, c) })
		pipe(c, back)
		both.Wait()
		return
	}
}

// pipe copies one direction and passes its end on.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func (f *front) backend() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.backends) == 0 {
		return ""
	}
	f.next++
	return f.backends[f.next%len(f.backends)]
}

func (f *front) remember(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.backends) == 0 {
		_ = c.Close()
		return false
	}
	f.open[c] = true
	return true
}

func (f *front) forget(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
	_ = c.Close()
}
