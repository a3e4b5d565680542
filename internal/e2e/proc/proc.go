// Package proc runs programs for those who look at them from outside: chaos and the benches.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Process is a program that ends with this one.
type Process struct {
	Cmd  *exec.Cmd
	Done chan struct{} // closed when it has ended; Cmd.ProcessState tells how
}

// Start starts cmd. The kernel ties the parent-death signal to the thread that
// forked, so a goroutine keeps that thread for as long as the program runs.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = dieWithParent()
	p := &Process{Cmd: cmd, Done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says it
			close(p.Done)
		}
	}()
	return p, <-started
}

// Signal ignores the one error that there is: the program has ended.
func (p *Process) Signal(s syscall.Signal) { _ = p.Cmd.Process.Signal(s) }

// Await waits for the end, and kills what doesn't end in time.
func (p *Process) Await(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-p.Done:
	case <-ctx.Done():
		p.Signal(syscall.SIGKILL)
		<-p.Done
	}
}

// Exited tells whether the program has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Build makes the program of a package of this module at path.
func Build(ctx context.Context, path, pkg string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	if out, err := exec.CommandContext(ctx, "go", append(args, "scanlogin/"+pkg)...).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// FreeAddrs finds addresses that nobody listens on, below those that the kernel gives to
// connections: none may take one while its program is being started again.
func FreeAddrs(ctx context.Context, n int) (addrs []string, err error) {
	for range 1000 {
		if len(addrs) == n {
			return addrs, nil
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(12_000+rand.IntN(8_000)))
		if err != nil {
			continue
		}
		defer l.Close() // only at the end, so that none is found twice
		addrs = append(addrs, l.Addr().String())
	}
	return nil, errors.New("no free ports")
}

// Ready tells whether the instance with this OPS_ADDR says that it is.
func Ready(ctx context.Context, ops string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
	return resp.StatusCode == http.StatusOK
}

// Eventually waits until cond holds, for a minute at most.
func Eventually(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !cond() {
		if !Pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// Pause is false when ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
