package main

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// idleRequests is how many connections are kept for requests to one target.
const idleRequests = 256

// swarm is the load of one process.
type swarm struct {
	plan
	tally  *tally
	dialer net.Dialer
	client http.Client // for what is no stream
	work   sync.WaitGroup
	held   []*browser // written during the ramp, read afterwards
	over   atomic.Pointer[time.Time]
}

func newSwarm(p plan) *swarm {
	s := &swarm{plan: p, tally: newTally()}
	s.dialer = net.Dialer{Timeout: patience, KeepAlive: -1} // as heartbeats come anyway
	if p.source != "" {
		s.dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(p.source)}
	}
	addrs := map[string]string{}
	for _, t := range p.targets {
		addrs[t.host] = t.addr
	}
	s.client = http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return s.dialer.DialContext(ctx, network, addrs[addr])
			},
			MaxIdleConnsPerHost: idleRequests,
			IdleConnTimeout:     10 * time.Second,
		},
		// A redirect could lead anywhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// run is the whole load: the ramp, the window, the grace. An end of ctx ends the first
// two; what is under way still has its grace then.
func (s *swarm) run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	defer s.work.Wait()
	all, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	acting, stop := context.WithCancel(ctx)
	defer stop()

	start := time.Now()
	s.openStreams(acting, all)
	ramp := time.Since(start)
	start = time.Now()
	s.tally.progress(ramp, 0)

	window, cancel := context.WithTimeout(acting, time.Duration(s.For))
	defer cancel()
	var schedules sync.WaitGroup
	schedules.Go(func() { s.begin(window, all) })
	schedules.Go(func() { s.scanStreams(window, all) })
	schedules.Go(func() { s.churnStreams(window) })
	<-window.Done()
	stop()
	schedules.Wait()
	s.over.Store(new(time.Now()))
	s.tally.progress(ramp, time.Since(start))
	s.settle(all)
}

// windowEnd is when the window was over; now, as long as it isn't.
func (s *swarm) windowEnd() time.Time {
	if over := s.over.Load(); over != nil {
		return *over
	}
	return time.Now()
}

// openStreams opens the streams that are held, one after the other at the rate of the
// ramp, and waits for their codes, if not for ever.
func (s *swarm) openStreams(acting, all context.Context) {
	if s.Streams == 0 {
		return
	}
	ctx, enough := context.WithCancel(acting)
	defer enough()
	gap := func() time.Duration { return time.Duration(float64(time.Second) / s.Ramp) }
	schedule(ctx, gap, func(due time.Time) {
		b := s.browse("ramp", due)
		s.held = append(s.held, b)
		s.work.Go(func() { s.hold(acting, all, b) })
		if len(s.held) == s.Streams {
			enough()
		}
	})
	s.settle(acting)
}

// hold keeps an idle stream open, with a new code when one has run out.
func (s *swarm) hold(acting, all context.Context, b *browser) {
	defer b.close()
	defer b.show(code{}, time.Time{})
	for {
		e, err := b.next(all)
		if err != nil {
			return
		}
		if e.name == "qr" {
			if c, err := b.shown(e); err == nil {
				b.show(c, e.at)
			}
			continue
		}
		s.tally.add(countOf(e.name), 1)
		scanned := b.tell(e)
		if acting.Err() != nil {
			return
		}
		if scanned && e.name == "bind-required" {
			continue // nobody binds
		}
		b.renew(e.at.Add(rand.N(time.Second)))
	}
}

// begin lets people arrive.
func (s *swarm) begin(window, all context.Context) {
	if s.Logins == 0 {
		return
	}
	schedule(window, poisson(s.Logins), func(due time.Time) {
		s.tally.add("logins", 1)
		s.tally.add("awaited", 1)
		s.work.Go(func() {
			defer s.tally.add("awaited", -1)
			s.login(window, all, due)
		})
	})
}

// scanStreams lets people scan what held streams show, each once. What a stream shows no
// more, or not yet, is left out.
func (s *swarm) scanStreams(window, all context.Context) {
	if s.Scans == 0 {
		return
	}
	ctx, enough := context.WithCancel(window)
	defer enough()
	left := rand.Perm(len(s.held))
	schedule(ctx, poisson(s.Scans), func(due time.Time) {
		for len(left) > 0 {
			b := s.held[left[0]]
			left = left[1:]
			if c, sc, ok := b.offer(due); ok {
				s.tally.add("awaited", 1)
				s.work.Go(func() {
					defer s.tally.add("awaited", -1)
					s.scanStream(all, b, sc, c)
				})
				return
			}
		}
		enough()
	})
}

// churnStreams lets held streams lose their connection.
func (s *swarm) churnStreams(window context.Context) {
	if s.Churn == 0 {
		return
	}
	schedule(window, poisson(s.Churn), func(due time.Time) {
		for range 20 { // one that is on its way back can't be lost
			if s.held[rand.IntN(len(s.held))].hangUp(due) {
				s.tally.begin(due)
				s.tally.add("hangups", 1)
				return
			}
		}
	})
}

// settle waits until nothing is under way, for the grace at most.
func (s *swarm) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.Grace))
	defer cancel()
	for s.tally.count("awaited") > 0 && sleepUntil(ctx, time.Now().Add(10*time.Millisecond)) == nil {
	}
}

func (s *swarm) anyTarget() target { return s.targets[rand.IntN(len(s.targets))] }

// schedule calls do at the moments that gap gives the distances of, until ctx ends. They
// don't depend on how long anything takes: who is behind catches up. do must not block.
func schedule(ctx context.Context, gap func() time.Duration, do func(due time.Time)) {
	for due := time.Now().Add(gap()); sleepUntil(ctx, due) == nil; due = due.Add(gap()) {
		do(due)
	}
}

// poisson are the distances of moments that have nothing to do with each other, so many
// a second.
func poisson(rate float64) func() time.Duration {
	return func() time.Duration { return time.Duration(rand.ExpFloat64() / rate * float64(time.Second)) }
}
