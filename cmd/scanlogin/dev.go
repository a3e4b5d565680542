package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/config"
	"scanlogin/internal/devpg"
	"scanlogin/internal/postgres"
)

// devDefaults puts what dev brings itself in the place of what is not set. Real
// settings win, so that every one of them can be tried here.
func devDefaults(lookup func(string) (string, bool)) func(string) (string, bool) {
	defaults := map[string]string{
		"WECHAT_APP_ID":     "wx5ca9109108888888",
		"WECHAT_APP_SECRET": "dev-secret-of-the-simulated-account",
		"WECHAT_TOKEN":      "devtoken",
		// Everybody here comes from one address.
		"RATE_LIMITS": "off",
		// Whoever presses ctrl-C has no balancer to be waited for.
		"DRAIN_WINDOW": "1s",
		// The simulated phone lists the codes that were made; here that shall be those on a
		// screen.
		"CODES_READY_MAX": "0",
	}
	return func(name string) (string, bool) {
		if name == "DATABASE_URL" || name == "DATABASE_LISTEN_URL" {
			return "postgres://dev", true
		}
		if value, ok := lookup(name); ok && value != "" {
			return value, ok
		}
		value, ok := defaults[name]
		return value, ok
	}
}

// devOptions are dev's own flags.
type devOptions struct {
	data       string
	secondAddr string
	secondOps  string
	wechatAddr string
}

func devCommand() command {
	var o devOptions
	return command{
		groups: config.All,
		flags: func(f *flag.FlagSet) {
			f.StringVar(&o.data, "data", defaultData(), "folder of the database, kept between runs")
			f.StringVar(&o.secondAddr, "second-addr", ":8081", "where the second instance listens")
			f.StringVar(&o.secondOps, "second-ops-addr", "127.0.0.1:9091", "where its metrics and health listen")
			f.StringVar(&o.wechatAddr, "wechat-addr", ":8090", "where the WeChat simulator listens")
		},
		run: func(ctx context.Context, p program, cfg config.Config, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("dev takes no arguments; %w", errUsage)
			}
			return p.dev(ctx, cfg, o)
		},
	}
}

// defaultData is a folder that the database's own user can reach: root's home is not.
func defaultData() string {
	if os.Getuid() == 0 {
		return "/var/lib/scanlogin-dev"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "scanlogin-dev")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "scanlogin-dev")
	}
	return filepath.Join(home, ".local", "share", "scanlogin-dev")
}

// dev runs the whole thing until ctx ends: PostgreSQL, WeChat, two instances.
func (p program) dev(ctx context.Context, cfg config.Config, o devOptions) (err error) {
	logger := p.logger(cfg)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// The addresses first: a busy one is what goes wrong most often.
	phone, err := newServer(ctx, o.wechatAddr, "--wechat-addr", nil, logger)
	if err != nil {
		return err
	}
	defer phone.close()
	pg, err := devpg.Start(ctx, devpg.Config{Dir: o.data, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Stop(context.WithoutCancel(ctx))) }()

	cfgs := devConfigs(cfg, o, pg.URL("postgres"), phone.addr())
	// Here one role does everything.
	if err := postgres.Migrate(ctx, cfgs[0].DatabaseURL.Reveal(), cfg.DatabaseSchema, ""); err != nil {
		return err
	}
	// Both in turn, so that the one that hears of a scan is often not the one that shows the code.
	sim, err := newSimulator(cfg, []string{callbackURL(cfgs[0]), callbackURL(cfgs[1])}, phoneURL(phone.addr()), logger)
	if err != nil {
		return err
	}
	defer sim.Close()
	phone.Handler = sim.Handler()

	t, err := newTraces(ctx, p.lookup, logger)
	if err != nil {
		return err
	}
	defer t.stop(ctx)
	var instances errgroup.Group
	for n, c := range cfgs {
		i, err := newInstance(ctx, c, t, logger.With("instance", n+1))
		if err != nil {
			cancel()
			return errors.Join(err, instances.Wait())
		}
		instances.Go(func() error {
			defer cancel() // one without the other is no demonstration
			return i.run(ctx)
		})
	}
	failed := make(chan error, 1)
	phone.start(failed)
	if err := demoAccounts(ctx, cfgs[0]); err == nil {
		p.sayWhatToOpen(cfgs[0], phone.addr())
	} else if ctx.Err() == nil {
		cancel()
		return errors.Join(err, instances.Wait())
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-pg.Done():
		err = fmt.Errorf("PostgreSQL has stopped: %w", pg.Err())
	}
	cancel()
	return errors.Join(err, instances.Wait())
}

// devConfigs are the settings of the two instances.
func devConfigs(cfg config.Config, o devOptions, database, wechatAddr string) [2]config.Config {
	if cfg.AccountsURL == cfg.DatabaseURL {
		cfg.AccountsURL = config.Secret(database)
	}
	cfg.DatabaseURL = config.Secret(database)
	cfg.DatabaseListenURL = cfg.DatabaseURL
	cfg.WeChatAPIURL = &url.URL{Scheme: "http", Host: local(wechatAddr)}
	name := instanceName(cfg)
	cfg.Instance = name + "-1"
	second := cfg
	second.Instance = name + "-2"
	second.Addr, second.OpsAddr = o.secondAddr, o.secondOps
	return [2]config.Config{cfg, second}
}

func callbackURL(cfg config.Config) string { return "http://" + local(cfg.Addr) + callbackPath }

// local is an address that listens here as one to connect to from here.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// demoUsers are there to play with; their names are their passwords' only secret.
func demoUsers() map[string]string {
	return map[string]string{"alice": "alice-demo", "bob": "bob-demo-1"}
}

func demoAccounts(ctx context.Context, cfg config.Config) error {
	if cfg.Accounts == "sql" {
		return nil // there are others
	}
	db, err := postgres.Open(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseSchema)
	if err != nil {
		return err
	}
	defer db.Close()
	db.Instance = cfg.Instance
	ctx = audit.With(ctx, audit.Where{Browser: "scanlogin dev"})
	accounts := &account.Service{Store: postgres.Accounts{DB: db}}
	for name, password := range demoUsers() {
		if _, err := accounts.Create(ctx, name, password); err != nil && !errors.Is(err, account.ErrNameTaken) {
			return fmt.Errorf("making the demo account %s: %w", name, err)
		}
	}
	return nil
}

func (p program) sayWhatToOpen(cfg config.Config, phone string) {
	users := demoUsers()
	fmt.Fprintf(p.stdout, "\n  open this page:  %s/login\n", cfg.Origin())
	fmt.Fprintf(p.stdout, "  scan here:       http://localhost:%s/\n", port(phone))
	if cfg.OpsAddr != "" {
		fmt.Fprintf(p.stdout, "  how it does:     http://%s/\n", local(cfg.OpsAddr))
	}
	if cfg.Accounts == "builtin" {
		fmt.Fprintf(p.stdout, "  log in as:       alice with %s, or bob with %s\n\n", strconv.Quote(users["alice"]), strconv.Quote(users["bob"]))
	}
}
