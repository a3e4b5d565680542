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

// Every proofInterval the listener asks its connection for an answer, and has the pool send
// it a NOTIFY. One that isn't back by the next means that nothing is heard here, however
// alive the connection looks: a transaction pooler stays silent for ever, and so does a
// former primary that the pool has left. The listener's own NOTIFY would prove nothing: it
// comes back within its own statement, through a pooler too.
const (
	// proofInterval is also how long a statement of the listener may take, and the longest
	// pause between two tries to connect.
	proofInterval = 5 * time.Second
	firstBackoff  = 20 * time.Millisecond
)

var errNoProof = errors.New("postgres: a NOTIFY sent through DATABASE_URL did not arrive; " +
	"DATABASE_LISTEN_URL has to be a direct connection, not through a transaction pooler, to the same database")

// Listener hears what the notifiers of all instances say, on a connection of its own
// that it makes again whenever it breaks.
type Listener struct {
	DB      *DB    // sends the proofs of life
	URL     string // a direct connection, not one through a transaction pooler
	Channel string
	// Up is called each time that listening begins: whatever was said before is lost,
	// so look at everything again.
	Up func()
	// Changed is called with the logins that have changed. It must not block.
	Changed func(hints ...login.Hint)
	// Heard, where it isn't nil, is told how long each proof of life took: a NOTIFY from the
	// pool to this connection, the wait for one of the pool's included.
	Heard  func(lag time.Duration)
	Logger *slog.Logger

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
	// Nobody else listens to the channel of our proof of life.
	proof := "scanlogin_proof_" + rand.Text()
	conn, err := listenTo(ctx, l.URL, l.every(), l.Channel, proof)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	l.up.Store(true)
	l.Logger.InfoContext(ctx, "listening", "channel", l.Channel)
	l.Up()
	for {
		if err := l.ping(ctx, conn); err != nil {
			return fmt.Errorf("asking for a sign of life: %w", err)
		}
		began := time.Now()
		sent := l.send(ctx, proof)
		proven, err := l.hear(ctx, conn, proof, began)
		switch wasSent := <-sent == nil; {
		case err != nil:
			return fmt.Errorf("waiting for notifications: %w", err)
		case wasSent && !proven:
			return errNoProof
		}
	}
}

// send has the pool send a proof of life. One that could not be sent, because the pool is
// busy or its server is gone, says nothing of this connection.
func (l *Listener) send(ctx context.Context, proof string) <-chan error {
	sent := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, l.every()/2) // it needs time to arrive, too
		defer cancel()
		sent <- l.DB.Queries.Notify(ctx, proof, []string{""})
	}()
	return sent
}

// listenTo makes a connection that listens to these channels.
func listenTo(ctx context.Context, url string, patience time.Duration, channels ...string) (*pgx.Conn, error) {
	cfg, err := connConfig(url, "scanlogin listen")
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, channel := range channels {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			closeConn(ctx, conn)
			return nil, fmt.Errorf("listening to %s: %w", channel, err)
		}
	}
	return conn, nil
}

// hear passes on notifications until the next proof of life is due, and tells whether our own
// proof of life was among them.
func (l *Listener) hear(ctx context.Context, conn *pgx.Conn, proof string, sent time.Time) (proven bool, err error) {
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
			if l.Heard != nil {
				l.Heard(time.Since(sent))
			}
		default:
			l.pass(ctx, n)
		}
	}
}

func (l *Listener) pass(ctx context.Context, n *pgconn.Notification) {
	hints, ok := parsePayload(n.Payload)
	if !ok {
		l.Logger.WarnContext(ctx, "not a notification of ours", "channel", n.Channel, "bytes", len(n.Payload))
		return
	}
	l.Changed(hints...)
}

func (l *Listener) every() time.Duration { return cmp.Or(l.interval, proofInterval) }

func (l *Listener) ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.every())
	defer cancel()
	return conn.Ping(ctx)
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // dead or alive, it is of no more use
	conn.PgConn().Conn().Close()
}
