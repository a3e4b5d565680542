// Command chaos shows that nothing is lost and nobody is logged in as somebody else,
// whatever happens to an instance, the network or the database: three instances behind
// haproxy, a PostgreSQL with a standby, a simulated WeChat and hundreds of simulated
// browsers, while faults fire at random moments from a printed seed. An independent
// checker then reads the journal of what each browser saw against what WeChat was told.
// It prints a table, and fails where anything happened that must not, or where too little
// happened to show anything.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"scanlogin/internal/e2e/proc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context) error {
	o := options{
		instances: 3, pair: true, haste: 1, warmUp: 5 * time.Second, calm: 25 * time.Second, settling: 45 * time.Second,
		timing: timing{TTL: 30 * time.Second, Grace: 10 * time.Second, Rest: 2 * time.Second, BindTTL: 5 * time.Minute, Exit: 10 * time.Second},
		say:    func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
	}
	flag.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "of the faults and of what people do; printed")
	flag.DurationVar(&o.length, "for", 3*time.Minute, "how long")
	flag.IntVar(&o.browsers, "browsers", 300, "at once")
	kinds := flag.String("faults", "all", "all, none, or some of them, by commas: kill, term, deploy, backends, stop, promote, cut, streams, callbacks")
	file := flag.String("journal", "", "a file for the journal")
	again := flag.String("check", "", "a journal to check once more, instead of a run")
	flag.StringVar(&o.binary, "binary", "", "a scanlogin to use instead of the one built from here")
	flag.Parse()
	if *again != "" {
		return checkFile(*again)
	}
	var err error
	if o.faults, err = parseKinds(*kinds); err != nil {
		return err
	}
	if o.length < time.Minute || o.browsers < 1 {
		return errors.New("too little to show anything: -for has to be a minute at least, -browsers 1")
	}
	o.pool = 3 * o.browsers
	entries, logs, err := run(ctx, o)
	if err != nil {
		return err
	}
	if *file != "" {
		if err := saveJournal(*file, entries); err != nil {
			return err
		}
	}
	return conclude(check(entries), logs)
}

// conclude prints the report, and keeps the logs where it is a bad one.
func conclude(r *report, logs string) error {
	if err := r.print(os.Stdout); err != nil {
		return err
	}
	if len(r.violations) > 0 {
		return fmt.Errorf("%d times something happened that must not, with seed %d; the logs are in %s", len(r.violations), r.seed, logs)
	}
	return os.RemoveAll(logs)
}

func saveJournal(path string, entries []entry) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(writeJournal(f, entries), f.Close())
}

func checkFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	entries, err := readJournal(bytes.NewReader(b))
	if err != nil {
		return err
	}
	r := check(entries)
	if err := r.print(os.Stdout); err != nil {
		return err
	}
	if len(r.violations) > 0 {
		return fmt.Errorf("%d violations", len(r.violations))
	}
	return nil
}

// run is one run from beginning to end. It returns the journal and the folder with the
// logs of the instances, which is the caller's to remove.
func run(ctx context.Context, o options) (entries []entry, logs string, err error) {
	o.say("seed %d", o.seed)
	w, err := startWorld(ctx, o)
	if err != nil {
		return nil, "", err
	}
	err = w.live(ctx)
	entries = w.journal.all()
	err = errors.Join(err, w.stop(context.WithoutCancel(ctx)))
	if lines := w.complaints(); len(lines) > 0 {
		err = errors.Join(err, fmt.Errorf("the instances' logs in %s have %d lines like %q", w.dir, len(lines), lines[0]))
	}
	if err != nil {
		return nil, "", fmt.Errorf("with seed %d, logs in %s: %w", o.seed, w.dir, err)
	}
	return entries, w.dir, nil
}

// live lets browsers come and faults happen, until the last browser has had its time.
func (w *world) live(ctx context.Context) error {
	w.journal.start = time.Now() // building and starting was no part of it
	plan := makePlan(w.seed, w.faults, w.warmUp, w.length-w.calm, w.options.instances)
	w.journal.add(entry{Kind: kindRun, Seed: w.seed, Timing: &w.timing, Planned: len(plan)})
	ctx, leave := context.WithTimeout(ctx, w.length-w.calm/2+w.settling)
	defer leave()
	beginning, noMore := context.WithTimeout(ctx, w.length-w.calm/2)
	defer noMore()
	var (
		work   sync.WaitGroup
		failed error
	)
	work.Go(func() { w.scanLate(beginning) })
	work.Go(func() {
		for w.enough != nil && proc.Pause(beginning, 500*time.Millisecond) {
			if w.enough(w.journal.all()) {
				leave()
			}
		}
	})
	work.Go(func() { failed = w.fire(ctx, plan) })
	w.visits(ctx, beginning)
	work.Wait()
	w.journal.add(entry{Kind: kindEnd})
	return failed
}
