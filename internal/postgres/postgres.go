// Package postgres keeps logins, accounts and sessions in PostgreSQL, and carries hints
// between instances by NOTIFY.
package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/limit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// DB is a pool of connections whose statements are run in one schema.
type DB struct {
	// Instance is who we are in the audit log. To be set before anything is written.
	Instance string

	pool    *pgxpool.Pool
	schema  *schema
	relaxed *pgstore.Queries // for what a crash of PostgreSQL may forget: see [relaxed]
	claims  *batcher[claim, login.Login]
	takes   *batcher[[]limit.Count, []time.Duration]
	joins   *batcher[login.Ref, login.Login]
	*pgstore.Queries
}

// Open connects lazily to the database at url (a libpq URL, several hosts allowed);
// tables are looked for in the schema of that name.
func Open(ctx context.Context, url, schemaName string) (*DB, error) {
	pool, err := openPool(ctx, url, maxConns)
	if err != nil {
		return nil, err
	}
	db := &DB{pool: pool, schema: &schema{name: schemaName}}
	db.Queries, db.relaxed = db.on(pool), db.on(relaxed{pool})
	db.claims = &batcher[claim, login.Login]{max: maxClaims, run: db.runClaims}
	db.takes = &batcher[[]limit.Count, []time.Duration]{max: maxTakes, run: db.runTakes}
	db.joins = &batcher[login.Ref, login.Login]{max: maxJoins, run: db.runJoins}
	return db, nil
}

// Close waits for the connections in use and closes them all.
func (db *DB) Close() { db.pool.Close() }

// Stat is what the pool of connections is doing.
func (db *DB) Stat() *pgxpool.Stat { return db.pool.Stat() }

// Ping asks the database for a sign of life.
func (db *DB) Ping(ctx context.Context) error { return db.pool.Ping(ctx) }

// tx runs f in one transaction, rolled back when f returns an error.
func (db *DB) tx(ctx context.Context, f func(q *pgstore.Queries) error) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		return f(db.on(tx))
	})
}

// on is the statements, run on one connection or in one transaction.
func (db *DB) on(conn pgstore.DBTX) *pgstore.Queries {
	return pgstore.New(qualified{conn, db.schema})
}

// registerTypes says what our types are where no prepared statement says so: behind a
// transaction pooler that knows none, with default_query_exec_mode=exec in the URL.
func registerTypes(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterDefaultPgType(login.ID{}, "uuid")
	conn.TypeMap().RegisterDefaultPgType([]login.ID{}, "_uuid")
	return nil
}

// schemaInFiles is the schema that the SQL files are written with.
const schemaInFiles = "scanlogin"

// schema puts the configured schema in the place of the one that statements are
// written with.
type schema struct {
	name string
	done sync.Map // statement as written -> as run; the statements are a fixed set
}

func (s *schema) qualify(statement string) string {
	if s.name == schemaInFiles {
		return statement
	}
	if done, ok := s.done.Load(statement); ok {
		if q, ok := done.(string); ok {
			return q
		}
	}
	q := s.replace(statement)
	s.done.Store(statement, q)
	return q
}

// replace works on names and inside regclass literals alike.
func (s *schema) replace(text string) string {
	quoted := pgx.Identifier{s.name}.Sanitize()
	text = strings.ReplaceAll(text, schemaInFiles+".", quoted+".")
	return strings.ReplaceAll(text, "SCHEMA "+schemaInFiles, "SCHEMA "+quoted)
}

// qualified runs statements in a schema.
type qualified struct {
	db     pgstore.DBTX
	schema *schema
}

func (q qualified) Exec(ctx context.Context, s string, args ...any) (pgconn.CommandTag, error) {
	return q.db.Exec(ctx, q.schema.qualify(s), args...)
}

func (q qualified) Query(ctx context.Context, s string, args ...any) (pgx.Rows, error) {
	return q.db.Query(ctx, q.schema.qualify(s), args...)
}

func (q qualified) QueryRow(ctx context.Context, s string, args ...any) pgx.Row {
	return q.db.QueryRow(ctx, q.schema.qualify(s), args...)
}
