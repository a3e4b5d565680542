package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/postgres/pgstore"
)

const (
	// tokenMargin: WeChat renews a token 5 minutes before its end, and both work then.
	tokenMargin = 300 * time.Second
	tokenJitter = 60 * time.Second
	// tokenFloor is how long a token is kept at least: in the overlap WeChat may give
	// out the old one with just 300 s to live.
	tokenFloor = 60 * time.Second
	// fetchPatience is how long one instance may take to fetch a token, before another
	// tries. The fetch itself is cut off earlier.
	fetchPatience = 15 * time.Second
	fetchDeadline = 10 * time.Second
	tokenPoll     = 100 * time.Millisecond
	// tokenPause is between failed fetches while the old token works.
	tokenPause = 10 * time.Second
)

// Tokens keeps the access token of one Official Account for all instances: one of them
// fetches, all go on with the old one meanwhile, or wait where there is none. It holds no
// lock while WeChat is asked. It implements wechat.TokenSource.
type Tokens struct {
	DB    *DB
	AppID string
	// Fetch asks for a token: its text, and how long it works.
	Fetch func(ctx context.Context) (token string, expiresIn time.Duration, err error)
	// Failed hears of a fetch that failed while the old token still works: no caller gets
	// that error, and there is time to do something. Nil: nobody does.
	Failed func(err error)
}

// Token returns a token that should work, until ctx ends.
func (t Tokens) Token(ctx context.Context) (string, error) {
	for {
		now, err := t.DB.Queries.Token(ctx, t.AppID)
		if err != nil {
			return "", fmt.Errorf("reading the access token: %w", err)
		}
		if now.Fresh {
			return now.Token, nil
		}
		turn, err := t.DB.Queries.StartTokenFetch(ctx, fetchPatience, t.AppID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return "", fmt.Errorf("taking the turn to fetch an access token: %w", err)
		}
		if err == nil {
			return t.fetch(ctx, now, turn)
		}
		if now.Usable {
			return now.Token, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for another instance to fetch an access token: %w", ctx.Err())
		case <-time.After(tokenPoll + rand.N(tokenPoll)):
		}
	}
}

// fetch has a token fetched, and waits for it only where the old one works no more. It is
// for everybody, so it goes on without the caller who came first, till its own deadline.
func (t Tokens) fetch(ctx context.Context, old pgstore.TokenRow, turn time.Time) (string, error) {
	type answer struct {
		token string
		err   error
	}
	fetched := make(chan answer, 1)
	go func() {
		token, err := t.fetchForAll(context.WithoutCancel(ctx), turn)
		if err != nil && old.Usable && t.Failed != nil {
			t.Failed(err)
		}
		fetched <- answer{token, err}
	}()
	if old.Usable {
		return old.Token, nil // a failure is no caller's trouble yet
	}
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for an access token: %w", ctx.Err())
	case a := <-fetched:
		return a.token, a.err
	}
}

// fetchForAll fetches and stores a token. Where another has had the next turn since, what
// stands there is newer and stays.
func (t Tokens) fetchForAll(ctx context.Context, turn time.Time) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	token, expiresIn, err := t.ask(ctx)
	if err != nil {
		// Where this fails too, the turn ends by itself, later.
		_ = t.DB.Queries.EndTokenFetch(ctx, pgstore.EndTokenFetchParams{Pause: tokenPause, Appid: t.AppID, Turn: turn})
		return "", err
	}
	_, err = t.DB.Queries.SetToken(ctx, pgstore.SetTokenParams{
		Token: token, ExpiresIn: expiresIn, RenewIn: renewIn(expiresIn), Appid: t.AppID, Turn: turn,
	})
	if err != nil {
		return "", fmt.Errorf("storing the access token: %w", err)
	}
	return token, nil
}

// ask leaves time to say what came of it.
func (t Tokens) ask(ctx context.Context) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	return t.Fetch(ctx)
}

// renewIn is after how long a token that works for expiresIn should be renewed.
func renewIn(expiresIn time.Duration) time.Duration {
	return max(expiresIn-tokenMargin-rand.N(tokenJitter), min(tokenFloor, expiresIn))
}

// Drop forgets a token that WeChat refused, unless another stands there by now.
func (t Tokens) Drop(ctx context.Context, stale string) error {
	if err := t.DB.Queries.DropToken(ctx, t.AppID, stale); err != nil {
		return fmt.Errorf("dropping the access token: %w", err)
	}
	return nil
}
