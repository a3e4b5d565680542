package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// lateAfter is how much later than planned a step may begin before it counts as late.
const lateAfter = 10 * time.Millisecond

// countNames are what is counted, in the order of the summary. Those that have kinds
// ("errors", "unavailable") are counted as "errors.open: refused".
func countNames() []string {
	return []string{
		"logins", "codes", "scans", "acknowledged", "pushed", "success", "bind_required", "completed", "bound", // a login's way
		"expired", "unavailable", "lost", "unanswered", "unfinished", "changed", "stopped", // what else became of it
		"open", "opened", "hangups", "reconnects", "callback_retries", "requests", "errors", "steps", "late", // what it took
	}
}

// tally is what happened so far. Its methods may be called by anybody at any time, but sum
// and what else reads all of it: those are for a merged copy.
type tally struct {
	mu         sync.Mutex
	Counts     map[string]int64     // by name, and by name.kind; "open" goes down too
	Histograms map[string]histogram // in microseconds, 1 to an hour, 3 digits
	Ramp       time.Duration        // how long it took to hold the streams
	Window     time.Duration        // how long the load lasted then
}

func newTally() *tally {
	return &tally{Counts: map[string]int64{}, Histograms: map[string]histogram{}}
}

// progress notes how long the phases took.
func (t *tally) progress(ramp, window time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Ramp, t.Window = ramp, window
}

func (t *tally) count(name string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Counts[name]
}

func (t *tally) add(name string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Counts[name] += n
}

// fail counts an error of what was being done.
func (t *tally) fail(doing string, err error) { t.add("errors."+doing+": "+kind(err), 1) }

func (t *tally) record(name string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.histogram(name)
	_ = h.RecordValue(min(max(0, d.Microseconds()), h.HighestTrackableValue())) // is in range
}

// span is a step that was due, begun and ended then.
func (t *tally) span(name string, due, begun, ended time.Time) {
	t.record(name, ended.Sub(due))
	t.record(name+".service", ended.Sub(begun))
}

// begin counts a step that was due then and begins now, which it returns.
func (t *tally) begin(due time.Time) time.Time {
	now := time.Now()
	t.add("steps", 1)
	if now.Sub(due) > lateAfter {
		t.add("late", 1)
	}
	return now
}

// histogram wants the lock.
func (t *tally) histogram(name string) histogram {
	h, ok := t.Histograms[name]
	if !ok {
		h = newHistogram()
		t.Histograms[name] = h
	}
	return h
}

// merge adds what another process counted.
func (t *tally) merge(other *tally) {
	other.mu.Lock()
	defer other.mu.Unlock()
	for name, n := range other.Counts {
		t.Counts[name] += n
	}
	for name, h := range other.Histograms {
		t.histogram(name).Merge(h.Histogram)
	}
	t.Ramp, t.Window = max(t.Ramp, other.Ramp), max(t.Window, other.Window)
}

// merged is the sum of the parts that are there, and nobody else's.
func merged(parts ...*tally) *tally {
	sum := newTally()
	for _, t := range parts {
		if t != nil {
			sum.merge(t)
		}
	}
	return sum
}

// sum is a count with all its kinds.
func (t *tally) sum(name string) int64 {
	var n int64
	for key, v := range t.Counts {
		if key == name || strings.HasPrefix(key, name+".") {
			n += v
		}
	}
	return n
}

// histogram travels in HdrHistogram's V2 encoding.
type histogram struct{ *hdr.Histogram }

func newHistogram() histogram { return histogram{hdr.New(1, time.Hour.Microseconds(), 3)} }

// MarshalText makes it fit for JSON.
func (h histogram) MarshalText() ([]byte, error) {
	return h.Encode(hdr.V2CompressedEncodingCookieBase)
}

// UnmarshalText reads what MarshalText wrote.
func (h *histogram) UnmarshalText(b []byte) (err error) {
	h.Histogram, err = hdr.Decode(b)
	return err
}

// shortError is an error that needs no other kind than its text.
type shortError string

func (e shortError) Error() string { return string(e) }

// kind names an error in one or two words, so that the summary can count it.
func kind(err error) string {
	if e, ok := errors.AsType[shortError](err); ok {
		return string(e)
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error() // "connection refused", "too many open files" …
	}
	if isTimeout(err) {
		return "timeout"
	}
	if errors.Is(err, context.Canceled) {
		return "no answer by the end"
	}
	return "broken off"
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
