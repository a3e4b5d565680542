package login_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scanlogin/internal/login"
)

const (
	sceneTTL = 3 * time.Minute
	hourPlus = time.Hour + sceneTTL // how long WeChat keeps a code that is made ahead
)

// ring is a ReserveStore and WeChat in memory, by the clock of a synctest bubble.
type ring struct {
	t *testing.T

	mu       sync.Mutex
	position int64
	size     int64
	ready    map[int32]time.Time // until when WeChat keeps the code
	leader   bool                // whether the lease can be had
	leads    int                 // asked for
	resigned int
	leadErr  error
	calls    []int32       // scenes that codes were made for, in order
	tries    []time.Time   // when WeChat was asked
	latency  time.Duration // of WeChat
	broken   error         // what WeChat says
	running  int
	most     int // calls at once
}

func newRing(t *testing.T, scenes int64) *ring {
	return &ring{t: t, size: scenes + 1, ready: map[int32]time.Time{}, leader: true, latency: 50 * time.Millisecond}
}

func (r *ring) Lead(ctx context.Context, ttl time.Duration) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leads++
	if ttl < time.Second {
		r.t.Errorf("a lease of %v", ttl)
	}
	if r.leadErr != nil {
		return false, r.leadErr
	}
	return r.leader, ctx.Err()
}

func (r *ring) Resign(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resigned++
	return ctx.Err()
}

func (r *ring) Ring(context.Context) (position, size int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.position, r.size, nil
}

func (r *ring) Bare(_ context.Context, position, size, n int64, fresh time.Duration) (bare []int32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for step := range n {
		scene := int32((position + 1 + step) % size)
		if scene > 0 && time.Until(r.ready[scene]) < fresh {
			bare = append(bare, scene)
		}
	}
	return bare, nil
}

func (r *ring) Prepare(_ context.Context, scene int32, code login.Ticket, ttl, fresh time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if code.Ticket == "" || ttl > hourPlus-r.latency {
		r.t.Errorf("scene %d: WeChat keeps %+v for less than %v", scene, code, ttl)
	}
	if time.Until(r.ready[scene]) < fresh {
		r.ready[scene] = time.Now().Add(ttl)
	}
	return nil
}

func (r *ring) tickets(ctx context.Context, scene int32, ttl time.Duration) (login.Ticket, error) {
	r.mu.Lock()
	r.calls = append(r.calls, scene)
	r.tries = append(r.tries, time.Now())
	r.running++
	r.most = max(r.most, r.running)
	latency, broken := r.latency, r.broken
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.running--
		r.mu.Unlock()
	}()
	if ttl != hourPlus {
		r.t.Errorf("a code for %v", ttl)
	}
	if end, limited := ctx.Deadline(); !limited || time.Until(end) > 4*time.Second {
		r.t.Error("a call that may outlast the lease")
	}
	select {
	case <-ctx.Done():
		return login.Ticket{}, ctx.Err()
	case <-time.After(latency):
	}
	return login.Ticket{Ticket: "ticket", URL: "url"}, broken
}

// count is how many of the next n scenes have a code that can be shown now.
func (r *ring) count(n int64) (ready int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for step := range n {
		scene := int32((r.position + 1 + step) % r.size)
		if time.Until(r.ready[scene]) >= sceneTTL {
			ready++
		}
	}
	return ready
}

// claim goes on by n scenes and returns how many had no code.
func (r *ring) claim(n int) (bare int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		r.position = (r.position + 1) % r.size
		scene := int32(r.position)
		if scene > 0 && time.Until(r.ready[scene]) < sceneTTL {
			bare++
		}
		delete(r.ready, scene)
	}
	return bare
}

func (r *ring) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *ring) made() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// run runs a reserve in a bubble, calls story beside it, and returns the log.
func (r *ring) run(least, most int32, story func()) string {
	r.t.Helper()
	var log bytes.Buffer
	ctx, stop := context.WithCancel(r.t.Context())
	reserve := &login.Reserve{
		Store: r, Tickets: r.tickets, Min: least, Max: most, SceneTTL: sceneTTL,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	var work sync.WaitGroup
	work.Go(func() { reserve.Run(ctx) })
	story()
	stop()
	began := time.Now()
	work.Wait()
	if took := time.Since(began); took > 0 {
		r.t.Errorf("it took %v to stop", took)
	}
	return log.String()
}

func TestTheFloorIsReadyWhenCalm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 1000)
		r.run(20, 200, func() {
			time.Sleep(5 * time.Second)
			if n := r.count(1000); n != 20 || r.count(20) != 20 {
				t.Errorf("%d are ready, %d of them next", n, r.count(20))
			}
			time.Sleep(10 * time.Minute)
			if n := r.made(); n != 20 {
				t.Errorf("%d were made while nobody came", n)
			}
			for range 60 { // one every 2 seconds: below the floor
				time.Sleep(2 * time.Second)
				if bare := r.claim(1); bare > 0 {
					t.Error("a claim had to make its own")
				}
			}
			if n := r.made(); n < 75 || n > 85 {
				t.Errorf("%d were made for 60 claims and a floor of 20", n)
			}
		})
		if r.resigned != 1 {
			t.Errorf("resigned %d times", r.resigned)
		}
		if r.most > 16 {
			t.Errorf("%d calls at once", r.most)
		}
	})
}

func TestTheReserveFollowsDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 10_000)
		r.run(10, 300, func() {
			time.Sleep(5 * time.Second)
			busy := func(perSecond int) (bare int) {
				for range 30 * 10 {
					time.Sleep(time.Second / 10)
					bare += r.claim(perSecond / 10)
				}
				return bare
			}
			if bare := busy(20); bare > 50 { // till the demand is known
				t.Errorf("%d of 600 claims had to make their own", bare)
			}
			if n := r.count(1000); n < 180 || n > 220 { // two windows of 5 s
				t.Errorf("%d are ready at 20 claims a second", n)
			}
			busy(60)
			time.Sleep(5 * time.Second)
			if n := r.count(1000); n != 300 {
				t.Errorf("%d are ready at 60 claims a second, want the most that may be", n)
			}
			made := r.made()
			time.Sleep(2 * time.Minute)
			if n := r.made(); n != made {
				t.Errorf("%d more were made when it was calm again", n-made)
			}
		})
	})
}

func TestTheReserveIsCalmAMinuteAfterwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 10_000)
		r.run(10, 300, func() {
			time.Sleep(5 * time.Second)
			r.claim(40)
			time.Sleep(5 * time.Second)
			if n := r.count(1000); n != 80 {
				t.Errorf("%d are ready after 40 claims at once", n)
			}
			time.Sleep(61 * time.Second)
			r.claim(1) // fewer than there are: none is missing
			made := r.made()
			time.Sleep(5 * time.Second)
			if n := r.made(); n != made {
				t.Errorf("%d were made beyond the floor", n-made)
			}
		})
	})
}

func TestCodesAreRenewedBeforeTheyAreTooOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 100)
		r.run(8, 8, func() {
			time.Sleep(5 * time.Second)
			for range 100 {
				time.Sleep(time.Minute)
				if n := r.count(8); n != 8 {
					t.Fatalf("%d of 8 can be shown", n)
				}
			}
			if n := r.made(); n != 3*8 {
				t.Errorf("%d were made in 100 minutes to keep 8, want each twice more", n)
			}
		})
	})
}

func TestFailuresBackOffAndRecover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 100)
		r.broken = errBroken
		log := r.run(20, 50, func() {
			time.Sleep(10 * time.Minute)
			// 16 at once, then one a try: 44 tries at the most, when chance makes every pause
			// the shortest.
			if n := r.made(); n > 16+44 {
				t.Errorf("WeChat was asked %d times in 10 minutes", n)
			}
			if gap := r.tries[len(r.tries)-1].Sub(r.tries[0]); gap < 9*time.Minute {
				t.Errorf("given up after %v", gap)
			}
			r.set(func() { r.broken = nil })
			time.Sleep(time.Minute)
			if n := r.count(20); n != 20 {
				t.Errorf("%d of 20 are ready when WeChat answers again", n)
			}
			made := r.made()
			r.claim(10)
			time.Sleep(2 * time.Second) // as quick as ever
			if n := r.made(); n != made+10 {
				t.Errorf("%d were made for 10 claims", n-made)
			}
		})
		if n := strings.Count(log, "level=WARN"); n != 1 {
			t.Errorf("%d warnings of one outage:\n%s", n, log)
		}
	})
}

// WeChat is so slow that a round can't make all: no failure, and nothing is thrown away.
func TestASlowWeChatIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 1000)
		r.latency = 3 * time.Second
		log := r.run(400, 400, func() {
			time.Sleep(3 * time.Minute)
			if n := r.count(400); n != 400 || r.made() != 400 {
				t.Errorf("%d are ready, of %d made", n, r.made())
			}
		})
		if strings.Contains(log, "level=WARN") {
			t.Error(log)
		}
	})
}

func TestACodeThatDoesNotComeIsGivenUpOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 100)
		r.latency = time.Hour
		r.run(20, 20, func() {
			time.Sleep(20 * time.Second)
			r.set(func() { r.latency = 50 * time.Millisecond })
			time.Sleep(time.Minute)
			if n := r.count(20); n != 20 {
				t.Errorf("%d of 20 are ready when WeChat answers again", n)
			}
			r.set(func() { r.latency = time.Hour })
			r.claim(20)
			time.Sleep(time.Second) // the end, while calls are under way
		})
	})
}

func TestNothingIsMadeAheadWithMaxZero(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 100)
		r.run(0, 0, func() {
			time.Sleep(time.Minute)
			r.claim(50)
			time.Sleep(time.Minute)
		})
		if r.made() > 0 || r.leads > 0 || r.resigned > 0 {
			t.Errorf("%d made, asked %d times to lead", r.made(), r.leads)
		}
	})
}

func TestOnlyTheLeaderMakesCodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 100)
		r.leader = false
		r.run(20, 20, func() {
			time.Sleep(time.Minute)
			if n := r.made(); n > 0 {
				t.Errorf("%d made by who doesn't lead", n)
			}
			if r.leads > 60 {
				t.Errorf("asked %d times a minute to lead", r.leads)
			}
			r.set(func() { r.leader = true })
			time.Sleep(5 * time.Second)
			if n := r.count(20); n != 20 {
				t.Errorf("%d of 20 are ready", n)
			}
			for _, lose := range []func(){
				func() { r.leader = false },
				func() { r.leader, r.leadErr = true, errBroken },
			} {
				time.Sleep(5 * time.Second)
				r.set(lose)
				time.Sleep(time.Second)
				made := r.made()
				r.claim(20)
				time.Sleep(time.Minute)
				if n := r.made(); n != made {
					t.Errorf("%d were made without the lease", n-made)
				}
				r.set(func() { r.leader, r.leadErr = true, nil })
				time.Sleep(45 * time.Second)
				if n := r.count(20); n != 20 {
					t.Errorf("%d of 20 are ready, with the lease again", n)
				}
			}
		})
	})
}

func TestTheNearestAreMadeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 60)
		r.position = 50
		r.run(40, 40, func() { time.Sleep(5 * time.Second) })
		var want []int32
		for step := range int32(40) {
			if scene := (51 + step) % 61; scene > 0 {
				want = append(want, scene)
			}
		}
		for i, scene := range r.calls { // 16 are made at once, in any order among themselves
			if d := slices.Index(want, scene) - i; d < -16 || d > 16 {
				t.Errorf("scene %d was number %d", scene, i)
			}
		}
		if n := len(r.calls); n != len(want) {
			t.Errorf("%d were made, want %d", n, len(want))
		}
	})
}

// A pool that was resized has moved its ring: that is no demand.
func TestAResizeIsNoDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 500)
		r.position = 400
		r.run(10, 1000, func() {
			time.Sleep(5 * time.Second)
			for _, to := range []struct{ position, size int64 }{{500, 10_001}, {-1, 101}, {5, 101}, {0, 2}, {1, 2001}} {
				r.set(func() { r.position, r.size = to.position, to.size })
				time.Sleep(5 * time.Second)
				if n := r.count(to.size); n > 40 {
					t.Errorf("%d are ready after a resize to %+v", n, to)
				}
			}
			if n := r.made(); n > 60 {
				t.Errorf("%d were made", n)
			}
		})
	})
}
