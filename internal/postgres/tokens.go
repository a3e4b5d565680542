package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

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
)

// Tokens keeps the access token of one Official Account for all instances: one of them
// fetches, the others go on with the old one, or wait where there is none. It holds no
// lock while WeChat is asked. It implements wechat.TokenSource.
type Tokens struct {
	DB    *DB
	AppID string
	// Fetch asks for a token: its text, and how long it works.
	Fetch func(ctx context.Context) (token string, expiresIn time.Duration, err error)
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
		mine, err := t.DB.Queries.StartTokenFetch(ctx, fetchPatience, t.AppID)
		if err != nil {
			return "", fmt.Errorf("taking the turn to fetch an access token: %w", err)
		}
		if mine == 1 {
			return t.fetch(ctx, now)
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

// fetch is for everybody, so it outlives the caller who came first. While the old token
// works, a failed fetch is nobody's trouble.
func (t Tokens) fetch(ctx context.Context, old pgstore.TokenRow) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchDeadline)
	defer cancel()
	token, expiresIn, err := t.Fetch(ctx)
	if err != nil {
		_ = t.DB.Queries.EndTokenFetch(ctx, t.AppID) // else it ends by itself, later
		if old.Usable {
			return old.Token, nil
		}
		return "", err
	}
	err = t.DB.Queries.SetToken(ctx, pgstore.SetTokenParams{
		Token: token, ExpiresIn: expiresIn, RenewIn: renewIn(expiresIn), Appid: t.AppID,
	})
	if err != nil {
		return "", fmt.Errorf("storing the access token: %w", err)
	}
	return token, nil
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
