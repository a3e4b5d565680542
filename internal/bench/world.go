package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/devpg"
	"scanlogin/internal/e2e/proc"
	"scanlogin/internal/wechatsim"
)

const (
	appID, appSecret, token = "wx0123456789abcdef", "app-secret-of-the-benchmark", "callbacktokenofthebenchmark"

	patience = time.Minute
)

// worldOptions say how a world differs from the usual one: two instances with their
// default settings, and PostgreSQL with its.
type worldOptions struct {
	instances int               // 0: two
	settings  map[string]string // environment variables of every instance
	postgres  map[string]string // settings of the server
	swarm     bool              // builds cmd/swarm too
	progress  io.Writer         // gets what swarm says meanwhile; nil: nobody
}

// world is a database, instances and WeChat.
type world struct {
	worldOptions
	dir       string
	database  *devpg.Server
	admin     *pgxpool.Pool
	sim       *wechatsim.Server
	api       *http.Server
	apiURL    string
	instances []*instance
}

// instance is one `scanlogin serve`.
type instance struct {
	*proc.Process
	addr, ops string
}

func (i *instance) pid() int { return i.Cmd.Process.Pid }

// startWorld returns once every instance is ready.
func startWorld(ctx context.Context, o worldOptions) (_ *world, err error) {
	w := &world{worldOptions: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop(context.WithoutCancel(ctx)))
		}
	}()
	if w.dir, err = os.MkdirTemp("", "scanlogin-bench-"); err != nil {
		return nil, err
	}
	if err := proc.Build(ctx, w.binary("scanlogin"), "cmd/scanlogin"); err != nil {
		return nil, err
	}
	if w.worldOptions.swarm {
		if err := proc.Build(ctx, w.binary("swarm"), "cmd/swarm"); err != nil {
			return nil, err
		}
	}
	if w.database, err = devpg.Start(ctx, devpg.Config{Settings: o.postgres}); err != nil {
		return nil, err
	}
	if w.admin, err = pgxpool.New(ctx, w.database.URL("postgres")); err != nil {
		return nil, err
	}
	if err := w.startWeChat(ctx); err != nil {
		return nil, err
	}
	for range cmp.Or(o.instances, 2) {
		if err := w.startInstance(ctx); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) binary(name string) string { return filepath.Join(w.dir, name) }

// startWeChat starts its API. It pushes nothing: the benches do that.
func (w *world) startWeChat(ctx context.Context) (err error) {
	if w.sim, err = wechatsim.New(wechatsim.Config{
		AppID: appID, AppSecret: appSecret, Token: token, DailyCodes: 100_000_000, // an hour here is a busy month
	}); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.api = &http.Server{Handler: w.sim.Handler(), ReadHeaderTimeout: patience}
	w.apiURL = "http://" + l.Addr().String()
	go func() { _ = w.api.Serve(l) }() // until stop closes it
	return nil
}

// startInstance starts one more and waits until it is ready.
func (w *world) startInstance(ctx context.Context) error {
	addrs, err := proc.FreeAddrs(ctx, 2)
	if err != nil {
		return err
	}
	env := map[string]string{
		"DATABASE_URL": w.database.URL("postgres"), "ADDR": addrs[0], "OPS_ADDR": addrs[1], "PUBLIC_URL": "http://" + addrs[0],
		"RATE_LIMITS": "off", "LOG_LEVEL": "error", "WECHAT_API_URL": w.apiURL,
		"WECHAT_APP_ID": appID, "WECHAT_APP_SECRET": appSecret, "WECHAT_TOKEN": token,
	}
	maps.Copy(env, w.settings)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), w.binary("scanlogin"), "serve")
	cmd.Stderr = os.Stderr
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	p, err := proc.Start(cmd)
	if err != nil {
		return err
	}
	i := &instance{p, addrs[0], addrs[1]}
	w.instances = append(w.instances, i)
	err = proc.Eventually(ctx, "an instance is ready", func() bool { return i.Exited() || proc.Ready(ctx, i.ops) })
	if err == nil && i.Exited() {
		return errors.New("an instance has ended by itself")
	}
	return err
}

// setLatency is of everything that WeChat is asked.
func (w *world) setLatency(d time.Duration) { w.sim.SetFaults(wechatsim.Faults{APILatency: d}) }

// stopInstances ends them as a deploy does.
func (w *world) stopInstances(ctx context.Context) {
	for _, i := range w.instances {
		i.Signal(syscall.SIGTERM)
	}
	for _, i := range w.instances {
		i.Await(ctx, patience)
	}
	w.instances = nil
}

// stop ends everything and removes what it leaves.
func (w *world) stop(ctx context.Context) (err error) {
	w.stopInstances(ctx)
	if w.sim != nil {
		w.sim.Close()
	}
	if w.api != nil {
		err = errors.Join(err, w.api.Close())
	}
	if w.admin != nil {
		w.admin.Close()
	}
	if w.database != nil {
		err = errors.Join(err, w.database.Stop(ctx))
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// swarmReport is what of cmd/swarm's -json is used here.
type swarmReport struct {
	WindowSeconds float64            `json:"window_seconds"`
	Counts        map[string]int64   `json:"counts"`
	Rates         map[string]float64 `json:"rates"`
	Latencies     map[string]struct {
		Count int64   `json:"count"`
		P50   float64 `json:"p50"`
		P90   float64 `json:"p90"`
		P99   float64 `json:"p99"`
		P999  float64 `json:"p99.9"`
		Max   float64 `json:"max"`
	} `json:"latencies"` // in milliseconds, from when a step was due
	Objectives []struct {
		Objective string `json:"objective"`
		Reached   string `json:"reached"`
		Met       bool   `json:"met"`
	} `json:"objectives"`
}

// swarm puts load on these addresses, which are instances' or a peer's. An objective that
// is missed is for the caller to judge.
func (w *world) swarm(ctx context.Context, addrs []string, args ...string) (swarmReport, error) {
	var r swarmReport
	path := filepath.Join(w.dir, "swarm.json")
	for _, a := range addrs {
		args = append(args, "-url", "http://"+a)
	}
	cmd := exec.CommandContext(ctx, w.binary("swarm"), append(args, "-json", path)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "WECHAT_TOKEN="+token)
	var out strings.Builder
	cmd.Stderr = &out
	if w.progress != nil {
		cmd.Stderr = io.MultiWriter(&out, w.progress)
	}
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != 1 {
		return r, fmt.Errorf("swarm: %w\n%s", err, out.String())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("swarm left no report: %w\n%s", err, out.String())
	}
	return r, json.Unmarshal(text, &r)
}
