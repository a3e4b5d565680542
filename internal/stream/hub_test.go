package stream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scanlogin/internal/login"
)

// memory is a connection that stays in the bubble: it takes down what is written when.
type memory struct {
	mu     sync.Mutex
	wrote  []entry
	left   error // what the peer's going looks like
	shutAt time.Time
	closed time.Time
}

type entry struct {
	at   time.Time
	text string
}

func (m *memory) write(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrote = append(m.wrote, entry{time.Now(), string(b)})
	return m.left
}

func (m *memory) check([]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

func (m *memory) shut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shutAt = time.Now()
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = time.Now()
}

func (m *memory) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = errHungUp
}

// told is what was written, without heartbeats.
func (m *memory) told() (texts []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.wrote {
		if e.text != heartbeat {
			texts = append(texts, e.text)
		}
	}
	return texts
}

// inBubble runs a test against a running hub whose time is the bubble's.
func inBubble(t *testing.T, c Config, test func(t *testing.T, h *Hub, r *rows, log tap)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, log := newRows(), make(tap, 10_000)
		if c.Look == nil {
			c.Look = r.look
		}
		if c.Gone == nil {
			c.Gone = r.tellGone
		}
		c.Logger = slog.New(log)
		h := NewHub(c)
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		time.Sleep(300 * time.Millisecond) // out of step with the hub's clock
		go func() { _ = h.Run(ctx) }()
		test(t, h, r, log)
	})
}

func (h *Hub) openIn(r *rows, l login.Login) *memory {
	r.mu.Lock()
	r.logins[l.ID] = l
	r.mu.Unlock()
	m := &memory{}
	h.Subscribe(l.ID).open(m, l, []byte("first"))
	return m
}

// pass lets time pass, and all that is due by then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEveryStreamGetsABeat(t *testing.T) {
	const beat = 12 * time.Second
	look := func(_ context.Context, watches []login.Watch) (all []login.Login, _ error) {
		for _, w := range watches { // what the row says moves all the time
			all = append(all, login.Login{Ref: w.Ref, State: w.Seen, ExpiresIn: rand.N(time.Minute)})
		}
		return all, nil
	}
	inBubble(t, Config{Beat: beat, Look: look}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		var streams []*memory
		for n := range byte(100) {
			l := waiting(n)
			l.ExpiresIn = rand.N(time.Minute)
			streams = append(streams, h.openIn(r, l))
			time.Sleep(rand.N(time.Second))
		}
		pass(10 * time.Minute)
		for _, m := range streams {
			for i, e := range m.wrote[1:] {
				if gap := e.at.Sub(m.wrote[i].at); gap > beat {
					t.Fatalf("nothing for %v", gap)
				}
			}
			if last := time.Since(m.wrote[len(m.wrote)-1].at); last > beat || len(m.wrote) < 40 {
				t.Fatalf("%d writes, the last %v ago", len(m.wrote), last)
			}
		}
	})
}

func TestBeatIsKeptToWhatTheContractAllows(t *testing.T) {
	for beat, want := range map[time.Duration]int{0: 12, time.Millisecond: 1, time.Second: 1, 14 * time.Second: 14, time.Hour: 14} {
		if got := len(NewHub(Config{Beat: beat}).wheel); got != want {
			t.Errorf("%v: %d slots", beat, got)
		}
	}
}

// The row's clock runs 15 s behind what this machine would have thought.
func TestExpiryIsDecidedByTheRow(t *testing.T) {
	start := time.Now()
	look := func(_ context.Context, watches []login.Watch) (changed []login.Login, _ error) {
		for _, w := range watches {
			if time.Since(start) >= 45*time.Second {
				changed = append(changed, login.Login{Ref: w.Ref, State: login.Expired})
			}
		}
		return changed, nil
	}
	inBubble(t, Config{Look: look}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		start = time.Now()
		l := waiting(1)
		l.ExpiresIn = 30 * time.Second
		m := h.openIn(r, l)
		pass(44 * time.Second)
		if got := m.told(); len(got) != 1 {
			t.Fatalf("told early: %q", got)
		}
		pass(2500 * time.Millisecond)
		if got := m.told(); len(got) != 2 || got[1] != string(Expired()) {
			t.Fatalf("told: %q", got)
		}
		if h.Stats().SweepHits != 0 {
			t.Error("running out is no lost NOTIFY")
		}
	})
}

func TestExpiryIsLookedIntoInItsSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Config{})
		l := waiting(1)
		l.ExpiresIn = 29*time.Second + time.Millisecond
		h.openIn(newRows(), l)
		for second := time.Second; len(h.wakes) == 0; second += time.Second {
			for _, slot := range h.due(second) {
				new(sweep).run(h, slot, second)
			}
			if woken := len(h.wakes) > 0; woken != (second == 30*time.Second) {
				t.Fatalf("second %v: woken %v", second, woken)
			}
		}
	})
}

func TestBindingHasItsOwnTime(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		l := waiting(1)
		h.openIn(r, l)
		l.State, l.ExpiresIn = login.BindRequired, 10*time.Minute
		h.push(l)
		s := h.byID[l.ID]
		if left := s.expires - h.now(); left != 10*time.Minute {
			t.Errorf("expires in %v", left)
		}
		if _, ok := h.wheel[h.slot(s.expires)][s]; !ok {
			t.Error("not where it expires")
		}
	})
}

func TestLookFailureLosesNoWake(t *testing.T) {
	inBubble(t, Config{Beat: 5 * time.Second}, func(t *testing.T, h *Hub, r *rows, log tap) {
		m := h.openIn(r, waiting(1))
		r.fail(errors.New("no database"))
		r.set(login.ID{1}, login.BindRequired)
		h.Wake(login.Hint{ID: login.ID{1}})
		pass(time.Minute)
		for _, text := range m.told()[1:] {
			if text != unavailable {
				t.Errorf("told: %q", text)
			}
		}
		if n := len(m.told()) - 1; n != 12 {
			t.Errorf("%d comments in a minute", n)
		}
		if n := r.looks(); n > 150 {
			t.Errorf("%d looks in a minute", n)
		}
		r.fail(nil)
		pass(time.Second)
		if got := m.told(); got[len(got)-1] != string(BindRequired(false)) {
			t.Errorf("told: %q", got)
		}
		if h.Stats().SweepHits != 0 {
			t.Error("left to the sweep")
		}
		close(log)
		var lines []string
		for record := range log {
			lines = append(lines, record.Message)
		}
		if !slices.Equal(lines, []string{"looking at logins fails, streams stay open", "looking at logins works again", "login pushed"}) {
			t.Errorf("log: %q", lines)
		}
	})
}

// Whoever was told first, the hint or the sweep, and however long the database was away: each
// login counts once, from the time that its hint had.
func TestHowLongItTookIsMeasuredOnce(t *testing.T) {
	var took []time.Duration
	var told []login.State
	config := Config{Took: func(d time.Duration) { took = append(took, d) }, Pushed: func(l login.Login, _ time.Time) { told = append(told, l.State) }}
	inBubble(t, config, func(t *testing.T, h *Hub, r *rows, _ tap) {
		for n := range byte(4) {
			h.openIn(r, waiting(n+1))
		}
		since := time.Now()
		pass(2 * time.Second)
		r.set(login.ID{1}, login.BindRequired)
		h.Wake(login.Hint{ID: login.ID{1}, Since: since}) // a hint, then the same from elsewhere
		synctest.Wait()
		h.Wake(login.Hint{ID: login.ID{1}, Since: since})
		since = time.Now()
		r.set(login.ID{2}, login.BindRequired)
		pass(1250 * time.Millisecond) // the sweep, then its hint
		h.Wake(login.Hint{ID: login.ID{2}, Since: since})
		h.Wake(login.Hint{ID: login.ID{2}, Since: since})
		r.set(login.ID{3}, login.BindRequired) // a clock that is ahead
		h.Wake(login.Hint{ID: login.ID{3}, Since: time.Now().Add(time.Hour)}, login.Hint{ID: login.ID{9}, Since: since})
		synctest.Wait()
		since = time.Now()
		r.fail(errors.New("no database"))
		r.set(login.ID{4}, login.BindRequired)
		h.Wake(login.Hint{ID: login.ID{4}, Since: since})
		pass(time.Minute)
		r.fail(nil)
		pass(time.Second)
		r.set(login.ID{4}, login.Completed) // which no hint is about
		h.Wake(login.Hint{ID: login.ID{4}})
		synctest.Wait()
	})
	if len(told) != 5 || len(took) != 4 || took[0] != 2*time.Second || took[1] <= 0 || took[1] > 1250*time.Millisecond ||
		took[2] != 0 || took[3] < time.Minute || took[3] > time.Minute+time.Second {
		t.Errorf("told %v, took %v", told, took)
	}
}

func TestLostHintIsFoundBySweep(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		m, hinted := h.openIn(r, waiting(1)), h.openIn(r, waiting(2))
		pass(5 * time.Second)
		r.set(login.ID{2}, login.Authenticated)
		h.Wake(login.Hint{ID: login.ID{2}})
		synctest.Wait()
		if got := hinted.told(); len(got) != 2 {
			t.Errorf("told: %q", got)
		}
		r.set(login.ID{1}, login.Authenticated)
		pass(1250 * time.Millisecond)
		if got := m.told(); len(got) != 2 {
			t.Errorf("told: %q", got)
		}
		pass(5 * time.Second)
		if n := h.Stats().SweepHits; n != 1 {
			t.Errorf("%d sweep hits", n)
		}
	})
}

// The sweep may look just between a commit and its NOTIFY: nothing was lost then.
func TestALateHintIsNoHitOfTheSweep(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		m := h.openIn(r, waiting(1))
		pass(5 * time.Second)
		r.set(login.ID{1}, login.Authenticated)
		pass(1250 * time.Millisecond)
		if got := m.told(); len(got) != 2 {
			t.Errorf("told: %q", got)
		}
		h.Wake(login.Hint{ID: login.ID{1}})
		pass(time.Minute)
		if n := h.Stats().SweepHits; n != 0 {
			t.Errorf("%d hits", n)
		}
	})
}

func TestSweepAsksAboutEveryoneEverySecond(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		const streams = 3*piece + 1
		for n := range streams {
			l := waiting(1)
			l.ID = login.ID{byte(n), byte(n >> 8)}
			h.openIn(r, l)
		}
		pass(time.Minute)
		asked := 0
		for _, watches := range r.asked {
			if len(watches) > piece {
				t.Errorf("%d in one query", len(watches))
			}
			asked += len(watches)
		}
		if sweeps := asked / streams; asked%streams != 0 || sweeps < 50 || sweeps > 75 {
			t.Errorf("asked %d times in a minute", sweeps)
		}
	})
}

// While one query is under way the next hints gather: they are one query, not many.
func TestHintsAreAskedForTogether(t *testing.T) {
	var mu sync.Mutex
	var sizes []int
	look := func(_ context.Context, watches []login.Watch) ([]login.Login, error) {
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(watches))
		return nil, nil
	}
	inBubble(t, Config{Look: look}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		for n := range byte(200) {
			h.openIn(r, waiting(n))
		}
		for n := range byte(200) {
			h.Wake(login.Hint{ID: login.ID{n}})
			if n == 0 {
				synctest.Wait() // the first query is under way
			}
		}
		pass(250 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(sizes, []int{1, 199}) {
			t.Errorf("queries: %v", sizes)
		}
	})
}

func TestLeavingIsCountedAfterGraceAndOnce(t *testing.T) {
	const grace = 15 * time.Second
	var mu sync.Mutex
	var calls []login.Ref
	failing := func(_ context.Context, refs []login.Ref) error {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, refs...)
		return errors.New("no database")
	}
	inBubble(t, Config{Beat: time.Second, Grace: grace, Gone: failing}, func(t *testing.T, h *Hub, r *rows, log tap) {
		counted := func() int { mu.Lock(); defer mu.Unlock(); return len(calls) }
		for _, m := range []*memory{h.openIn(r, waiting(1)), h.openIn(r, waiting(1))} {
			m.hangUp()
		}
		pass(grace)
		if n := counted(); n != 0 {
			t.Errorf("%d counted early", n)
		}
		pass(3 * time.Second)
		if n := counted(); n != 2 {
			t.Errorf("%d counted", n)
		}
		h.openIn(r, waiting(2)).hangUp()
		pass(time.Hour)
		if n := counted(); n != 3 {
			t.Errorf("%d counted", n)
		}
		close(log)
		warned := 0
		for record := range log {
			if record.Level == slog.LevelWarn {
				warned++
			}
		}
		if warned != 1 {
			t.Errorf("%d warnings", warned)
		}
	})
}

func TestHangingQueriesHoldUpNoBeat(t *testing.T) {
	look := func(ctx context.Context, _ []login.Watch) ([]login.Login, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	gone := func(ctx context.Context, _ []login.Ref) error {
		<-ctx.Done()
		return ctx.Err()
	}
	inBubble(t, Config{Beat: time.Second, Look: look, Gone: gone}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		m := h.openIn(r, waiting(1))
		h.openIn(r, waiting(2)).hangUp()
		pass(time.Minute)
		if n := len(m.wrote); n < 60 {
			t.Errorf("%d writes in a minute", n)
		}
	})
}

func TestPeerThatNeverHangsUpIsClosed(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		stays, goes := h.openIn(r, waiting(1)), h.openIn(r, waiting(2))
		for _, id := range []login.ID{{1}, {2}} {
			r.set(id, login.Completed)
			h.Wake(login.Hint{ID: id})
		}
		synctest.Wait()
		goes.hangUp()
		pass(5 * time.Second)
		if after := stays.closed.Sub(stays.shutAt); after < linger || after > linger+time.Second {
			t.Errorf("closed after %v", after)
		}
		if after := goes.closed.Sub(goes.shutAt); after > time.Second {
			t.Errorf("closed after %v", after)
		}
	})
}

func TestWakesForStrangersAreForgotten(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, _ tap) {
		for n := range byte(100) {
			h.Wake(login.Hint{ID: login.ID{n}})
		}
		h.WakeAll()
		pass(time.Minute)
		if n := r.looks(); n != 0 || len(h.wakes) != 0 {
			t.Errorf("%d looks", n)
		}
	})
}

func TestPushThatFailsEndsOneStreamOnly(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *Hub, r *rows, log tap) {
		good, bad, alsoGood := h.openIn(r, waiting(1)), h.openIn(r, waiting(1)), h.openIn(r, waiting(1))
		bad.mu.Lock()
		bad.left = errSlow
		bad.mu.Unlock()
		r.set(login.ID{1}, login.BindRequired)
		h.Wake(login.Hint{ID: login.ID{1}})
		synctest.Wait()
		if why := log.ended(t); why != "slow" || h.Len() != 2 || bad.closed.IsZero() {
			t.Errorf("%s, %d streams", why, h.Len())
		}
		for _, m := range []*memory{good, alsoGood} {
			if len(m.told()) != 2 || !m.closed.IsZero() {
				t.Errorf("told: %q", m.told())
			}
		}
		pass(time.Minute)
		if len(r.gone) != 0 {
			t.Error("a login that was scanned is not left")
		}
	})
}
