package stream

import (
	"context"
	"time"

	"scanlogin/internal/login"
)

// patience is how long a query may take.
const patience = 5 * time.Second

// turn turns the wheel, a slot a second, until ctx ends.
func (h *Hub) turn(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var work sweep
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := h.now()
			for _, slot := range h.due(now) {
				work.run(h, slot, now)
			}
			h.part(now)
			h.release(now)
		}
	}
}

// due is the slots of the seconds that have passed since the last turn: mostly one.
func (h *Hub) due(now time.Duration) (slots []uint8) {
	h.mu.Lock()
	defer h.mu.Unlock()
	second := int64(now / time.Second)
	n := int64(len(h.wheel))
	for i := max(h.turned, second-n) + 1; i <= second; i++ {
		slots = append(slots, uint8(i%n))
	}
	h.turned = second
	return slots
}

// arm puts a stream into the slot that is swept in the second in which it expires, and
// so at least once a turn. It needs the lock.
func (h *Hub) arm(s *stream) {
	delete(h.wheel[s.slot], s)
	s.slot = h.slot(s.expires)
	h.wheel[s.slot][s] = struct{}{}
}

func (h *Hub) slot(at time.Duration) uint8 {
	second := (max(0, at) + time.Second - 1) / time.Second
	return uint8(int64(second) % int64(len(h.wheel)))
}

// sweep is one slot's work. It keeps its memory from turn to turn.
type sweep struct {
	streams []*stream
	buf     [512]byte
}

// run writes a comment to the streams of a slot, drops those whose peer has left, and
// has a look at those that should have expired: the row decides, by the database's clock.
func (w *sweep) run(h *Hub, slot uint8, now time.Duration) {
	comment := w.take(h, slot, now)
	for _, s := range w.streams {
		err := s.conn.check(w.buf[:])
		if err == nil {
			err = s.conn.write(comment)
		}
		if err != nil {
			h.drop(s, err)
		}
	}
	w.putBack(h, slot)
}

// take copies the slot's streams, so that the system calls are made without the lock.
func (w *sweep) take(h *Hub, slot uint8, now time.Duration) (comment []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.wheel[slot] {
		w.streams = append(w.streams, s)
		if s.expires <= now {
			h.wake(s.ref.ID, time.Time{})
		}
	}
	if len(h.wakes) > 0 {
		nudge(h.kick)
	}
	if h.failing {
		return []byte(unavailable)
	}
	return []byte(heartbeat)
}

// putBack moves the streams whose row had more time than thought. This is the moment
// to: they have just got a comment, so the next one isn't late wherever they go.
func (w *sweep) putBack(h *Hub, slot uint8) {
	h.mu.Lock()
	for _, s := range w.streams {
		if s.marks&gone == 0 && s.slot == slot && h.slot(s.expires) != slot {
			h.arm(s)
		}
	}
	h.mu.Unlock()
	clear(w.streams)
	w.streams = w.streams[:0]
}

// part closes the connections that have had their last event, as soon as the peer has
// hung up too or its time is over.
func (h *Hub) part(now time.Duration) {
	h.mu.Lock()
	partings := h.parting
	h.parting = nil
	h.mu.Unlock()
	var buf [512]byte
	kept := partings[:0]
	for _, p := range partings {
		if now < p.until && p.conn.check(buf[:]) == nil {
			kept = append(kept, p)
			continue
		}
		p.conn.close()
	}
	clear(partings[len(kept):])
	if len(kept) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parting = append(h.parting, kept...)
}

// release hands the streams whose grace is over to the reaper.
func (h *Hub) release(now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.leaving) && h.leaving[n].at <= now {
		h.left = append(h.left, h.leaving[n].ref)
		n++
	}
	h.leaving = h.leaving[n:]
	if n > 0 {
		nudge(h.reap)
	}
}

// reapLeft tells Gone who has left, until ctx ends. What fails is not repeated: it may
// have been counted all the same, and a login counted down twice loses its scene
// under a browser. Counted down too little, it ends with its time.
func (h *Hub) reapLeft(ctx context.Context) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.reap:
		}
		for refs := h.takeLeft(); len(refs) > 0 && ctx.Err() == nil; refs = refs[min(batch, len(refs)):] {
			err := h.tellGone(ctx, refs[:min(batch, len(refs))])
			if err != nil && !failing && ctx.Err() == nil {
				h.config.Logger.Warn("streams that left are not counted", "err", err)
			}
			failing = err != nil
		}
	}
}

func (h *Hub) takeLeft() (refs []login.Ref) {
	h.mu.Lock()
	defer h.mu.Unlock()
	refs, h.left = h.left, nil
	return refs
}

func (h *Hub) tellGone(ctx context.Context, refs []login.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return h.config.Gone(ctx, refs)
}
