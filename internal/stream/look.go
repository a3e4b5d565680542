package stream

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"scanlogin/internal/login"
)

const (
	batch = 10_000 // logins in a query
	// piece is how many logins a look takes along that no hint was about: the next hint
	// has to wait for the query.
	piece = 1_000

	// hintsTake is how long a hint may be on its way at most.
	hintsTake = 3 * time.Second

	firstPause = 50 * time.Millisecond // after a failed look
	longPause  = time.Second
)

// looker finds out what became of logins and tells their streams. There is one, so that
// what a stream is told comes in order; and it takes along all that has come up while
// the last query was under way, so that it keeps up with any number of hints.
type looker struct {
	*Hub
	watches []login.Watch
	hints   map[login.ID]time.Time // those in watches that a hint was about, and since when
	rest    []login.ID             // of all logins, those still to be looked at
	swept   bool                   // rest is the safety sweep's
	pause   time.Duration
}

// lookOut looks at what Wake, WakeAll, the wheel and the safety sweep ask for, until
// ctx ends. The sweep asks for everything about every second, not all instances at once.
func (h *Hub) lookOut(ctx context.Context) {
	k := looker{Hub: h, hints: make(map[login.ID]time.Time)}
	safety := time.NewTimer(aboutASecond())
	defer safety.Stop()
	always := make(chan struct{})
	close(always)
	for {
		var again chan struct{} // nil: wait for something to do
		if k.gather() {
			k.look(ctx)
			again = always
		}
		select {
		case <-ctx.Done():
			return
		case <-safety.C:
			k.sweep()
			safety.Reset(aboutASecond())
		case <-h.kick:
		case <-again:
		}
	}
}

func aboutASecond() time.Duration { return between(750*time.Millisecond, 1250*time.Millisecond) }

// sweep puts every login on the list, unless the list isn't through yet.
func (k *looker) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.countHits()
	if len(k.rest) == 0 {
		k.listAll()
		k.swept = true
	}
}

// listAll needs the lock.
func (k *looker) listAll() {
	k.rest = k.rest[:0]
	for id := range k.byID {
		k.rest = append(k.rest, id)
	}
}

// gather collects the logins to look at next: those that hints were about, and a piece
// of all. It is false when there are none.
func (k *looker) gather() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watches = k.watches[:0]
	clear(k.hints)
	if k.everyone {
		k.everyone, k.swept = false, false
		k.listAll()
	}
	for id, since := range k.wakes {
		if len(k.watches) >= batch {
			break
		}
		delete(k.wakes, id)
		k.hints[id] = since
		k.watch(id)
	}
	for end := len(k.watches) + piece; len(k.rest) > 0 && len(k.watches) < end; {
		last := len(k.rest) - 1
		k.watch(k.rest[last])
		k.rest = k.rest[:last]
	}
	return len(k.watches) > 0
}

// watch adds what the login's streams have seen, which may differ from tab to tab. A
// stream that isn't open yet, but may have read the row already, is looked at once it is.
func (k *looker) watch(id login.ID) {
	from := len(k.watches)
next:
	for s := k.byID[id]; s != nil; s = s.next {
		if s.conn == nil {
			s.marks |= woken
			continue
		}
		w := login.Watch{Ref: s.ref, Seen: s.seen}
		for _, known := range k.watches[from:] {
			if known == w {
				continue next
			}
		}
		k.watches = append(k.watches, w)
	}
}

// look asks for the state of what was gathered and pushes it. Where it fails, everything is
// looked at once it works again.
func (k *looker) look(ctx context.Context) {
	logins, err := k.ask(ctx)
	if err != nil {
		k.failed(ctx, err)
		return
	}
	k.worked()
	for _, l := range logins {
		since, hinted := k.hints[l.ID]
		finds := k.swept && !hinted && l.State != login.Expired
		if finds {
			since = k.find(l.ID)
		}
		switch told := k.push(l); {
		case told > 0:
			k.pushed(l, told, since)
		case finds:
			k.unfind(l.ID)
		}
	}
}

func (k *looker) pushed(l login.Login, streams int, since time.Time) {
	now := time.Now()
	k.took(since, now)
	attrs := []slog.Attr{slog.String("login", l.ID.Short()), slog.String("state", l.State.String()), slog.Int("streams", streams)}
	if !since.IsZero() {
		attrs = append(attrs, slog.Float64("since_ms", milliseconds(now.Sub(since))))
	}
	k.config.Logger.LogAttrs(context.Background(), slog.LevelInfo, "login pushed", attrs...)
	if k.config.Pushed != nil {
		k.config.Pushed(l, since)
	}
}

// find notes that the sweep has found a change that no hint was about yet: between a
// commit and its NOTIFY lies a moment, and the sweep is as likely to look then as ever. Where
// a hint has come meanwhile it returns since when.
func (k *looker) find(id login.ID) (since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	since, hinted := k.wakes[id]
	if !hinted {
		k.found[id] = k.now()
	}
	return since
}

// unfind is for what its streams had been told already.
func (k *looker) unfind(id login.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.found, id)
}

// countHits counts what the sweep found and no hint came about since. It needs the lock.
func (k *looker) countHits() {
	for id, at := range k.found {
		if k.now()-at >= hintsTake {
			delete(k.found, id)
			k.count.sweepHits.Add(1)
		}
	}
}

func (k *looker) ask(ctx context.Context) ([]login.Login, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return k.config.Look(ctx, k.watches)
}

// failed waits before the next try, longer each time; hints in between change nothing.
func (k *looker) failed(ctx context.Context, err error) {
	k.mu.Lock()
	k.everyone, k.failing = true, true
	for id, since := range k.hints {
		k.wake(id, since) // what comes of it has taken that long
	}
	k.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if k.pause == 0 {
		k.config.Logger.Warn("looking at logins fails, streams stay open", "err", err)
	}
	k.pause = min(max(firstPause, 2*k.pause), longPause)
	select {
	case <-ctx.Done():
	case <-time.After(k.pause/2 + rand.N(k.pause/2)):
	}
}

func (k *looker) worked() {
	if k.pause == 0 {
		return
	}
	k.pause = 0
	k.mu.Lock()
	k.failing = false
	k.mu.Unlock()
	k.config.Logger.Info("looking at logins works again")
}

// push tells a login's state to those of its streams that haven't been told. It returns
// how many there were.
func (h *Hub) push(l login.Login) (told int) {
	event := h.Event(l)
	for _, s := range h.untold(l) {
		told++
		if err := s.conn.write(event); err != nil {
			h.drop(s, err)
			continue
		}
		h.count.pushed.Add(1)
		if ended(l.State) {
			h.end(s)
		}
	}
	return told
}

// untold is the login's streams that are to be told its state, marked as told. Those
// that know it may have more time than they thought.
func (h *Hub) untold(l login.Login) (streams []*stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	expires := h.now() + l.ExpiresIn
	for s := h.byID[l.ID]; s != nil; s = s.next {
		switch {
		case s.conn == nil: // about to read the row itself, or woken
		case s.seen == l.State:
			s.expires = expires
		case l.State != login.Waiting: // no login goes back to waiting
			s.seen, s.expires, s.told = l.State, expires, s.told+1
			h.arm(s)
			streams = append(streams, s)
		}
	}
	return streams
}

// Event is what a stream is told of the login as it is now. It is nil for a waiting one,
// whose event has a picture: see [QR].
func (h *Hub) Event(l login.Login) []byte {
	switch l.State {
	case login.Scanned:
		return Scanned(l.Question)
	case login.Authenticated, login.Completed:
		return Success()
	case login.BindRequired:
		return BindRequired(h.config.Signup)
	case login.Declined:
		return Declined()
	case login.Expired:
		return Expired()
	default:
		return nil
	}
}
