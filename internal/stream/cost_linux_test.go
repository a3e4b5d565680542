package stream

import (
	"fmt"
	"os"
	"testing"

	"scanlogin/internal/login"
)

// calls counts the system calls of this process that read and write.
func calls(t *testing.T) (reads, writes int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d", new(int), new(int), &reads, &writes); err != nil {
		t.Fatal(err)
	}
	return reads, writes
}

// An event is one write, and a beat is one read, for the peer may have left, and one write.
func TestSystemCalls(t *testing.T) {
	w := benchWorld(t)
	w.crowd(t, crowdSize)
	const slack = crowdSize / 10 // of who else is at work in this process
	spends := func(name string, reads, writes int, do func()) {
		t.Helper()
		r, wr := calls(t)
		do()
		r2, wr2 := calls(t)
		if r2-r > reads+slack || wr2-wr > writes+slack {
			t.Errorf("%s: %d reads and %d writes, want %d and %d", name, r2-r, wr2-wr, reads, writes)
		}
		if wr2-wr < writes {
			t.Errorf("%s: %d writes are not counted here", name, writes-(wr2-wr))
		}
	}
	var work sweep
	spends("beats", crowdSize, crowdSize, func() {
		for slot := range uint8(len(w.hub.wheel)) {
			work.run(w.hub, slot, 0)
		}
	})
	spends("pushes", 0, crowdSize, func() {
		for i := range crowdSize {
			l := waiting(1)
			l.ID, l.State = login.ID{byte(i), byte(i >> 8)}, login.BindRequired
			w.hub.push(l)
		}
	})
}
