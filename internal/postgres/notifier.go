package postgres

import (
	"context"
	"strings"
	"time"

	"scanlogin/internal/login"
)

// Payloads of NOTIFY must be shorter than 8,000 bytes; IDs stand in them one after the
// other, in hex.
const (
	idLength       = 2 * len(login.ID{})
	maxIDsANotify  = 7900 / idLength
	maxHints       = 32 * maxIDsANotify // in one statement
	notifyDeadline = 3 * time.Second
)

// Channel is the NOTIFY channel of a schema: channels are shared by a whole database.
func Channel(schemaName string) string { return schemaName + "_login" }

// Notifier tells all instances which logins have changed, in batches. NOTIFY is no part of
// the transaction that changes a row, because it would hold a lock on the whole database
// until that commit is on disk.
type Notifier struct {
	DB      *DB
	Channel string

	hints *batcher[login.ID, struct{}]
}

type hint = order[login.ID, struct{}]

// NewNotifier makes a notifier.
func NewNotifier(db *DB, channel string) *Notifier {
	n := &Notifier{DB: db, Channel: channel}
	n.hints = &batcher[login.ID, struct{}]{max: maxHints, run: n.send}
	return n
}

// Notify returns when the NOTIFY that names id was sent, or could not be. A caller that
// leaves before takes nothing back: the login has changed all the same.
func (n *Notifier) Notify(ctx context.Context, id login.ID) error {
	h, err := n.hints.add(context.WithoutCancel(ctx), id)
	if err != nil {
		return err
	}
	select {
	case <-h.done:
		return h.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run waits until ctx ends; then it refuses more, and returns when what is left was sent.
func (n *Notifier) Run(ctx context.Context) {
	<-ctx.Done()
	n.hints.stop()
}

func (n *Notifier) send(ctx context.Context, take func() []*hint) {
	hints := take()
	// Its own deadline: the batch belongs to no single caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyDeadline)
	defer cancel()
	// It changes no table, so its commit waits for no disk as it is.
	err := n.DB.Queries.Notify(ctx, n.Channel, payloads(hints))
	for _, h := range hints {
		h.answer(struct{}{}, err)
	}
}

func payloads(hints []*hint) []string {
	var out []string
	var b strings.Builder
	for i, h := range hints {
		b.WriteString(h.item.String())
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
