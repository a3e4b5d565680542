// Command million shows that no table grows with the logins: it runs a million of them
// through the store, as browsers, phones and people do, with the housekeeper at work, and
// prints how large every table is meanwhile. It fails where one has gone on growing.
//
// It brings its own database, with PostgreSQL's usual settings.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// plan says what is run.
type plan struct {
	logins  int
	rate    int // logins a second: with twice as many, twice as much waits to be removed
	workers int
	pool    int
	// keep is how long sessions live and pushes are kept: short, so that a run of minutes
	// removes as much as it makes, as an instance does that runs for months.
	keep time.Duration
}

func main() {
	var p plan
	flag.IntVar(&p.logins, "logins", 1_000_000, "in all")
	flag.IntVar(&p.rate, "rate", 500, "logins a second, at most")
	flag.IntVar(&p.workers, "workers", 16, "logins at a time")
	flag.IntVar(&p.pool, "pool", 10_000, "scenes")
	flag.DurationVar(&p.keep, "keep", 20*time.Second, "how long sessions and pushes are kept")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, p)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "million: %v\n", err)
		os.Exit(1)
	}
}

// marks are the looks at the tables, at equal distances.
const marks = 10

func run(ctx context.Context, p plan) (err error) {
	if p.logins < marks || p.rate < 1 || p.workers < 1 || p.pool < 1 || p.keep <= 0 {
		return fmt.Errorf("-logins has to be %d at least, -rate, -workers, -pool and -keep more than 0", marks)
	}
	w, err := startWorld(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	var looks []sizes
	header()
	for mark := range marks {
		began, from, to := time.Now(), p.logins*mark/marks, p.logins*(mark+1)/marks
		if err := w.logins(ctx, from, to); err != nil {
			return err
		}
		now, err := w.sizes(ctx)
		if err != nil {
			return err
		}
		line(to, float64(to-from)/time.Since(began).Seconds(), now)
		looks = append(looks, now)
	}
	w.tell()
	if err := w.settle(ctx); err != nil {
		return err
	}
	settled, err := w.sizes(ctx)
	if err != nil {
		return err
	}
	return compare(looks, settled)
}
