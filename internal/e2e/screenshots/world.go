package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// world is a running `scanlogin dev`.
type world struct {
	dir, data    string
	dev          *exec.Cmd
	addr, wechat string
	openid       string // of who scanned last
}

// startWorld builds the program and starts it, on a database and on ports of its own.
func startWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "scanlogin-screenshots-"); err != nil {
		return nil, err
	}
	// Beside it, not in it: as root, PostgreSQL runs as a user who can't enter dir.
	if w.data, err = os.MkdirTemp("", "scanlogin-screenshots-"); err != nil {
		return nil, err
	}
	binary := filepath.Join(w.dir, "scanlogin")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "scanlogin/cmd/scanlogin").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the program: %w\n%s", err, out)
	}
	addrs, err := freeAddrs(ctx, 5)
	if err != nil {
		return nil, err
	}
	w.addr, w.wechat = addrs[0], addrs[4]
	dev := exec.CommandContext(ctx, binary, "dev", "--data", w.data, "--log-level", "warn", "--public-url", "http://"+site,
		"--addr", w.addr, "--second-addr", addrs[1], "--ops-addr", addrs[2], "--second-ops-addr", addrs[3], "--wechat-addr", w.wechat)
	dev.Cancel = func() error { return dev.Process.Signal(syscall.SIGTERM) }
	dev.Stderr = os.Stderr
	if err := dev.Start(); err != nil {
		return nil, err
	}
	w.dev = dev
	return w, awaitReady(ctx, "http://"+addrs[2]+"/readyz")
}

// stop ends the program and removes what it leaves.
func (w *world) stop() (err error) {
	if w.dev != nil {
		err = errors.Join(w.dev.Process.Signal(syscall.SIGTERM), w.dev.Wait())
	}
	return errors.Join(err, os.RemoveAll(w.dir), os.RemoveAll(w.data))
}

// freeAddrs finds addresses that nobody listens on.
func freeAddrs(ctx context.Context, n int) (addrs []string, err error) {
	for range n {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

func awaitReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close() // only the status counts
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for scanlogin dev: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// scan scans the code that was shown last with somebody's phone.
func (w *world) scan(ctx context.Context, name string) error {
	form := url.Values{"user": {name}, "latest": {"true"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.wechat+"/sim/scan", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		OpenID string `json:"openid"`
		Failed bool   `json:"failed"`
		Error  string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("scanning: %w", err)
	}
	if resp.StatusCode != http.StatusOK || answer.Failed {
		return fmt.Errorf("scanning: status %d: %s", resp.StatusCode, answer.Error)
	}
	w.openid = answer.OpenID
	return nil
}
