package web

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// How many requests of a kind are at work at once, and how many more may wait for that.
const (
	// atWork is enough to keep the pool's connections busy, 16 unless the URL says
	// otherwise, while others wait for a batch or for WeChat. The pool serves in the order
	// of arrival: however many browsers come back at once, a callback has no more than two
	// times so many statements of theirs before it.
	atWork = 64
	// waiting is what a small database does in a second, which is what we promise for a
	// callback; WeChat gives it 5 s. Requests that wait take 30 KB each, so 60 MB.
	waiting = 2048
)

// errBusy says that there are too many requests of this kind already.
var errBusy = errors.New("web: busy")

// gate lets so many in at once, and so many wait: first come, first served. What exceeds
// that is turned away at once, rather than to wait in vain and to hold up who comes next.
type gate struct {
	present chan struct{} // one for each who is in or waits
	in      chan struct{} // one for each who is in; sending to a full channel is a fair line
	away    atomic.Uint64
}

func (g *gate) build(in, waiting int) {
	g.present, g.in = make(chan struct{}, in+waiting), make(chan struct{}, in)
}

// through does f inside the gate. It returns errBusy where f was turned away, or there was
// no room in time.
func through[T any](ctx context.Context, g *gate, f func() (T, error)) (T, error) {
	var none T
	select {
	case g.present <- struct{}{}:
		defer func() { <-g.present }()
	default:
		g.away.Add(1)
		return none, errBusy
	}
	if err := g.enter(ctx); err != nil {
		g.away.Add(1)
		return none, fmt.Errorf("%w: %w", errBusy, err)
	}
	defer func() { <-g.in }()
	return f()
}

// enter waits for half of the time that there is, and leaves the other half for the work:
// what begins when its time is nearly over is done for nothing, and costs the connection
// on which its statement is broken off.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.in <- struct{}{}:
		return nil
	default:
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	select {
	case g.in <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats is what happened since the start, and who waits now.
type Stats struct {
	CallbacksTurnedAway uint64         // answered with 503: WeChat pushes again
	StreamsTurnedAway   uint64         // told to come back a little later
	LastCallback        time.Time      // when WeChat's last genuine push came; zero: none yet
	AtWork, Waiting     map[string]int // requests, by what they want: callback, check, begin, resume
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	now := Stats{
		CallbacksTurnedAway: s.callbacks.away.Load(),
		StreamsTurnedAway:   s.checks.away.Load() + s.begins.away.Load() + s.resumes.away.Load(),
		LastCallback:        s.lastCallback(),
		AtWork:              make(map[string]int),
		Waiting:             make(map[string]int),
	}
	for name, g := range map[string]*gate{"callback": &s.callbacks, "check": &s.checks, "begin": &s.begins, "resume": &s.resumes} {
		now.AtWork[name] = len(g.in)
		now.Waiting[name] = max(0, len(g.present)-now.AtWork[name]) // they aren't read at once
	}
	return now
}

func (s *Server) lastCallback() time.Time {
	if at := s.heard.Load(); at != 0 {
		return time.UnixMilli(at)
	}
	return time.Time{}
}
