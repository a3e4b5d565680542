package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// childVariable tells a process which share of the load is its own.
const childVariable = "SWARM_CHILD"

// part is what one process did so far.
type part struct {
	Tally *tally `json:"tally"`
	Final bool   `json:"final"`
}

// child carries its share, and says once a second how far it is. It ends early when its
// standard input does: with its parent, however that ends.
func (p program) child(ctx context.Context, plan plan, which string) error {
	k, err := strconv.Atoi(which)
	if err != nil {
		return usagef("%s is for swarm's own use", childVariable)
	}
	// A ctrl-C goes to the whole group; when to stop is the parent's to say.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, p.stdin)
		stop()
	}()
	plan = plan.share(k)
	if runtime.GOOS == "linux" && allOnIPv4(plan.targets) {
		// All of 127/8 is loopback there: every process has its own 28,000 ports.
		plan.source = fmt.Sprintf("127.0.%d.%d", 1+k/250, 1+k%250)
	}
	out := json.NewEncoder(p.stdout)
	return newSwarm(plan).watched(ctx, func(t *tally, final bool) error { return out.Encode(part{merged(t), final}) })
}

func allOnIPv4(targets []target) bool {
	for _, t := range targets {
		if !strings.HasPrefix(t.addr, "127.") {
			return false
		}
	}
	return true
}

// watched runs the load and calls tell once a second, and when all is over.
func (s *swarm) watched(ctx context.Context, tell func(t *tally, final bool) error) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := tell(s.tally, false); err != nil {
				return err
			}
		case <-done:
			return tell(s.tally, true)
		}
	}
}

// watch runs the plan, in this process or in others, shows how it goes, and returns what
// came of it.
func (p program) watch(ctx context.Context, plan plan, args []string) (*tally, error) {
	show := newProgress(plan, p.stderr)
	defer show.end()
	if plan.Processes == 1 {
		s := newSwarm(plan)
		err := s.watched(ctx, func(t *tally, _ bool) error {
			show.line(merged(t))
			return nil
		})
		return merged(s.tally), err
	}
	var mu sync.Mutex
	latest := make([]*tally, plan.Processes)
	each := func(k int, t *tally) {
		mu.Lock()
		defer mu.Unlock()
		latest[k] = t
		if k == 0 {
			show.line(merged(latest...))
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var children sync.WaitGroup
	errs := make([]error, plan.Processes)
	for k := range plan.Processes {
		children.Go(func() {
			if errs[k] = p.follow(ctx, k, args, each); errs[k] != nil {
				stop() // without one share, the rest measures something else
			}
		})
	}
	children.Wait()
	return merged(latest...), errors.Join(errs...)
}

// follow starts process k and passes on what it says, until its end.
func (p program) follow(ctx context.Context, k int, args []string, each func(k int, t *tally)) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...) //nolint:noctx // it ends with its standard input, and in its own time
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childVariable, k))
	cmd.Stderr = p.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting process %d: %w", k, err)
	}
	defer context.AfterFunc(ctx, func() { stdin.Close() })()
	var last part
	for in := json.NewDecoder(stdout); err == nil; {
		var next part
		if err = in.Decode(&next); err == nil {
			last = next
			each(k, last.Tally)
		}
	}
	stdout.Close() // a child that says what nobody understands shall not wait for a reader
	if err := cmd.Wait(); err != nil || !last.Final {
		return fmt.Errorf("process %d ended early: %w", k, errors.Join(err, errUnfinished))
	}
	return nil
}

var errUnfinished = errors.New("its share of the load is missing")
