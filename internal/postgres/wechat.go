package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Pushes keeps the replies to WeChat's pushes, for when one is pushed again, to whichever
// instance.
type Pushes struct {
	DB *DB
}

// Reply returns what was replied to this push before; ok is false where nothing was.
func (p Pushes) Reply(ctx context.Context, push []byte) (reply string, ok bool, err error) {
	reply, err = p.DB.Queries.PushReply(ctx, push)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	return reply, err == nil, err
}

// Save keeps a reply, unless there is one. Where a crash of PostgreSQL forgets it, a repeat
// is answered anew; what the push led to is durable by itself.
func (p Pushes) Save(ctx context.Context, push []byte, reply string) error {
	return p.DB.relaxed.SavePush(ctx, push, reply)
}

// OriginalID remembers the account's own name in pushes, gh_…, once a genuine one has
// named it. It is read from the database until it is known, and never changes then.
type OriginalID struct {
	DB    *DB
	AppID string

	known atomic.Pointer[string]
}

// Load reads it from the database.
func (o *OriginalID) Load(ctx context.Context) error {
	id, err := o.DB.Queries.OriginalID(ctx, o.AppID)
	if err != nil {
		return fmt.Errorf("reading the account's original ID: %w", err)
	}
	if id != "" {
		o.known.Store(&id)
	}
	return nil
}

// Known returns it, empty while unknown.
func (o *OriginalID) Known() string {
	if id := o.known.Load(); id != nil {
		return *id
	}
	return ""
}

// Learn stores it, where no instance did so before, and takes what stands there then.
func (o *OriginalID) Learn(ctx context.Context, id string) error {
	if o.Known() != "" || id == "" {
		return nil
	}
	if err := o.DB.Queries.LearnOriginalID(ctx, id, o.AppID); err != nil {
		return fmt.Errorf("storing the account's original ID: %w", err)
	}
	return o.Load(ctx)
}
