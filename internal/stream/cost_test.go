package stream

import (
	"runtime"
	"testing"

	"scanlogin/internal/login"
)

// What a stream costs in counts that are the same on every machine. Each bound is what it
// takes today and a little more: whoever passes it knows why, or has made a mistake.

// crowdSize is enough for a cost per stream to show, and few enough open files.
const crowdSize = 500

func TestAnIdleStreamHasNoGoroutine(t *testing.T) {
	w := benchWorld(t)
	w.crowd(t, 1) // the server's own
	before := runtime.NumGoroutine()
	w.crowd(t, crowdSize)
	if more := settled(before) - before; more > 0 {
		t.Errorf("%d goroutines for %d streams", more, crowdSize)
	}
}

// settled is how many goroutines there are once those that end anyway have ended.
func settled(expected int) int {
	for range 1_000_000 {
		if runtime.NumGoroutine() <= expected {
			break
		}
		runtime.Gosched()
	}
	return runtime.NumGoroutine()
}

func TestAllocations(t *testing.T) {
	w := benchWorld(t)
	w.crowd(t, crowdSize)
	l := waiting(1)
	l.ID = login.ID{1}
	s := w.only(l.ID)
	var beats sweep
	for _, tt := range []struct {
		name string
		most float64
		do   func()
	}{
		{"open, with the client's", 110, func() {
			other := waiting(1)
			other.ID = login.ID{0xFF, 0xFF}
			c := w.browse(t, other)
			w.hub.drop(w.only(other.ID), errHungUp)
			c.Close()
		}},
		{"push", 8, func() {
			s.seen, l.State = login.Waiting, login.BindRequired
			w.hub.push(l)
		}},
		{"a beat of every stream", 8 * crowdSize, func() {
			for slot := range uint8(len(w.hub.wheel)) {
				beats.run(w.hub, slot, 0)
			}
		}},
	} {
		if n := testing.AllocsPerRun(100, tt.do); n > tt.most {
			t.Errorf("%s: %v allocations, want %v at most", tt.name, n, tt.most)
		}
	}
}
