package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"scanlogin/internal/devpg"
	"scanlogin/internal/wechatsim"
)

const (
	appID, appSecret, token = "wx0123456789abcdef", "app-secret-of-the-benchmark", "callbacktokenofthebenchmark"

	patience = time.Minute
)

// world is a database, two instances and WeChat.
type world struct {
	dir       string
	database  *devpg.Server
	sim       *wechatsim.Server
	api       *http.Server
	instances []*exec.Cmd
	addrs     []string // of the instances
}

func startWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop(context.WithoutCancel(ctx)))
		}
	}()
	if w.dir, err = os.MkdirTemp("", "scanlogin-firstqr-"); err != nil {
		return nil, err
	}
	binary := filepath.Join(w.dir, "scanlogin")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "scanlogin/cmd/scanlogin").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the program: %w\n%s", err, out)
	}
	if w.database, err = devpg.Start(ctx, devpg.Config{}); err != nil {
		return nil, err
	}
	api, err := w.startWeChat(ctx)
	if err != nil {
		return nil, err
	}
	for range 2 {
		if err := w.startInstance(ctx, binary, api); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// startWeChat returns the base of its API. It pushes nothing: nobody scans here.
func (w *world) startWeChat(ctx context.Context) (string, error) {
	var err error
	if w.sim, err = wechatsim.New(wechatsim.Config{AppID: appID, AppSecret: appSecret, Token: token}); err != nil {
		return "", err
	}
	l, err := listen(ctx)
	if err != nil {
		return "", err
	}
	w.api = &http.Server{Handler: w.sim.Handler(), ReadHeaderTimeout: patience}
	go func() { _ = w.api.Serve(l) }() // until stop closes it
	return "http://" + l.Addr().String(), nil
}

func listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

// freeAddrs finds addresses that nobody listens on.
func freeAddrs(ctx context.Context, n int) (addrs []string, err error) {
	for range n {
		l, err := listen(ctx)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// startInstance starts one and waits until it is ready.
func (w *world) startInstance(ctx context.Context, binary, api string) error {
	addrs, err := freeAddrs(ctx, 2)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "serve")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	cmd.Env = []string{
		"DATABASE_URL=" + w.database.URL("postgres"), "ADDR=" + addrs[0], "OPS_ADDR=" + addrs[1], "PUBLIC_URL=http://" + addrs[0],
		"RATE_LIMITS=off", "LOG_LEVEL=error", "WECHAT_API_URL=" + api,
		"WECHAT_APP_ID=" + appID, "WECHAT_APP_SECRET=" + appSecret, "WECHAT_TOKEN=" + token,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.instances, w.addrs = append(w.instances, cmd), append(w.addrs, addrs[0])
	return awaitReady(ctx, "http://"+addrs[1]+"/readyz")
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
			_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for an instance: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// setLatency is of everything that WeChat is asked.
func (w *world) setLatency(d time.Duration) { w.sim.SetFaults(wechatsim.Faults{APILatency: d}) }

// stop ends everything and removes what it leaves.
func (w *world) stop(ctx context.Context) (err error) {
	for _, cmd := range w.instances {
		// It may have ended by itself, of which Wait tells.
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range w.instances {
		err = errors.Join(err, cmd.Wait())
	}
	if w.sim != nil {
		w.sim.Close()
	}
	if w.api != nil {
		err = errors.Join(err, w.api.Close())
	}
	if w.database != nil {
		err = errors.Join(err, w.database.Stop(ctx))
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}
