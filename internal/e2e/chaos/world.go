package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"scanlogin/internal/e2e/proc"
	"scanlogin/internal/wechatsim"
)

const (
	appID, appSecret, token = "wx0123456789abcdef", "app-secret-of-the-chaos", "callbacktokenofthechaos"
	aesKey                  = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	password                = "correct horse battery"

	patience = time.Minute // for what happens at once, but on a busy machine
)

// options say what happens in a world.
type options struct {
	seed      uint64
	length    time.Duration // of the whole run
	calm      time.Duration // of its last part, in which nothing breaks and nobody new comes
	warmUp    time.Duration // before anything breaks
	settling  time.Duration // browsers may take to come to their end, after the last one came
	browsers  int           // at once
	instances int
	pool      int // of scenes
	faults    []string
	pair      bool // a primary and a standby instead of one server
	fast      bool // the database needn't survive the machine's crash
	haste     int  // people think for a time that is divided by this
	timing    timing
	enough    func([]entry) bool // ends the run early; nil: never
	binary    string             // the program under test; empty: it is built
	say       func(format string, args ...any)
}

// world is a database, instances behind a balancer, WeChat, and people.
type world struct {
	options
	dir       string
	journal   *journal
	database  *database
	wires     []*wire
	sim       *wechatsim.Server
	api       *http.Server
	balancer  *proc.Process
	site      string // where browsers and WeChat go
	instances []*instance
	client    *http.Client
	conns     *connections
	crowd     crowd
}

// startWorld returns once every instance is ready.
func startWorld(ctx context.Context, o options) (w *world, err error) {
	w = &world{options: o, journal: newJournal(), conns: newConnections()}
	haproxy, err := findHAProxy()
	if err != nil {
		return nil, err
	}
	if w.dir, err = os.MkdirTemp("", "scanlogin-chaos-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting, logs in %s: %w", w.dir, err), w.stop(context.WithoutCancel(ctx)))
		}
	}()
	if w.binary == "" {
		w.binary = filepath.Join(w.dir, "scanlogin")
		if err := proc.Build(ctx, w.binary, "cmd/scanlogin"); err != nil {
			return nil, err
		}
	}
	if w.database, err = startDatabase(ctx, o.pair, o.fast); err != nil {
		return nil, err
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			DialContext: w.conns.dial, MaxIdleConnsPerHost: o.browsers, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	addrs, err := proc.FreeAddrs(ctx, 1+2*o.instances)
	if err != nil {
		return nil, err
	}
	w.site = "http://" + addrs[0]
	if err := w.startWeChat(ctx); err != nil {
		return nil, err
	}
	if err := w.addPeople(ctx); err != nil {
		return nil, err
	}
	if err := w.startInstances(ctx, addrs[1:]); err != nil {
		return nil, err
	}
	return w, w.startBalancer(ctx, haproxy, addrs[0])
}

func listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

// startWeChat starts the simulator, which pushes to the balancer.
func (w *world) startWeChat(ctx context.Context) (err error) {
	w.sim, err = wechatsim.New(wechatsim.Config{
		AppID: appID, AppSecret: appSecret, Token: token, EncodingAESKey: aesKey,
		CallbackURL: w.site + "/wechat/callback", DailyCodes: 10_000_000,
	})
	if err != nil {
		return err
	}
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	w.api = &http.Server{Handler: w.sim.Handler(), ReadHeaderTimeout: patience, Addr: l.Addr().String()}
	go func() { _ = w.api.Serve(l) }() // until stop closes it
	return nil
}

// words tells the phone an unmistakable word for each outcome.
func words() map[string]string {
	words := map[string]string{}
	for _, outcome := range []string{"logged_in", "must_bind", "expired", "used", "welcome"} {
		words[outcome] = "reply:" + outcome
	}
	return words
}

// startInstances starts every instance, with its own wires to the database.
func (w *world) startInstances(ctx context.Context, addrs []string) error {
	replies := filepath.Join(w.dir, "replies.json")
	b, err := json.Marshal(words())
	if err != nil {
		return err
	}
	if err := os.WriteFile(replies, b, 0o600); err != nil {
		return err
	}
	for n := range w.options.instances {
		i := &instance{
			name: instanceName(n), addr: addrs[2*n], ops: addrs[2*n+1],
			binary: w.binary, journal: w.journal,
		}
		for s := range w.database.servers {
			wire, err := newWire(ctx, w.database.dial(s))
			if err != nil {
				return err
			}
			w.wires, i.wires = append(w.wires, wire), append(i.wires, wire)
		}
		if i.log, err = openLog(w.dir, i.name); err != nil {
			return err
		}
		i.env = append(w.environment(databaseURL(i.wires), replies), "ADDR="+i.addr, "OPS_ADDR="+i.ops)
		w.instances = append(w.instances, i)
		if err := i.start(ctx); err != nil {
			return err
		}
	}
	for _, i := range w.instances {
		if err := i.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) environment(database, replies string) []string {
	return []string{
		"DATABASE_URL=" + database, "PUBLIC_URL=" + w.site, "RATE_LIMITS=off", "LOG_LEVEL=info", "LOG_FORMAT=text",
		"WECHAT_API_URL=http://" + w.api.Addr, "WECHAT_APP_ID=" + appID, "WECHAT_APP_SECRET=" + appSecret,
		"WECHAT_TOKEN=" + token, "WECHAT_ENCODING_AES_KEY=" + aesKey, "WECHAT_REPLY_TEXTS=" + replies,
		"SCENE_POOL=" + strconv.Itoa(w.pool), "SCENE_TTL=" + w.timing.TTL.String(), "SCENE_REST=" + w.timing.Rest.String(),
		"SCENE_GRACE=" + w.timing.Grace.String(), "BIND_TTL=" + w.timing.BindTTL.String(),
		"GORACE=halt_on_error=1",
	}
}

func (w *world) startBalancer(ctx context.Context, haproxy, addr string) error {
	cfg, err := configureHAProxy(w.dir, addr, w.instances)
	if err != nil {
		return err
	}
	log, err := openLog(w.dir, "haproxy")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), haproxy, "-db", "-f", cfg)
	cmd.Stdout, cmd.Stderr = log, log
	if w.balancer, err = proc.Start(cmd); err != nil {
		return errors.Join(err, log.Close())
	}
	if err := log.Close(); err != nil { // the program has its own
		return err
	}
	err = proc.Eventually(ctx, "the balancer has found the instances", func() bool {
		a := w.request(ctx, http.MethodGet, "/auth/verify", "", "")
		return a.from != "" || w.balancer.Exited()
	})
	if err == nil && w.balancer.Exited() {
		err = errors.New("haproxy has ended by itself")
	}
	return err
}

// stop ends everything but the folder with the logs.
func (w *world) stop(ctx context.Context) (err error) {
	var work sync.WaitGroup
	for _, i := range w.instances {
		work.Go(func() { i.end(ctx, syscall.SIGTERM, "stop") })
	}
	work.Wait()
	for _, i := range w.instances {
		_ = i.log.Close()
	}
	if w.balancer != nil {
		w.balancer.Signal(syscall.SIGKILL)
		<-w.balancer.Done
	}
	if w.sim != nil {
		w.sim.Close()
	}
	if w.api != nil {
		err = errors.Join(err, w.api.Close())
	}
	for _, wire := range w.wires {
		wire.close()
	}
	if w.client != nil {
		w.client.CloseIdleConnections()
	}
	if w.database != nil {
		err = errors.Join(err, w.database.stop(ctx))
	}
	return err
}

// complaints are lines of the instances' logs that no fault explains.
func (w *world) complaints() (lines []string) {
	for _, i := range w.instances {
		b, err := os.ReadFile(i.log.Name())
		if err != nil {
			lines = append(lines, err.Error())
			continue
		}
		for line := range strings.Lines(string(b)) {
			for _, bad := range []string{"DATA RACE", "panic", "goroutine "} {
				if strings.Contains(line, bad) {
					lines = append(lines, i.name+": "+strings.TrimSpace(line))
				}
			}
		}
	}
	return lines
}

// connections are those of the browsers.
type connections struct {
	mu   sync.Mutex
	open map[*connection]struct{}
}

type connection struct {
	net.Conn
	of *connections
}

func newConnections() *connections { return &connections{open: make(map[*connection]struct{})} }

func (c *connections) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn := &connection{nc, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
	return conn, nil
}

// Close closes the connection and forgets it.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// reset breaks them all.
func (c *connections) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		resetConn(conn.Conn)
	}
}
