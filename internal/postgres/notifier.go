package postgres

import (
	"context"
	"encoding/binary"
	"strings"
	"time"

	"scanlogin/internal/login"
)

// Payloads of NOTIFY must be shorter than 8,000 bytes; IDs stand in them one after the
// other, in hex. An ID may be followed by a stamp, which looks like one: see [stamp].
const (
	idLength       = 2 * len(login.ID{})
	maxPayload     = 7900
	maxHints       = 32 * (maxPayload / idLength) // in one statement
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

	hints *batcher[login.Hint, struct{}]
}

type hint = order[login.Hint, struct{}]

// NewNotifier makes a notifier.
func NewNotifier(db *DB, channel string) *Notifier {
	n := &Notifier{DB: db, Channel: channel}
	n.hints = &batcher[login.Hint, struct{}]{max: maxHints, run: n.send}
	return n
}

// Notify returns when the NOTIFY that names id was sent, or could not be. A caller that
// leaves before takes nothing back: the login has changed all the same. What
// login.Arrived says goes along.
func (n *Notifier) Notify(ctx context.Context, id login.ID) error {
	h, err := n.hints.add(context.WithoutCancel(ctx), login.Hint{ID: id, Since: login.ArrivedAt(ctx)})
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

func payloads(hints []*hint) (out []string) {
	var b strings.Builder
	for _, h := range hints {
		entry := entry(h.item)
		if b.Len()+len(entry) > maxPayload {
			out = append(out, b.String())
			b.Reset()
		}
		b.WriteString(entry)
	}
	return append(out, b.String())
}

// entry is a hint as it stands in a payload.
func entry(h login.Hint) string {
	if h.Since.IsZero() {
		return h.ID.String()
	}
	return h.ID.String() + stamp(h.Since).String()
}

// stamp is a time in the place of an ID: eight zero bytes, which no ID begins with but by a
// chance of 2^-64, and the microseconds since 1970. So a version that knows of no stamps
// takes it for a login that nobody streams, and hears what stands beside it.
func stamp(t time.Time) (id login.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(t.UnixMicro()))
	return id
}

// readStamp is the inverse of stamp; ok is false for an ID.
func readStamp(id login.ID) (t time.Time, ok bool) {
	if binary.BigEndian.Uint64(id[:8]) != 0 {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(id[8:]))), true
}

// parsePayload is the inverse of payloads; ok is false for what we never send.
func parsePayload(s string) (hints []login.Hint, ok bool) {
	for ; len(s) >= idLength; s = s[idLength:] {
		id, ok := login.ParseID(s[:idLength])
		if !ok {
			return nil, false
		}
		at, isStamp := readStamp(id)
		switch last := len(hints) - 1; {
		case !isStamp:
			hints = append(hints, login.Hint{ID: id})
		case last < 0 || !hints[last].Since.IsZero():
			return nil, false
		default:
			hints[last].Since = at
		}
	}
	return hints, s == "" && len(hints) > 0
}
