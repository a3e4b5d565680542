package audit

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"scanlogin/internal/login"
)

const (
	// gather is for how long what happens again is only counted.
	gather = time.Minute
	// mostEvents is how many different ones are remembered for that time. A flood is a few
	// of them, many times.
	mostEvents = 4096
	// longestName is one character more than the name of an account can have.
	longestName = 65
	// patience bounds one write, lastWords the one at the end.
	patience  = 10 * time.Second
	lastWords = 500 * time.Millisecond
)

// Event is something that was refused.
type Event struct {
	Kind    Kind
	Detail  string
	Account string // the name that was tried, whatever was typed; empty: none was
	Person  string // [Recorder.Person]
	Where
}

// Counted is an event, and how often it happened.
type Counted struct {
	Event
	Times int32
}

// Recorder writes down what was refused, behind the back of whoever was: nobody waits for
// it. The first of its kind from an address is written at once, what follows within a minute
// is one row with their number. A nil Recorder writes nothing.
//
// Set the exported fields before the first call.
type Recorder struct {
	AppID string // of the Official Account, for [Recorder.Person]
	// Write adds rows to the log.
	Write func(ctx context.Context, events []Counted) error
	// Dropped, where it isn't nil, hears how many events are in no row: there were too many
	// different ones at once.
	Dropped func(events int)
	Logger  *slog.Logger

	once sync.Once
	wake chan struct{}

	mu     sync.Mutex
	counts map[event]*Counted // of this minute; Times is what is in no row yet
	fresh  []event            // to be written at once

	failing bool // so that an outage is told once; for Run alone
}

// event is what makes two of them the same. Everything else about an address it can vary at
// no cost.
type event struct {
	kind                    Kind
	detail, account, person string
	from                    netip.Prefix
}

func (e Event) key() event {
	return event{e.Kind, e.Detail, e.Account, e.Person, network(e.Addr)}
}

func (r *Recorder) init() {
	r.wake, r.counts = make(chan struct{}, 1), map[event]*Counted{}
}

// Person names a WeChat user without the openid.
func (r *Recorder) Person(openID string) string {
	if r == nil || openID == "" {
		return ""
	}
	return login.PersonOf(r.AppID, openID)
}

// Note takes down an event that comes from where ctx says, unless the event says it.
func (r *Recorder) Note(ctx context.Context, e Event) {
	if r == nil {
		return
	}
	if e.Where == (Where{}) {
		e.Where = From(ctx)
	}
	e.Account = name(e.Account)
	if !r.count(e) {
		r.drop(1)
	}
}

// name is what of a text can be the name of an account; what is longer is nobody's.
func name(text string) string {
	clean := []rune(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == utf8.RuneError {
			return -1
		}
		return c
	}, text[:min(len(text), 4*longestName)]))
	return string(clean[:min(len(clean), longestName)])
}

func (r *Recorder) drop(events int) {
	if r.Dropped != nil {
		r.Dropped(events)
	}
}

// count returns false where there is no room.
func (r *Recorder) count(e Event) bool {
	r.once.Do(r.init)
	key := e.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.counts[key]; c != nil {
		c.Times++
		return true
	}
	if len(r.counts) >= mostEvents {
		return false
	}
	r.counts[key] = &Counted{e, 1}
	r.fresh = append(r.fresh, key)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

// network is what one connection is given: of IPv6 a /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

// Run writes until ctx ends, and then what is left.
func (r *Recorder) Run(ctx context.Context) {
	r.once.Do(r.init)
	minute := time.NewTicker(gather)
	defer minute.Stop()
	for {
		select {
		case <-r.wake:
			r.write(ctx, r.takeFresh())
		case <-minute.C:
			r.write(ctx, r.takeAll())
		case <-ctx.Done():
			r.writeLast(context.WithoutCancel(ctx))
			return
		}
	}
}

// takeFresh is what nobody has seen before.
func (r *Recorder) takeFresh() (taken []Counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range r.fresh {
		if c := r.counts[key]; c != nil && c.Times > 0 {
			taken = append(taken, *c)
			c.Times = 0
		}
	}
	r.fresh = nil
	return taken
}

// takeAll is whatever was counted. What was not is forgotten: the next one is new.
func (r *Recorder) takeAll() (taken []Counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = nil
	for key, c := range r.counts {
		if c.Times == 0 {
			delete(r.counts, key)
			continue
		}
		taken = append(taken, *c)
		c.Times = 0
	}
	return taken
}

// write keeps what can't be written for the next minute.
func (r *Recorder) write(ctx context.Context, events []Counted) {
	if len(events) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := r.Write(ctx, events)
	if err != nil && !r.failing {
		r.Logger.WarnContext(ctx, "what was refused is not in the audit log yet; trying again", "events", len(events), "err", err)
	}
	r.failing = err != nil
	if err != nil {
		r.putBack(events)
	}
}

// writeLast has no other chance.
func (r *Recorder) writeLast(ctx context.Context) {
	events := r.takeAll()
	if len(events) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := r.Write(ctx, events); err != nil {
		r.Logger.WarnContext(ctx, "what was refused last is not in the audit log", "events", len(events), "err", err)
		r.drop(len(events))
	}
}

func (r *Recorder) putBack(events []Counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if c := r.counts[e.key()]; c != nil {
			c.Times += e.Times
		}
	}
}
