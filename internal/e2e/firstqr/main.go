// Command firstqr measures how long a browser waits for its QR code, from the request for
// the event stream to the qr event, while WeChat answers at once and while it takes its
// time. With codes made ahead the two should be the same. It prints a Markdown table and
// fails where a browser got no code.
//
// It brings its own database, two instances and a simulated WeChat, all on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// plan says what is measured.
type plan struct {
	rate    int           // browsers a second
	warmUp  time.Duration // of a round, not measured: the reserve finds out how busy it is
	length  time.Duration // of a round
	rounds  int           // of each latency, in turn, so that the machine's moods hit both
	latency time.Duration // of WeChat's API, against none
}

func main() {
	var p plan
	flag.IntVar(&p.rate, "rate", 20, "browsers a second")
	flag.DurationVar(&p.warmUp, "warm-up", 3*time.Second, "of a round")
	flag.DurationVar(&p.length, "length", 10*time.Second, "of a round")
	flag.IntVar(&p.rounds, "rounds", 3, "with each latency")
	flag.DurationVar(&p.latency, "latency", 300*time.Millisecond, "of WeChat's API, against none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, p)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "firstqr: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan) (err error) {
	if p.rate < 1 || p.length <= 0 || p.rounds < 1 {
		return errors.New("nothing to measure: -rate, -length and -rounds have to be more than 0")
	}
	w, err := startWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	latencies := []time.Duration{0, p.latency}
	results := make([]result, len(latencies))
	for range p.rounds {
		for n, latency := range latencies {
			w.setLatency(latency)
			if _, err := w.load(ctx, p.rate, p.warmUp); err != nil {
				return err
			}
			r, err := w.load(ctx, p.rate, p.length)
			if err != nil {
				return err
			}
			results[n].add(r)
		}
	}
	return report(latencies, results)
}

// result is what became of browsers.
type result struct {
	waits  []time.Duration // of those that got a code
	failed []error
}

func (r *result) add(other result) {
	r.waits = append(r.waits, other.waits...)
	r.failed = append(r.failed, other.failed...)
}

// quantile is the wait that a share of the browsers, from 0 to 1, did not exceed.
func (r *result) quantile(share float64) time.Duration {
	if len(r.waits) == 0 {
		return 0
	}
	slices.Sort(r.waits)
	return r.waits[int(share*float64(len(r.waits)-1))]
}

func report(latencies []time.Duration, results []result) error {
	fmt.Println("| WeChat's API answers after | browsers | without a code | p50 | p99 |")
	fmt.Println("| ---: | ---: | ---: | ---: | ---: |")
	var failed []error
	for n, r := range results {
		fmt.Printf("| %v | %d | %d | %.1f ms | %.1f ms |\n", latencies[n], len(r.waits)+len(r.failed), len(r.failed),
			milliseconds(r.quantile(0.5)), milliseconds(r.quantile(0.99)))
		failed = append(failed, r.failed...)
	}
	calm, slow := results[0], results[1]
	fmt.Printf("| ratio | | | %.2f | %.2f |\n", ratio(slow, calm, 0.5), ratio(slow, calm, 0.99))
	if len(failed) > 0 {
		return fmt.Errorf("%d browsers got no code, the first because %w", len(failed), failed[0])
	}
	return nil
}

func ratio(of, to result, share float64) float64 {
	return milliseconds(of.quantile(share)) / milliseconds(to.quantile(share))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
