package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"scanlogin/internal/login"
)

// Payloads of NOTIFY must be shorter than 8,000 bytes; IDs stand in them one after the
// other, in hex.
const (
	idLength       = 2 * len(login.ID{})
	maxIDsANotify  = 7900 / idLength
	notifyDeadline = 3 * time.Second
)

var errStopped = errors.New("postgres: the notifier has stopped")

// Channel is the NOTIFY channel of a schema: channels are shared by a whole database.
func Channel(schemaName string) string { return schemaName + "_login" }

// Notifier tells all instances which logins have changed, in batches that form by
// themselves: whatever arrives while one NOTIFY is under way goes out with the next.
// NOTIFY is no part of the transaction that changes a row, because it would hold a lock
// on the whole database until that commit is on disk.
type Notifier struct {
	DB      *DB
	Channel string

	mu      sync.Mutex
	waiting []hint
	more    chan struct{}
	stopped bool
}

type hint struct {
	id   login.ID
	sent chan<- error
}

// NewNotifier makes a notifier; it sends while Run runs.
func NewNotifier(db *DB, channel string) *Notifier {
	return &Notifier{DB: db, Channel: channel, more: make(chan struct{}, 1)}
}

// Notify returns when the NOTIFY that names id was sent, or could not be.
func (n *Notifier) Notify(ctx context.Context, id login.ID) error {
	sent := make(chan error, 1)
	if !n.add(hint{id, sent}) {
		return errStopped
	}
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Notifier) add(h hint) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return false
	}
	n.waiting = append(n.waiting, h)
	select {
	case n.more <- struct{}{}:
	default:
	}
	return true
}

// Run sends until ctx ends; then it sends what is left and refuses more.
func (n *Notifier) Run(ctx context.Context) {
	for {
		select {
		case <-n.more:
			n.flush(n.take(false))
		case <-ctx.Done():
			n.flush(n.take(true))
			return
		}
	}
}

func (n *Notifier) take(last bool) []hint {
	n.mu.Lock()
	defer n.mu.Unlock()
	hints := n.waiting
	n.waiting, n.stopped = nil, last
	return hints
}

func (n *Notifier) flush(hints []hint) {
	if len(hints) == 0 {
		return
	}
	// Its own deadline: the batch belongs to no single caller.
	ctx, cancel := context.WithTimeout(context.Background(), notifyDeadline)
	defer cancel()
	// It changes no table, so its commit waits for no disk as it is.
	err := n.DB.Queries.Notify(ctx, n.Channel, payloads(hints))
	for _, h := range hints {
		h.sent <- err
	}
}

func payloads(hints []hint) []string {
	var out []string
	var b strings.Builder
	for i, h := range hints {
		b.WriteString(h.id.String())
		if (i+1)%maxIDsANotify == 0 || i == len(hints)-1 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	return out
}

// parsePayload is the inverse of payloads; ok is false for what we never send.
func parsePayload(s string) (ids []login.ID, ok bool) {
	for ; len(s) >= idLength; s = s[idLength:] {
		id, ok := login.ParseID(s[:idLength])
		if !ok {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, s == "" && len(ids) > 0
}
