package stream

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"runtime"
	"testing"

	"scanlogin/internal/login"
)

// benchWorld is a world whose hub runs only where the benchmark, or the test, says so.
func benchWorld(b testing.TB) *world {
	w := &world{rows: newRows()}
	w.first = func(l login.Login) []byte { return QR(l, "data:image/png;base64,AA==") }
	w.hub = NewHub(Config{Look: w.rows.look, Gone: w.rows.tellGone, Logger: slog.New(slog.DiscardHandler)})
	w.server = httptest.NewServer(w)
	b.Cleanup(func() {
		w.hub.Drain(context.Background())
		w.server.Close()
	})
	return w
}

// browse opens a stream with next to no client behind it.
func (w *world) browse(b testing.TB, l login.Login) net.Conn {
	w.rows.mu.Lock()
	w.rows.logins[l.ID] = l
	w.rows.mu.Unlock()
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /"+l.ID.String()+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(c)
	for blank := 0; blank < 2; { // the header's and the event's
		line, err := r.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) <= 2 {
			blank++
		}
	}
	return c
}

// BenchmarkOpen includes the client and its connection.
func BenchmarkOpen(b *testing.B) {
	w := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		c := w.browse(b, waiting(1))
		w.hub.drop(w.only(login.ID{1}), errHungUp)
		c.Close()
	}
}

// crowd opens n streams of n logins and returns the browsers' ends.
func (w *world) crowd(b testing.TB, n int) (ends []net.Conn) {
	for i := range n {
		l := waiting(1)
		l.ID = login.ID{byte(i), byte(i >> 8)}
		ends = append(ends, w.browse(b, l))
	}
	b.Cleanup(func() { closeAll(ends) })
	for w.hub.Len() < n {
		runtime.Gosched() // the last byte arrives before the handler's return
	}
	return ends
}

func closeAll(ends []net.Conn) {
	for _, c := range ends {
		c.Close()
	}
}

// BenchmarkBeat is one stream's check and comment.
func BenchmarkBeat(b *testing.B) {
	const streams = 1000
	w := benchWorld(b)
	w.crowd(b, streams)
	slots := uint8(len(w.hub.wheel))
	var work sweep
	b.ReportAllocs()
	for b.Loop() {
		for slot := range slots {
			work.run(w.hub, slot, 0)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/streams, "ns/beat")
}

// BenchmarkPush is one event to one of 1,000 streams.
func BenchmarkPush(b *testing.B) {
	w := benchWorld(b)
	ends := w.crowd(b, 1000)
	go func() { _, _ = io.Copy(io.Discard, ends[1]) }() // ends with the connection
	l := waiting(1)
	l.ID = login.ID{1}
	s := w.only(l.ID)
	b.ReportAllocs()
	for b.Loop() {
		s.seen, l.State = login.Waiting, login.BindRequired
		if w.hub.push(l) != 1 {
			b.Fatal("not told")
		}
	}
}

// BenchmarkDrain ends 5,000 streams.
func BenchmarkDrain(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := benchWorld(b)
		ends := w.crowd(b, 5000)
		b.StartTimer()
		w.hub.Drain(context.Background())
		b.StopTimer()
		closeAll(ends)
		b.StartTimer()
	}
}
