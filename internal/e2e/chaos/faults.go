package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"scanlogin/internal/e2e/proc"
	"scanlogin/internal/wechatsim"
)

// fire makes the planned faults happen, each at its time, and returns when the last one is
// over.
func (w *world) fire(ctx context.Context, plan []fault) error {
	var (
		work sync.WaitGroup
		mu   sync.Mutex
		errs error
	)
	defer work.Wait()
	for n, f := range plan {
		if !proc.Pause(ctx, f.at-time.Duration(w.journal.now())*time.Microsecond) {
			break
		}
		work.Go(func() {
			if err := w.fault(ctx, n+1, f); err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				errs = errors.Join(errs, fmt.Errorf("fault %d, %s: %w", n+1, f.kind, err))
			}
		})
	}
	work.Wait()
	return errs
}

// fault breaks something and repairs it. It is over when every instance is ready again.
func (w *world) fault(ctx context.Context, n int, f fault) error {
	w.say("%s", f)
	w.journal.add(entry{Kind: kindFault, Fault: n, Name: f.kind, Phase: "start", Detail: f.String()})
	err := w.breakIt(ctx, f)
	for _, i := range w.instances {
		err = errors.Join(err, i.awaitReady(ctx))
	}
	w.journal.add(entry{Kind: kindFault, Fault: n, Name: f.kind, Phase: "end"})
	return err
}

func (w *world) breakIt(ctx context.Context, f fault) error {
	switch f.kind {
	case faultKill:
		return w.restart(ctx, w.instances[f.target], syscall.SIGKILL, f)
	case faultTerm:
		return w.restart(ctx, w.instances[f.target], syscall.SIGTERM, f)
	case faultDeploy:
		f.length = 0
		for _, i := range w.instances {
			if err := w.restart(ctx, i, syscall.SIGTERM, f); err != nil {
				return err
			}
		}
		return nil
	case faultBackends:
		return w.database.terminate(ctx, f.mode)
	case faultStop:
		return w.database.outage(ctx, f.length)
	case faultPromote:
		return w.database.failover(ctx)
	case faultCut:
		w.cut(ctx, f)
	case faultStreams:
		w.conns.reset()
	case faultCallbacks:
		w.sim.SetFaults(weather(f.mode))
		proc.Pause(ctx, f.length)
		w.sim.SetFaults(wechatsim.Faults{})
	}
	return nil
}

// restart ends an instance and starts it again after a while.
func (w *world) restart(ctx context.Context, i *instance, s syscall.Signal, f fault) error {
	i.one.Lock()
	defer i.one.Unlock()
	if !i.end(ctx, s, f.kind) {
		return nil
	}
	proc.Pause(ctx, f.length)
	if ctx.Err() != nil {
		return nil
	}
	// One that has only just begun knows no SIGTERM yet: nothing else happens to it before.
	return errors.Join(i.start(ctx), i.awaitReady(ctx))
}

// cut breaks the network to the database, of one instance or of all.
func (w *world) cut(ctx context.Context, f fault) {
	wires := w.wires
	if f.target != everyone {
		wires = w.instances[f.target].wires
	}
	for _, wire := range wires {
		switch f.mode {
		case "reset":
			wire.reset()
		case "slow":
			wire.slow(100 * time.Millisecond)
		default:
			wire.cut()
		}
	}
	if f.mode == "reset" {
		return
	}
	proc.Pause(ctx, f.length)
	for _, wire := range wires {
		if f.mode == "hole and reset" {
			wire.reset()
		}
		wire.heal()
	}
}

// weather is WeChat's.
func weather(mode string) wechatsim.Faults {
	all := wechatsim.Faults{PushDelay: 1500 * time.Millisecond, DropTries: 6, LoseReplies: 12, Duplicates: 20}
	switch mode {
	case "duplicates":
		return wechatsim.Faults{Duplicates: all.Duplicates, PushDelay: 100 * time.Millisecond}
	case "lost replies":
		return wechatsim.Faults{LoseReplies: all.LoseReplies}
	case "dropped tries":
		return wechatsim.Faults{DropTries: all.DropTries}
	case "delays":
		return wechatsim.Faults{PushDelay: all.PushDelay}
	}
	return all
}
