package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	checkDeadline = 10 * time.Second // for all of it
	checkPatience = 3 * time.Second  // for a NOTIFY to arrive
)

// CheckListen returns nil where a NOTIFY that is sent through the first URL is heard through
// the second, as logins need it. It wants no table: it may come before the migrations, which
// need a direct connection just as much.
func CheckListen(ctx context.Context, databaseURL, listenURL string) error {
	ctx, cancel := context.WithTimeout(ctx, checkDeadline)
	defer cancel()
	channel := "scanlogin_check_" + rand.Text()
	listening, err := listenTo(ctx, listenURL, checkDeadline, channel)
	switch {
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return fmt.Errorf("DATABASE_LISTEN_URL leads to a standby, or another database that can't be written to: %w", err)
	case err != nil:
		return fmt.Errorf("connecting by DATABASE_LISTEN_URL: %w", err)
	}
	defer closeConn(ctx, listening)
	if err := notifyTwice(ctx, databaseURL, channel); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	_, err = listening.WaitForNotification(wait)
	switch {
	case err == nil:
		return nil
	case wait.Err() != nil:
		return errNoProof
	}
	return fmt.Errorf("waiting for a NOTIFY on DATABASE_LISTEN_URL: %w", err)
}

// notifyTwice runs one statement on two connections of a pool. A transaction pooler that
// knows nothing of prepared statements runs both on one connection of its own, where the
// second finds the statement of the first.
func notifyTwice(ctx context.Context, url, channel string) error {
	pool, err := openPool(ctx, url, maxConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	for range 2 {
		var conn *pgxpool.Conn
		if conn, err = pool.Acquire(ctx); err != nil {
			break
		}
		defer conn.Release()
		if _, err = conn.Exec(ctx, "SELECT pg_notify($1, '')", channel); err != nil {
			break
		}
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return fmt.Errorf("DATABASE_URL leads to a standby, or another database that can't be written to: %w", err)
	case ok && (e.Code == "42P05" || e.Code == "26000"): // duplicate, or unknown prepared statement
		return fmt.Errorf("DATABASE_URL leads through a transaction pooler without prepared statements: "+
			"add default_query_exec_mode=exec to it, or set max_prepared_statements in a pgbouncer from 1.21 on: %w", err)
	}
	return fmt.Errorf("sending a NOTIFY through DATABASE_URL: %w", err)
}
