package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/account"
	"scanlogin/internal/postgres/pgstore"
)

// Accounts keeps users, their ties to WeChat and their sessions. It implements
// account.Store.
type Accounts struct {
	DB    *DB
	AppID string // of the Official Account, for what its pushes say of a WeChat user
}

// CreateUser adds a user; account.ErrNameTaken.
func (s Accounts) CreateUser(ctx context.Context, name, passwordHash string) (account.User, error) {
	r, err := s.DB.Queries.CreateAccount(ctx, name, passwordHash)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.User{}, account.ErrNameTaken
	}
	return account.User{ID: r.ID, Name: name, CreatedAt: r.CreatedAt}, err
}

// UserByName finds a user, without regard to case; account.ErrNoUser.
func (s Accounts) UserByName(ctx context.Context, name string) (account.User, string, error) {
	r, err := s.DB.Queries.AccountByName(ctx, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.User{}, "", account.ErrNoUser
	}
	return account.User{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt}, r.Password, err
}

// SetPasswordHash replaces the hash; account.ErrNoUser.
func (s Accounts) SetPasswordHash(ctx context.Context, userID int64, hash string) error {
	n, err := s.DB.Queries.SetPassword(ctx, hash, userID)
	if err == nil && n == 0 {
		return account.ErrNoUser
	}
	return err
}

// ListUsers returns every user, by name.
func (s Accounts) ListUsers(ctx context.Context) ([]account.Listed, error) {
	rows, err := s.DB.Queries.ListAccounts(ctx)
	if err != nil {
		return nil, err
	}
	users := make([]account.Listed, len(rows))
	for i, r := range rows {
		users[i] = account.Listed{User: account.User{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt}, Ties: int(r.Ties)}
	}
	return users, nil
}

// Unbind removes the user's ties and returns how many there were.
func (s Accounts) Unbind(ctx context.Context, userID int64) (int, error) {
	n, err := s.DB.Queries.Unbind(ctx, userID)
	return int(n), err
}

// Identities returns the user's ties, oldest first.
func (s Accounts) Identities(ctx context.Context, userID int64) ([]account.Identity, error) {
	bound, err := s.DB.Queries.Identities(ctx, userID)
	if err != nil {
		return nil, err
	}
	ties := make([]account.Identity, len(bound))
	for i, at := range bound {
		ties[i] = account.Identity{BoundAt: at}
	}
	return ties, nil
}

// CreateSession starts a session.
func (s Accounts) CreateSession(ctx context.Context, hash [32]byte, userID int64, ttl time.Duration) error {
	return s.DB.Queries.CreateSession(ctx, pgstore.CreateSessionParams{TokenHash: hash[:], AccountID: userID, SessionTtl: ttl})
}

// SessionByHash finds a session that has not expired; account.ErrNoSession.
func (s Accounts) SessionByHash(ctx context.Context, hash [32]byte) (account.Session, error) {
	r, err := s.DB.Queries.SessionByHash(ctx, hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return account.Session{}, account.ErrNoSession
	}
	return account.Session{
		User:      account.User{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt},
		CreatedAt: r.SessionCreatedAt,
		ExpiresAt: r.ExpiresAt,
	}, err
}

// DeleteSession ends a session.
func (s Accounts) DeleteSession(ctx context.Context, hash [32]byte) error {
	return s.DB.Queries.DeleteSession(ctx, hash[:])
}

// Unfollowed ends the sessions of whoever is tied to this WeChat user, and the tie too
// where unbind says so. It returns how many sessions that were.
func (s Accounts) Unfollowed(ctx context.Context, openid string, unbind bool) (sessions int, err error) {
	err = s.DB.tx(ctx, func(q *pgstore.Queries) error {
		// A login of theirs that completes right now is waited for, or waits for us.
		if err := q.LockTie(ctx, s.AppID, openid); err != nil {
			return err
		}
		n, err := q.EndSessionsOfOpenID(ctx, s.AppID, openid)
		if err == nil && unbind {
			_, err = q.UnbindOpenID(ctx, s.AppID, openid)
		}
		sessions = int(n)
		return err
	})
	return sessions, err
}
