package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"scanlogin/internal/e2e/proc"
)

// What somebody does who wants to log in.
const (
	doScan      = "scan"
	doNothing   = "nothing"    // leaves without a scan
	doTwoPeople = "two people" // scan the same code at about the same time
	doTab       = "tab"        // opens a second tab
	doAway      = "away"       // closes the browser, comes back, scans before or after
	doAwayLate  = "away late"  // scans, and closes the browser for a while at that moment
	doGone      = "gone"       // scans, and closes the browser for good
	doBind      = "bind"       // is here for the first time
)

// habits are what happens in one visit, drawn from the seed.
type habits struct {
	do        string
	think     time.Duration
	away      time.Duration
	twice     bool // both of two tabs complete the login, at the same moment
	picture   bool // somebody photographs the code
	forgetful bool // a page that doesn't close its stream when the login has ended
	renew     bool // asks for a new code when one has expired
	early     bool // with doAway: scans while away
}

func (w *world) drawHabits(n int) habits {
	r := rand.New(rand.NewPCG(w.seed, uint64(1_000_000+n)))
	h := habits{
		do:    doScan,
		think: time.Second + rand2(r, 0, 10*time.Second), away: 200*time.Millisecond + rand2(r, 0, 4*time.Second),
		twice: r.IntN(8) == 0, picture: r.IntN(4) == 0, forgetful: r.IntN(20) == 0, renew: r.IntN(4) > 0, early: r.IntN(2) == 0,
	}
	h.think /= time.Duration(w.haste)
	share := r.IntN(100)
	for _, c := range []struct {
		do    string
		share int
	}{{doNothing, 6}, {doTwoPeople, 10}, {doTab, 10}, {doAway, 10}, {doAwayLate, 6}, {doGone, 4}, {doBind, 2}} {
		if share < c.share {
			h.do = c.do
			break
		}
		share -= c.share
	}
	return h
}

// browser is one person's visit: cookies, and the tabs that share them.
type browser struct {
	w      *world
	n      int
	jar    jar
	habits habits
	who    person

	renewing context.Context // until it ends, new codes are asked for
	fresh    chan struct{}   // a code that wasn't shown before
	over     chan struct{}   // closed at the end of the visit
	end      sync.Once
	in       atomic.Bool // logged in

	mu      sync.Mutex
	current *code

	tabs     sync.WaitGroup
	closeAll context.CancelFunc // of the open tabs
}

// visits keeps n browsers busy until no more logins are begun, and waits for all of them.
func (w *world) visits(ctx, beginning context.Context) {
	var (
		work sync.WaitGroup
		mu   sync.Mutex
		last int
	)
	next := func() int {
		mu.Lock()
		defer mu.Unlock()
		last++
		return last
	}
	for n := range w.browsers {
		work.Go(func() {
			// Not all in the first second.
			proc.Pause(beginning, time.Duration(n)*2*time.Second/time.Duration(w.browsers))
			for beginning.Err() == nil {
				w.visit(ctx, beginning, next())
			}
		})
	}
	work.Wait()
}

func (w *world) visit(ctx, beginning context.Context, n int) {
	b := &browser{
		w: w, n: n, habits: w.drawHabits(n), renewing: beginning,
		fresh: make(chan struct{}, 1), over: make(chan struct{}),
	}
	var home chan person
	b.who, home = w.person(b.habits.do)
	if home == nil {
		b.habits.do = doScan
		b.who, home = <-w.crowd.known, w.crowd.known
	}
	ctx, leave := context.WithCancel(ctx)
	var phones sync.WaitGroup
	b.open(ctx, 1)
	b.story(ctx, &phones)
	if b.in.Load() {
		b.leave("gone") // to where they wanted to go; the other tabs are closed
	}
	leave()
	b.tabs.Wait()
	w.journal.add(entry{Kind: kindDone, Browser: n, Detail: b.habits.do})
	phones.Wait()
	if b.habits.do != doBind {
		home <- b.who
	}
}

// person is somebody to make that visit, and where they go afterwards; nil where there is
// nobody left.
func (w *world) person(do string) (person, chan person) {
	from := w.crowd.known
	if do == doBind {
		from = w.crowd.fresh
	}
	select {
	case p := <-from:
		return p, from
	default:
		return person{}, nil
	}
}

// open opens tabs first..last.
func (b *browser) open(ctx context.Context, tabs ...int) {
	ctx, b.closeAll = context.WithCancel(ctx)
	for _, n := range tabs {
		b.tabs.Go(func() { (&tab{browser: b, n: n}).run(ctx) })
	}
}

// leave closes the browser; it keeps its cookies.
func (b *browser) leave(detail string) {
	b.w.journal.add(entry{Kind: kindLeave, Browser: b.n, Detail: detail})
	b.closeAll()
	b.tabs.Wait()
}

// story is the visit from the first code on.
func (b *browser) story(ctx context.Context, phones *sync.WaitGroup) {
	defer func() { b.closeAll() }()
	if !b.nextCode(ctx) {
		return
	}
	if b.habits.picture {
		b.w.crowd.photograph(b.shown())
	}
	scan := func(who person) {
		ticket := b.shown().ticket
		phones.Go(func() { b.w.phone(ctx, who, ticket) })
	}
	think := b.habits.think
	switch b.habits.do {
	case doNothing:
		b.wait(b.renewing, 2*think+b.habits.away)
		b.leave("gone")
		return
	case doTab:
		b.second(ctx)
	case doAway:
		b.wait(ctx, think/2)
		b.leave("back")
		proc.Pause(ctx, b.habits.away/2)
		if b.habits.early {
			scan(b.who)
		}
		proc.Pause(ctx, b.habits.away/2)
		b.back(ctx)
	}
	b.wait(ctx, think)
	if b.habits.do != doAway || !b.habits.early {
		scan(b.who)
	}
	switch b.habits.do {
	case doTwoPeople:
		if other, home := b.w.person(doScan); home != nil {
			proc.Pause(ctx, b.habits.away/16)
			scan(other)
			defer func() { home <- other }()
			defer phones.Wait()
		}
	case doAwayLate:
		proc.Pause(ctx, b.habits.away/64)
		b.leave("back")
		proc.Pause(ctx, b.habits.away)
		b.back(ctx)
	case doGone:
		proc.Pause(ctx, b.habits.away/64)
		b.leave("gone")
		return
	}
	// Whatever new code is shown, because the first one was not scanned in time, is scanned.
	for b.nextCode(ctx) {
		b.wait(ctx, think/2)
		scan(b.who)
	}
}

func (b *browser) back(ctx context.Context) {
	b.w.journal.add(entry{Kind: kindBack, Browser: b.n})
	b.open(ctx, 1)
}

// second opens another tab beside the first, as long as that is there.
func (b *browser) second(ctx context.Context) {
	first := b.closeAll
	b.open(ctx, 2)
	second := b.closeAll
	b.closeAll = func() {
		first()
		second()
	}
}

// wait is for somebody who sits before the browser, as long as the visit isn't over.
func (b *browser) wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-b.over:
	}
}

// nextCode waits for a code that was not shown before; false when none will come.
func (b *browser) nextCode(ctx context.Context) bool {
	select {
	case <-b.fresh:
		return true
	case <-ctx.Done():
	case <-b.over:
	}
	return false
}

func (b *browser) shown() *code {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

func (b *browser) show(ticket string, scene int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil && b.current.ticket == ticket {
		return
	}
	if b.current != nil {
		b.w.crowd.end(b.current)
	}
	b.current = b.w.crowd.show(ticket, scene)
	select {
	case b.fresh <- struct{}{}:
	default:
	}
}

// finish ends the visit.
func (b *browser) finish() {
	b.end.Do(func() {
		if c := b.shown(); c != nil {
			b.w.crowd.end(c)
		}
		close(b.over)
	})
}
