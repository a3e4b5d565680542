package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A statement is durable, which [DB.Queries] and [DB.tx] are, unless it is written as one
// of db.relaxed: there the commit doesn't wait for the disk, and a crash of PostgreSQL may
// forget what it did in the last second before. The rule:
//
//   - Durable is whatever somebody was told, or is shown: a claim (forgotten, its code
//     would be claimed once more and be on two screens), its ticket, one more watcher, a
//     scan, a session begun or ended, an account, a password, a tie, an access token.
//   - Relaxed is what expires or is made again by itself: a lease, a counter, the end of a
//     login that nobody looks at, a code that nobody has been shown yet.
//
// What is forgotten is always the newest, never something in between: a durable commit
// takes with it every relaxed one before it.
type relaxed struct {
	db interface {
		SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	}
}

// relax holds for the transaction that it is run in. SET LOCAL would do nothing here:
// it wants a transaction block.
const relax = "SELECT set_config('synchronous_commit', 'off', true)"

// send runs the statement behind one that relaxes its commit. Both are sent at once, which
// makes them one transaction in one round trip, also through a transaction pooler.
func (r relaxed) send(ctx context.Context, statement string, args []any) pgx.BatchResults {
	b := &pgx.Batch{}
	b.Queue(relax)
	b.Queue(statement, args...)
	results := r.db.SendBatch(ctx, b)
	_, _ = results.Exec() // where it fails, so does whatever is read next
	return results
}

func (r relaxed) Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	results := r.send(ctx, statement, args)
	tag, err := results.Exec()
	if e := results.Close(); err == nil { // the commit
		err = e
	}
	return tag, err
}

func (r relaxed) Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	results := r.send(ctx, statement, args)
	rows, err := results.Query()
	both := &relaxedRows{Rows: rows, results: results}
	if err != nil {
		both.Close()
	}
	return both, err
}

func (r relaxed) QueryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	rows, _ := r.Query(ctx, statement, args...) // its error is in the rows too
	return relaxedRow{rows}
}

// relaxedRows ends with its transaction, as the rows of a statement alone do.
type relaxedRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *relaxedRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *relaxedRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
}

func (r *relaxedRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

type relaxedRow struct{ rows pgx.Rows }

func (r relaxedRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
