package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"scanlogin/internal/login"
)

// Every proofInterval the listener sends itself a NOTIFY; one that isn't back by the next
// means that the connection is dead, however alive it looks: half-open sockets and
// transaction poolers stay silent for ever.
const (
	// proofInterval is also how long a statement of the listener may take, and the longest
	// pause between two tries to connect.
	proofInterval = 5 * time.Second
	firstBackoff  = 20 * time.Millisecond
)

var errNoProof = errors.New("postgres: a NOTIFY to ourselves did not come back; is DATABASE_LISTEN_URL a direct connection?")

// Listener hears what the notifiers of all instances say, on a connection of its own
// that it makes again whenever it breaks.
type Listener struct {
	URL     string // a direct connection, not one through a transaction pooler
	Channel string
	// Up is called each time that listening begins: whatever was said before is lost,
	// so look at everything again.
	Up func()
	// Changed is called with the logins that have changed. It must not block.
	Changed func(ids ...login.ID)
	Logger  *slog.Logger

	interval time.Duration // between two proofs of life; 0: proofInterval
	up       atomic.Bool
}

// Listening tells whether notifications arrive at present.
func (l *Listener) Listening() bool { return l.up.Load() }

// Run listens until ctx ends.
func (l *Listener) Run(ctx context.Context) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		err := l.listen(ctx)
		if l.up.Swap(false) {
			backoff = firstBackoff
		}
		if ctx.Err() != nil {
			return
		}
		pause := backoff + mrand.N(backoff*3/2)
		l.Logger.WarnContext(ctx, "LISTEN connection lost", "err", err, "retry_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		backoff = min(2*backoff, l.every())
	}
}

// listen connects and listens until that connection breaks.
func (l *Listener) listen(ctx context.Context) error {
	conn, proof, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	l.up.Store(true)
	l.Logger.InfoContext(ctx, "listening", "channel", l.Channel)
	l.Up()
	for proven := true; ; {
		if !proven {
			return errNoProof
		}
		if err := l.exec(ctx, conn, "SELECT pg_notify($1, '')", proof); err != nil {
			return fmt.Errorf("sending a proof of life: %w", err)
		}
		if proven, err = l.hear(ctx, conn, proof); err != nil {
			return fmt.Errorf("waiting for notifications: %w", err)
		}
	}
}

func (l *Listener) connect(ctx context.Context) (conn *pgx.Conn, proof string, err error) {
	cfg, err := connConfig(l.URL, "scanlogin listen")
	if err != nil {
		return nil, "", err
	}
	if conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return nil, "", err
	}
	// Nobody else listens to the channel of our proof of life.
	proof = "scanlogin_proof_" + rand.Text()
	for _, channel := range []string{l.Channel, proof} {
		if err := l.exec(ctx, conn, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			closeConn(ctx, conn)
			return nil, "", fmt.Errorf("listening to %s: %w", channel, err)
		}
	}
	return conn, proof, nil
}

// hear passes on notifications until the next proof of life is due, and tells whether our own
// proof of life was among them.
func (l *Listener) hear(ctx context.Context, conn *pgx.Conn, proof string) (proven bool, err error) {
	wait, cancel := context.WithTimeout(ctx, l.every())
	defer cancel()
	for {
		n, err := conn.WaitForNotification(wait)
		switch {
		case err != nil && ctx.Err() == nil && wait.Err() != nil && !conn.IsClosed():
			return proven, nil
		case err != nil:
			return false, err
		case n.Channel == proof:
			proven = true
		default:
			l.pass(ctx, n)
		}
	}
}

func (l *Listener) pass(ctx context.Context, n *pgconn.Notification) {
	ids, ok := parsePayload(n.Payload)
	if !ok {
		l.Logger.WarnContext(ctx, "not a notification of ours", "channel", n.Channel, "bytes", len(n.Payload))
		return
	}
	l.Changed(ids...)
}

func (l *Listener) every() time.Duration { return cmp.Or(l.interval, proofInterval) }

// exec runs a statement that must not take long.
func (l *Listener) exec(ctx context.Context, conn *pgx.Conn, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, l.every())
	defer cancel()
	_, err := conn.Exec(ctx, statement, args...)
	return err
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // dead or alive, it is of no more use
	conn.PgConn().Conn().Close()
}
