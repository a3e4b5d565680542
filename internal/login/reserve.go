package login

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	reserveTick                      = 250 * time.Millisecond        // while this instance leads
	followTick                       = 2 * time.Second               // while another does
	leadTTL                          = 6 * time.Second               // a leader that stops is replaced after this
	reserveMemory                    = time.Minute                   // how long a busy time is remembered
	reserveWindow                    = 5 * time.Second               // the demand of so long should be ready, twice
	reserveCalls                     = 16                            // codes made at once
	reserveRound                     = time.Second                   // after this a round begins no more codes
	reserveCall                      = 4 * time.Second               // for one code; with the round less than leadTTL
	minReservePause, maxReservePause = time.Second, 30 * time.Second // after a failure
)

// ReserveAge is how long a code may lie ready, besides the time that it can be shown.
const ReserveAge = time.Hour

// ReserveStore keeps codes that were made ahead, one a scene, for whoever claims it next.
type ReserveStore interface {
	// Lead tells whether this instance is the one that prepares, for ttl.
	Lead(ctx context.Context, ttl time.Duration) (bool, error)
	// Resign ends that.
	Resign(ctx context.Context) error
	// Ring returns the value that the ring of scenes gave last, and how many it has.
	Ring(ctx context.Context) (position, size int64, err error)
	// Bare returns, of the n scenes that follow position, those that have no code which
	// can still be shown in fresh from now, nearest first.
	Bare(ctx context.Context, position, size, n int64, fresh time.Duration) ([]int32, error)
	// Prepare gives a scene a code that WeChat keeps for ttl, unless it has a fresh one.
	Prepare(ctx context.Context, scene int32, t Ticket, ttl, fresh time.Duration) error
}

// Reserve makes QR codes before they are asked for, for the scenes that lie ahead of the
// ring's cursor, so that no browser waits for WeChat. One instance does it for all.
type Reserve struct {
	Store   ReserveStore
	Tickets func(ctx context.Context, scene int32, ttl time.Duration) (Ticket, error)
	// Min and Max bound how many codes are kept ready; in between the number follows
	// the demand. Max 0: none.
	Min, Max int32
	SceneTTL time.Duration
	Logger   *slog.Logger

	demand demand
	pause  time.Duration // after failures
}

// Run prepares until ctx ends.
func (r *Reserve) Run(ctx context.Context) {
	if r.Max == 0 {
		return
	}
	leading := false
	for ctx.Err() == nil {
		lead, err := r.Store.Lead(ctx, leadTTL)
		if err == nil {
			if lead && !leading {
				r.demand = demand{}
				r.Logger.InfoContext(ctx, "this instance makes the codes ahead")
			}
			leading = lead
		}
		if err == nil && lead {
			err = r.round(ctx)
		}
		r.rest(ctx, leading, err)
	}
	if leading {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = r.Store.Resign(ctx) // else it runs out
	}
}

// rest waits for the next round, longer each time after failures.
func (r *Reserve) rest(ctx context.Context, leading bool, err error) {
	pause := followTick
	switch {
	case err != nil:
		if r.pause == 0 && ctx.Err() == nil {
			r.Logger.WarnContext(ctx, "no codes can be made ahead; trying again", "err", err)
		}
		r.pause = min(max(2*r.pause, minReservePause), maxReservePause)
		pause = r.pause
	case leading:
		r.pause, pause = 0, reserveTick
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause/2 + rand.N(pause)):
	}
}

// round makes the codes that are missing now.
func (r *Reserve) round(ctx context.Context) error {
	// A code that lies ready must be good for a whole showing, and is renewed before.
	fresh := r.SceneTTL + ReserveAge/4
	position, size, err := r.Store.Ring(ctx)
	if err != nil {
		return fmt.Errorf("asking where the ring stands: %w", err)
	}
	r.demand.see(time.Now(), position, size)
	bare, err := r.Store.Bare(ctx, position, size, r.target(size), fresh)
	if err != nil {
		return fmt.Errorf("looking ahead of the ring: %w", err)
	}
	if r.pause > 0 {
		bare = bare[:min(1, len(bare))] // one is enough to see whether it works again
	}
	return r.prepare(ctx, bare, fresh)
}

// target is how many codes should be ready: at most one a scene.
func (r *Reserve) target(size int64) int64 {
	return min(max(2*r.demand.peak(), int64(r.Min)), int64(r.Max), size)
}

// prepare makes codes for these scenes, nearest first, until one can't be made or the
// round is over. The calls that are under way then come to their end: what WeChat has made
// is not thrown away.
func (r *Reserve) prepare(ctx context.Context, scenes []int32, fresh time.Duration) error {
	begin, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var work sync.WaitGroup
	next := make(chan int32)
	for range min(reserveCalls, len(scenes)) {
		work.Go(func() {
			for scene := range next {
				if err := r.makeCode(ctx, scene, fresh); err != nil {
					stop(err)
				}
			}
		})
	}
	handOut(begin, next, scenes)
	work.Wait()
	return context.Cause(begin)
}

// handOut sends the scenes to whoever is free, until ctx ends or the round is over.
func handOut(ctx context.Context, next chan<- int32, scenes []int32) {
	defer close(next)
	over := time.After(reserveRound)
	for _, scene := range scenes {
		if ctx.Err() != nil {
			return
		}
		select {
		case next <- scene:
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *Reserve) makeCode(ctx context.Context, scene int32, fresh time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, reserveCall)
	defer cancel()
	ttl, began := r.SceneTTL+ReserveAge, time.Now()
	t, err := r.Tickets(ctx, scene, ttl)
	if err != nil {
		return fmt.Errorf("making the code of scene %d ahead: %w", scene, err)
	}
	// WeChat's time runs from somewhere within the call.
	return r.Store.Prepare(ctx, scene, t, ttl-time.Since(began), fresh)
}

// demand remembers how many claims came in the busiest window of late.
type demand struct {
	samples []sample
}

type sample struct {
	at             time.Time
	position, size int64
	claims         int64 // since the first sample
}

// see notes where the ring stands now. Between two looks it goes round once at most, or
// is taken to: a pool that small has no more codes to be made than scenes. Where the pool
// was resized in between, the ring may have moved without a claim.
func (d *demand) see(now time.Time, position, size int64) {
	s := sample{at: now, position: position, size: size}
	if n := len(d.samples); n > 0 {
		last := d.samples[n-1]
		s.claims = last.claims
		if size == last.size {
			s.claims += (position - last.position + size) % size
		}
	}
	d.samples = append(d.samples, s)
	for now.Sub(d.samples[0].at) > reserveMemory {
		d.samples = d.samples[1:]
	}
}

// peak is the largest number of claims within one window.
func (d *demand) peak() (most int64) {
	from := 0
	for _, s := range d.samples {
		for s.at.Sub(d.samples[from].at) > reserveWindow {
			from++
		}
		most = max(most, s.claims-d.samples[from].claims)
	}
	return most
}
