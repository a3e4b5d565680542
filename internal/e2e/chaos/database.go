package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/devpg"
	"scanlogin/internal/e2e/proc"
)

// database is one PostgreSQL server, or a primary and its standby.
type database struct {
	dir string

	mu      sync.Mutex // held while a server is stopped, started or promoted
	servers []*devpg.Server
	serving int // index of the server that takes writes
}

// startDatabase starts a server, or a pair with synchronous replication. fast gives up
// what only matters when a machine crashes: here processes do.
func startDatabase(ctx context.Context, pair, fast bool) (_ *database, err error) {
	d := &database{}
	// A short name, for sockets; and for root a place where PostgreSQL's user may go.
	if d.dir, err = os.MkdirTemp("", "chaos-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop(ctx))
		}
	}()
	if err := os.Chmod(d.dir, 0o711); err != nil {
		return nil, err
	}
	primary := devpg.Config{Dir: filepath.Join(d.dir, "a"), Fast: fast}
	if !pair {
		s, err := devpg.Start(ctx, primary)
		d.servers = []*devpg.Server{s}
		return d, err
	}
	// Committed means: the standby has it on disk.
	primary.Settings = map[string]string{"synchronous_standby_names": devpg.StandbyName}
	p, s, err := devpg.StartPair(ctx, primary, devpg.Config{Dir: filepath.Join(d.dir, "b"), Fast: fast})
	if err != nil {
		return d, err
	}
	d.servers = []*devpg.Server{p, s}
	return d, nil
}

func (d *database) stop(ctx context.Context) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.servers {
		if s != nil {
			err = errors.Join(err, s.Stop(ctx))
		}
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// dial returns how server n is reached, whatever its state.
func (d *database) dial(n int) func() (net.Conn, error) {
	u, err := url.Parse(d.servers[n].URL("postgres"))
	if err != nil {
		return func() (net.Conn, error) { return nil, err }
	}
	socket := filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port"))
	dialer := net.Dialer{Timeout: time.Second}
	return func() (net.Conn, error) { return dialer.DialContext(context.Background(), "unix", socket) }
}

// databaseURL is for an instance that reaches the servers over these wires, in their order.
func databaseURL(wires []*wire) string {
	hosts := make([]string, len(wires))
	for n, w := range wires {
		hosts[n] = w.addr()
	}
	return "postgres://postgres@" + strings.Join(hosts, ",") + "/postgres?sslmode=disable&connect_timeout=2&target_session_attrs=read-write"
}

// url is the server that takes writes, reached without a wire.
func (d *database) url() string { return d.servers[d.serving].URL("postgres") }

// execute runs statements on the server that takes writes.
func (d *database) execute(ctx context.Context, statements string, args ...any) error {
	conn, err := pgx.Connect(ctx, d.url())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statements, args...)
	return errors.Join(err, conn.Close(ctx))
}

// terminate ends connections of the instances: all, listen or pool.
func (d *database) terminate(ctx context.Context, which string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[string][]string{"all": {"scanlogin", "scanlogin listen"}, "listen": {"scanlogin listen"}, "pool": {"scanlogin"}}
	return d.execute(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY($1)", names[which])
}

// outage stops the server that takes writes at once, and starts it again after a while.
func (d *database) outage(ctx context.Context, length time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, cancel := context.WithCancel(ctx)
	cancel() // an immediate stop, which rolls nothing back and says goodbye to nobody
	if err := d.servers[d.serving].Stop(now); err != nil {
		return err
	}
	proc.Pause(ctx, length)
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	s, err := devpg.Start(ctx, d.servers[d.serving].Config())
	if err == nil {
		d.servers[d.serving] = s
	}
	return err
}

// failover kills the primary and promotes its standby.
func (d *database) failover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.servers) != 2 || d.serving != 0 {
		return errors.New("there is no standby")
	}
	d.servers[0].Kill()
	d.serving = 1
	return d.servers[1].Promote(ctx)
}

// addPeople makes an account for everybody, all with the password of the account that is
// there already, and ties it to its owner's WeChat where that is known.
func (d *database) addPeople(ctx context.Context, names, openids []string) error {
	const accounts = `INSERT INTO scanlogin.account (name, password)
		SELECT name, (SELECT password FROM scanlogin.account LIMIT 1) FROM unnest($1::text[]) AS name`
	if err := d.execute(ctx, accounts, names); err != nil {
		return fmt.Errorf("adding accounts: %w", err)
	}
	const ties = `INSERT INTO scanlogin.wechat_identity (appid, openid, account_id)
		SELECT $1, p.openid, a.id FROM unnest($2::text[], $3::text[]) AS p (name, openid)
		JOIN scanlogin.account a ON a.name = p.name WHERE p.openid <> ''`
	if err := d.execute(ctx, ties, appID, names, openids); err != nil {
		return fmt.Errorf("tying accounts to people: %w", err)
	}
	return nil
}
