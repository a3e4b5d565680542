package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What comes from several processes must be what one would have counted.
func TestPartsAddUpToTheWhole(t *testing.T) {
	whole := newTally()
	var parts []*tally
	for k := range 3 {
		part := newTally()
		part.progress(time.Duration(k)*time.Second, time.Minute)
		for range 1000 {
			d := time.Duration(rand.Int64N(int64(10 * time.Second)))
			for _, t := range []*tally{whole, part} {
				t.record("push", d)
				t.add("pushed", 1)
				t.add(fmt.Sprintf("errors.open: %d", k), 1)
			}
		}
		b, err := json.Marshal(part) // through the pipe
		if err != nil {
			t.Fatal(err)
		}
		sent := newTally()
		if err := json.Unmarshal(b, sent); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, sent)
	}
	sum := merged(append(parts, nil)...) // one that said nothing yet
	if d := cmp.Diff(whole.Counts, sum.Counts); d != "" {
		t.Error(d)
	}
	if !whole.Histograms["push"].Equals(sum.Histograms["push"].Histogram) {
		t.Error("the histograms differ")
	}
	if sum.sum("errors") != 3000 || sum.Ramp != 2*time.Second || sum.Window != time.Minute {
		t.Errorf("%d errors, ramp %v, window %v", sum.sum("errors"), sum.Ramp, sum.Window)
	}
}

func TestLatenciesBeyondTheScaleAreKept(t *testing.T) {
	tl := newTally()
	tl.record("push", -time.Second)
	tl.record("push", 24*time.Hour)
	h := tl.Histograms["push"]
	if h.TotalCount() != 2 || h.Min() != 0 || h.Max() < time.Hour.Microseconds() {
		t.Errorf("%d values, %d to %d µs", h.TotalCount(), h.Min(), h.Max())
	}
}

func TestKindsOfErrors(t *testing.T) {
	for want, err := range map[string]error{
		"connection refused":   &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"timeout":              &net.OpError{Op: "read", Err: &timeoutError{}},
		"no answer by the end": &url.Error{Op: "Post", Err: context.Canceled},
		"status 503":           fmt.Errorf("callback: %w", shortError("status 503")),
		"broken off":           fmt.Errorf("anything else, as it may hold a secret"),
	} {
		if got := kind(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
