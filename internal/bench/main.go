// Command bench measures scanlogin beside floors and peers, in the same run on the same
// machine: what no server can pass there, and what others reach. It prints Markdown tables
// of medians over several interleaved rounds with the least and the most, and the ratios
// that matter. With -docs it also puts them into docs/performance.md, with the figures as
// JSON and the growth as pictures beside it.
//
// It brings its own databases, instances, WeChat and peers, all on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one of the measurements.
type bench struct {
	name  string
	title string
	about string // Markdown: what is measured, and how it is to be read
	run   func(context.Context, options) (result, error)
	// judged: a target that is missed is an error. It is run only where it is named.
	judged bool
}

// target is make's.
func (b bench) target() string {
	if b.judged {
		return b.name
	}
	return "bench-" + b.name
}

// benches are in the order of a login.
func benches() []bench {
	return []bench{
		{"claim", "Claiming a scene", aboutClaim, benchClaim, false},
		{"first-qr", "How long a browser waits for its code", aboutFirstQR, benchFirstQR, false},
		{"stream", "What a stream costs", aboutStream, benchStream, false},
		{"callback", "Callbacks", aboutCallback, benchCallback, false},
		{"push", "From the callback to the browser", aboutPush, benchPush, false},
		{"soak", "An hour of churn", aboutSoak, benchSoak, true},
	}
}

// options are for every bench.
type options struct {
	rounds int
	quick  bool          // smaller, to see whether it runs; the figures mean little
	length time.Duration // of the soak
}

// pick is n, or few where it should be quick.
func pick[T any](o options, full, few T) T {
	if o.quick {
		return few
	}
	return full
}

func main() {
	if role, ok := os.LookupEnv(roleVariable); ok {
		os.Exit(runRole(role))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("see bench -help")

func run(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: bench [flags] [%s]...\n", strings.Join(names(), "|"))
		f.PrintDefaults()
	}
	f.IntVar(&o.rounds, "rounds", 5, "of each measurement, interleaved")
	f.BoolVar(&o.quick, "quick", false, "small, to see whether it runs: the figures mean little")
	f.DurationVar(&o.length, "for", time.Hour, "length of the soak")
	again := f.Bool("again", false, "measures nothing: writes the page anew from the figures of the last run, for words that have changed")
	docs := f.String("docs", "", "the `folder` whose performance.md gets the tables; empty: they are printed only")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w; %w", err, errUsage)
	}
	chosen, err := choose(f.Args())
	if err != nil {
		return err
	}
	if o.rounds < 1 {
		return fmt.Errorf("-rounds has to be 1 at least; %w", errUsage)
	}
	for _, b := range chosen {
		fmt.Fprintf(os.Stderr, "bench: %s\n", b.name)
		r, err := b.result(ctx, o, *docs, *again)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Println(r.markdown())
		if *docs != "" {
			if err := r.save(*docs); err != nil {
				return err
			}
		}
		if b.judged {
			if err := r.failed(); err != nil {
				return err
			}
		}
	}
	return nil
}

// result measures, or reads what was measured before.
func (b bench) result(ctx context.Context, o options, docs string, again bool) (r result, err error) {
	if again {
		r, err = load(docs, b.name)
	} else {
		r, err = b.run(ctx, o)
		r.Name, r.Machine = b.name, thisMachine()
	}
	r.bench = b
	return r, err
}

func names() (all []string) {
	for _, b := range benches() {
		all = append(all, b.name)
	}
	return all
}

// choose finds the benches of these names; all that only measure, where none is named.
func choose(args []string) ([]bench, error) {
	all := benches()
	if len(args) == 0 {
		return slices.DeleteFunc(all, func(b bench) bool { return b.judged }), nil
	}
	var chosen []bench
	for _, name := range args {
		i := slices.Index(names(), name)
		if i < 0 {
			return nil, fmt.Errorf("there is no bench %q; %w", name, errUsage)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
