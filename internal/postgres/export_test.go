package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// Fill makes n connections and leaves them idle.
func (db *DB) Fill(ctx context.Context, n int) error {
	for range n {
		conn, err := db.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
	}
	return nil
}

// Do calls f with a connection.
func (db *DB) Do(ctx context.Context, f func(*pgx.Conn) error) error {
	return db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return f(conn.Conn()) })
}

// MaxPayload is the length that PostgreSQL refuses a NOTIFY from.
const MaxPayload = 8000

// CurrentStatement is the one statement on our tables that sqlc doesn't make.
const CurrentStatement = currentStatement

// SetInterval makes proofs of life follow each other faster than in production.
func (l *Listener) SetInterval(d time.Duration) { l.interval = d }

// SetInterval makes rounds follow each other faster than in production.
func (h *Housekeeper) SetInterval(d time.Duration) { h.interval = d }

// Waiting is how many callers of Notify wait for the next statement.
func (n *Notifier) Waiting() int {
	n.hints.mu.Lock()
	defer n.hints.mu.Unlock()
	return len(n.hints.queue)
}

// Claiming is how many callers of Claim wait for the next statement.
func (db *DB) Claiming() int {
	db.claims.mu.Lock()
	defer db.claims.mu.Unlock()
	return len(db.claims.queue)
}

// Joining is how many callers of Join wait for the next statement.
func (db *DB) Joining() int {
	db.joins.mu.Lock()
	defer db.joins.mu.Unlock()
	return len(db.joins.queue)
}

// Hold takes a connection out of the pool.
func (db *DB) Hold(ctx context.Context) (*pgxpool.Conn, error) { return db.pool.Acquire(ctx) }

// MadeToday is how many codes were made since midnight in Shanghai.
func (q Quota) MadeToday(ctx context.Context) (int, error) {
	row, err := q.DB.Queries.CodesBlocked(ctx, q.AppID)
	return int(row.MadeToday), err
}

// Payloads is what a batch is sent as.
func Payloads(hints []login.Hint) []string {
	orders := make([]*hint, len(hints))
	for i, h := range hints {
		orders[i] = &hint{item: h}
	}
	return payloads(orders)
}

// ParsePayload reads one of them.
func ParsePayload(s string) ([]login.Hint, bool) { return parsePayload(s) }

// BeforeEach calls f before each statement that runs outside of a transaction.
func (db *DB) BeforeEach(f func(statement string, args []any)) {
	db.Queries = pgstore.New(hooked{qualified{db.pool, db.schema}, f})
	db.relaxed = pgstore.New(hooked{qualified{relaxed{db.pool}, db.schema}, f})
}

// Relaxed is a pool's connections whose commits don't wait for the disk.
func Relaxed(pool *pgxpool.Pool) pgstore.DBTX { return relaxed{pool} }

type hooked struct {
	qualified
	before func(statement string, args []any)
}

func (h hooked) Exec(ctx context.Context, s string, args ...any) (pgconn.CommandTag, error) {
	h.before(s, args)
	return h.qualified.Exec(ctx, s, args...)
}

func (h hooked) Query(ctx context.Context, s string, args ...any) (pgx.Rows, error) {
	h.before(s, args)
	return h.qualified.Query(ctx, s, args...)
}

func (h hooked) QueryRow(ctx context.Context, s string, args ...any) pgx.Row {
	h.before(s, args)
	return h.qualified.QueryRow(ctx, s, args...)
}
