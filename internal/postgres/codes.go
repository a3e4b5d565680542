package postgres

import (
	"context"
	"fmt"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// reserveLease is the lease of the instance that makes codes ahead.
const reserveLease = "reserve"

// Reserve keeps the codes that were made ahead. It implements login.ReserveStore.
type Reserve struct {
	DB     *DB
	Holder login.ID // of this instance, for the lease
}

// Lead takes the lease, or keeps it.
func (r Reserve) Lead(ctx context.Context, ttl time.Duration) (bool, error) {
	n, err := r.DB.relaxed.TakeLease(ctx, pgstore.TakeLeaseParams{Name: reserveLease, Holder: r.Holder, Ttl: ttl})
	return n == 1, err
}

// Resign gives the lease back.
func (r Reserve) Resign(ctx context.Context) error {
	return r.DB.relaxed.EndLease(ctx, reserveLease, r.Holder)
}

// Ring tells where the ring stands.
func (r Reserve) Ring(ctx context.Context) (position, size int64, err error) {
	row, err := r.DB.Queries.Ring(ctx)
	return row.Position, row.Size, err
}

// Bare finds the scenes ahead that have no fresh code.
func (r Reserve) Bare(ctx context.Context, position, size, n int64, fresh time.Duration) ([]int32, error) {
	return r.DB.Queries.Bare(ctx, pgstore.BareParams{Position: position, Size: size, N: n, Fresh: fresh})
}

// Prepare gives a scene a code. A claim that takes it is durable, and takes it to the disk.
func (r Reserve) Prepare(ctx context.Context, scene int32, t login.Ticket, ttl, fresh time.Duration) error {
	return r.DB.relaxed.Prepare(ctx, pgstore.PrepareParams{ID: scene, Ticket: t.Ticket, Url: t.URL, Ttl: ttl, Fresh: fresh})
}

// Quota is what all instances know of the codes that WeChat lets one account make.
type Quota struct {
	DB    *DB
	AppID string
}

// BlockedError says that no code can be made for a while: WeChat said so, to whichever
// instance.
type BlockedError struct {
	For time.Duration
}

// Error names the time left.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("WeChat makes no more codes for %v: its quota is spent", e.For.Round(time.Second))
}

// RetryAfter is when it is of use to ask again.
func (e *BlockedError) RetryAfter() time.Duration { return e.For }

// Check returns a BlockedError while no code can be made.
func (q Quota) Check(ctx context.Context) error {
	row, err := q.DB.Queries.CodesBlocked(ctx, q.AppID)
	if err != nil {
		return fmt.Errorf("reading the quota of codes: %w", err)
	}
	if row.BlockedFor > 0 {
		return &BlockedError{time.Duration(row.BlockedFor * float64(time.Second))}
	}
	return nil
}

// Block keeps every instance from making codes for so long.
func (q Quota) Block(ctx context.Context, pause time.Duration) error {
	return q.DB.Queries.BlockCodes(ctx, pause, q.AppID)
}

// Count counts one code.
func (q Quota) Count(ctx context.Context) error {
	return q.DB.relaxed.CountCodes(ctx, q.AppID, 1)
}
