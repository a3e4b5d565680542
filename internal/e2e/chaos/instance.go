package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scanlogin/internal/e2e/proc"
)

const (
	// exitPatience is longer than any exit may take: one that takes too long is seen to its
	// end.
	exitPatience = 30 * time.Second
	// restartAfter is how long a supervisor waits before it starts a program again.
	restartAfter = 500 * time.Millisecond
)

// instance is a `scanlogin serve` that is started again whenever it ends, as a supervisor
// does. It keeps its addresses.
type instance struct {
	name      string
	addr, ops string
	binary    string
	env       []string
	wires     []*wire // to the database servers
	journal   *journal
	log       *os.File // of all its lives
	failed    atomic.Int64

	one sync.Mutex // held by the fault that is at this instance

	mu   sync.Mutex
	life *life // the present one, or the last
}

// life is one process of an instance. Its fields are guarded by the instance's lock.
type life struct {
	*proc.Process
	reason string // of its end; empty: its own
	asked  int64  // when it was signalled
}

func instanceName(n int) string { return string(rune('A' + n)) }

// start starts the program.
func (i *instance) start(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), i.binary, "serve")
	cmd.Env = i.env
	cmd.Stdout, cmd.Stderr = i.log, i.log
	p, err := proc.Start(cmd)
	if err != nil {
		return fmt.Errorf("starting instance %s: %w", i.name, err)
	}
	l := &life{Process: p}
	i.mu.Lock()
	i.life = l
	i.mu.Unlock()
	go i.supervise(ctx, l)
	return nil
}

// supervise writes down the end of the program, and starts one that ended by itself again.
func (i *instance) supervise(ctx context.Context, l *life) {
	<-l.Done
	i.mu.Lock()
	e := entry{Kind: kindExit, Name: i.name, Detail: l.reason, Code: l.Cmd.ProcessState.ExitCode()}
	if l.reason != "" {
		e.Took = i.journal.now() - l.asked
	}
	i.mu.Unlock()
	if e.Detail != "" {
		i.journal.add(e)
		return
	}
	e.Detail = "itself"
	i.journal.add(e)
	if proc.Pause(ctx, restartAfter) {
		if err := i.start(ctx); err != nil {
			i.failed.Add(1)
		}
	}
}

// end signals the program and waits until it is gone. It is false where that has ended
// by itself: its supervisor starts it again.
func (i *instance) end(ctx context.Context, s syscall.Signal, reason string) bool {
	i.mu.Lock()
	l := i.life
	if l == nil || l.Exited() {
		i.mu.Unlock()
		return false
	}
	l.reason, l.asked = reason, i.journal.now()
	l.Signal(s)
	i.mu.Unlock()
	l.Await(ctx, exitPatience)
	return true
}

// ready tells what /readyz says.
func (i *instance) ready(ctx context.Context) bool { return proc.Ready(ctx, i.ops) }

func (i *instance) awaitReady(ctx context.Context) error {
	return proc.Eventually(ctx, "instance "+i.name+" is ready", func() bool { return i.ready(ctx) })
}

func openLog(dir, name string) (*os.File, error) {
	return os.Create(filepath.Join(dir, name+".log"))
}
