package postgres

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What a connection has where the URL doesn't say otherwise. A server may go away without
// a word (its machine died, the network was cut), and another take its place: nobody waits
// longer for the old one than for the new one to take over.
const (
	// connectTimeout bounds one attempt to connect to one host. Of several, the first may be
	// the one that is gone.
	connectTimeout = 3 * time.Second
	// maxConns is the pool's size. More connections than that make one PostgreSQL slower,
	// not faster.
	maxConns = 16
	// trusted is how long a connection may lie idle and be used again unseen. After that it
	// has to answer within pingTimeout.
	trusted     = time.Second
	pingTimeout = time.Second
	// lifetimeJitter keeps connections that were made together from ending together.
	lifetimeJitter = 10 * time.Minute
)

// unacked is how long the other side's kernel may leave unanswered what was sent to it.
const unacked = 8 * time.Second

// keepAlive asks an idle connection's other side, and gives it up after about unacked.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}
}

// openPool reads a database URL, and connects lazily: to conns connections at most, where
// the URL doesn't say how many.
func openPool(ctx context.Context, url string, conns int32) (pool *pgxpool.Pool, err error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	prepare(cfg.ConnConfig, "scanlogin")
	if !strings.Contains(url, "pool_max_conns") {
		cfg.MaxConns = conns
	}
	cfg.MaxConnLifetimeJitter = cmp.Or(cfg.MaxConnLifetimeJitter, lifetimeJitter)
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, pingTimeout)
	cfg.AfterConnect = registerTypes
	cfg.BeforeClose = hangUp
	cfg.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > trusted && !answers(ctx, pool, p.Conn, cfg.PingTimeout)
	}
	if pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	return pool, nil
}

// answers pings a connection that lay idle. One that is dead is closed, which the pool
// notices by its own ping; and the others that lie idle are thrown away with it, because
// they hang on the same server, and to ask them one by one would take a timeout each.
func answers(ctx context.Context, pool *pgxpool.Pool, conn *pgx.Conn, timeout time.Duration) bool {
	ping, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := conn.Ping(ping)
	if err != nil && ctx.Err() == nil {
		pool.Reset()
	}
	return err == nil
}

// hangUp bounds the time that a broken connection keeps its place in the pool, and the pool
// from closing: pgx would wait for the server's good-bye for 15 s.
func hangUp(conn *pgx.Conn) {
	if !conn.IsClosed() {
		return
	}
	select {
	case <-conn.PgConn().CleanupDone():
	case <-time.After(pingTimeout):
		conn.PgConn().Conn().Close()
	}
}

// connConfig reads a database URL for a connection that is in no pool; pool settings in
// the URL are for pools.
func connConfig(url, application string) (*pgx.ConnConfig, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	prepare(cfg.ConnConfig, application)
	return cfg.ConnConfig, nil
}

// prepare sets what every connection of ours has.
func prepare(cfg *pgx.ConnConfig, application string) {
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = application
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAliveConfig: keepAlive(), ControlContext: giveUpUnacked}
	cfg.DialFunc = dialer.DialContext
	// Of several hosts the one that can be written to, without target_session_attrs too.
	if cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	// The server at the other end may have become a standby: it is of no more use.
	survives := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return err.Code != readOnlyTransaction && survives(conn, err)
	}
}

// readOnlyTransaction is SQLSTATE 25006.
const readOnlyTransaction = "25006"
