package main

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A generator that waits for a slow server would ask it less, and measure better than
// what people get (coordinated omission).
func TestScheduleDoesNotWaitForTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		tl := newTally()
		var due []time.Duration
		schedule(ctx, func() time.Duration { return 10 * time.Millisecond }, func(at time.Time) {
			due = append(due, at.Sub(start)/time.Millisecond)
			if len(due) == 2 {
				time.Sleep(35 * time.Millisecond) // 20 to 55
			}
			tl.span("qr", at, tl.begin(at), time.Now())
		})
		if d := cmp.Diff([]time.Duration{10, 20, 30, 40, 50, 60, 70, 80, 90}, due[:9]); d != "" {
			t.Error(d)
		}
		// Those of 20, 30 and 40 ms began at 55.
		if tl.count("late") != 3 || tl.count("steps") != int64(len(due)) {
			t.Errorf("%d of %d late", tl.count("late"), tl.count("steps"))
		}
		if late := tl.Histograms["qr"].Max(); late < 35_000 || late > 35_100 {
			t.Errorf("the latest began %d µs after it was due", late)
		}
		if service := tl.Histograms["qr.service"].Max(); service != 0 {
			t.Errorf("%d µs of service, it took none", service)
		}
	})
}

func TestArrivalsAreAsManyAsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Second)
		defer cancel()
		var n, near float64
		var last time.Time
		schedule(ctx, poisson(10), func(due time.Time) {
			n++
			if due.Sub(last) < 10*time.Millisecond {
				near++
			}
			last = due
		})
		if math.Abs(n-10_000) > 7*100 { // 7 standard deviations
			t.Errorf("%v arrivals in 1000 s, want about 10,000", n)
		}
		// Of random ones a tenth are closer than a tenth of the mean; of regular ones, none.
		if share := near / n; math.Abs(share-(1-math.Exp(-0.1))) > 0.03 {
			t.Errorf("%.3f of them are close together", share)
		}
	})
}

func TestScheduleEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	schedule(ctx, func() time.Duration { return 0 }, func(time.Time) { t.Error("a step after the end") })
}

func TestBackoffIsThatOfThePage(t *testing.T) {
	for n, low := range []float64{1, 2, 4, 8, 16, 20, 20, 20} {
		for range 100 {
			if d := backoff(n).Seconds(); d < low || d >= low*1.5 {
				t.Fatalf("try %d after %v s", n, d)
			}
		}
	}
}
