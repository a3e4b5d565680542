package main

import (
	"context"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a program that ends with this one.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; cmd.ProcessState tells how
}

// startProcess starts cmd. The kernel ties the parent-death signal to the thread that
// forked, so a goroutine keeps that thread for as long as the program runs.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent()
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says it
			close(p.done)
		}
	}()
	return p, <-started
}

// signal ignores the one error that there is: the program has ended.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// await waits for the end, and kills what doesn't end in time.
func (p *process) await(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
