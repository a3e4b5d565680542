package stream

import "sync/atomic"

// reason is why a stream ended.
type reason uint8

const (
	completed reason = iota // its last event was told
	hungUp                  // the browser left
	slow                    // the browser didn't read
	drained                 // the instance stops
	reasons
)

// String is the reason in logs and metrics.
func (r reason) String() string {
	return [reasons]string{"completed", "hung_up", "slow", "drained"}[r]
}

type counters struct {
	open                      atomic.Int64
	opened, pushed, sweepHits atomic.Uint64
	dropped                   [reasons]atomic.Uint64
}

// Stats is what happened since the start, for metrics.
type Stats struct {
	Open      int               // streams now
	Opened    uint64            // streams ever
	Pushed    uint64            // events told to open streams
	SweepHits uint64            // logins that no hint was about: NOTIFYs lost, or overtaken
	Dropped   map[string]uint64 // streams ended: completed, hung_up, slow, drained
}

// Stats returns the counts of now.
func (h *Hub) Stats() Stats {
	s := Stats{
		Open:      h.Len(),
		Opened:    h.count.opened.Load(),
		Pushed:    h.count.pushed.Load(),
		SweepHits: h.count.sweepHits.Load(),
		Dropped:   make(map[string]uint64, reasons),
	}
	for r := range reasons {
		s.Dropped[r.String()] = h.count.dropped[r].Load()
	}
	return s
}
