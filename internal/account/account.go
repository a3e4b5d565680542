// Package account knows the people who sign in: their names and passwords,
// the WeChat users they are tied to, and their web sessions.
//
// A [Service] holds the rules, a [Store] the rows. Passwords are kept as
// argon2id hashes and session tokens as SHA-256 hashes, so a copy of the
// database signs nobody in.
package account

import (
	"context"
	"errors"
	"time"
)

// The errors of this package, to be told apart with [errors.Is].
var (
	// ErrCredentials is one answer for an unknown user and a wrong password,
	// so that it tells nobody which names exist.
	ErrCredentials = errors.New("account: unknown user or wrong password")
	// ErrNameTaken says that another user has the name, in whatever case.
	ErrNameTaken = errors.New("account: the name is taken")
	// ErrName says that a name can't be one, and what is allowed.
	ErrName = errors.New("account: a name has 1 to 64 letters, digits or any of . _ - @ + and no spaces")
	// ErrPassword says that a new password can't be one. It comes wrapped
	// with the reason.
	ErrPassword = errors.New("account: the password can't be used")
	// ErrNoUser says that nobody has that name or number.
	ErrNoUser = errors.New("account: no such user")
	// ErrNoSession says that a token belongs to no session, or to one that
	// has expired or was signed out.
	ErrNoSession = errors.New("account: no such session")
)

// User is somebody who can sign in.
type User struct {
	ID        int64
	Name      string // as it was first written; compared without case
	CreatedAt time.Time
}

// Listed is a user in a list, with the number of WeChat users tied to it.
type Listed struct {
	User
	Ties int
}

// Identity is a user's tie to a WeChat user. The openid stays in the store:
// nothing above it needs to know, show or leak it.
type Identity struct {
	BoundAt time.Time
}

// Session is one signed-in browser.
type Session struct {
	User                 User
	CreatedAt, ExpiresAt time.Time
}

// Store keeps users and sessions. Times are the database's, not this
// process's, so that instances with clocks apart agree on what has expired.
type Store interface {
	// CreateUser adds a user. It returns [ErrNameTaken] where another has
	// the name; names are compared without case.
	CreateUser(ctx context.Context, name, passwordHash string) (User, error)
	// UserByName returns the user of that name, in whatever case, and the
	// password's hash as it was stored. It returns [ErrNoUser].
	UserByName(ctx context.Context, name string) (u User, passwordHash string, err error)
	// SetPasswordHash replaces the hash. It returns [ErrNoUser].
	SetPasswordHash(ctx context.Context, userID int64, hash string) error
	// ListUsers returns every user, by name.
	ListUsers(ctx context.Context) ([]Listed, error)

	// Unbind removes the user's ties to WeChat users and returns how many
	// there were; none is no error.
	Unbind(ctx context.Context, userID int64) (ties int, err error)
	// Identities returns the user's ties to WeChat users, oldest first.
	Identities(ctx context.Context, userID int64) ([]Identity, error)

	// CreateSession starts a session that ends ttl from now. hash is
	// [Token.Hash]; the store never sees the token.
	CreateSession(ctx context.Context, hash [32]byte, userID int64, ttl time.Duration) error
	// SessionByHash returns the session, or [ErrNoSession] where there is
	// none or it has expired.
	SessionByHash(ctx context.Context, hash [32]byte) (Session, error)
	// DeleteSession ends the session. It is no error when there is none.
	DeleteSession(ctx context.Context, hash [32]byte) error

	// Unfollowed ends the sessions of the user who is tied to this WeChat
	// user, and removes the tie where unbind is true. It returns the number of
	// sessions; a WeChat user whom nobody knows is no error.
	Unfollowed(ctx context.Context, openid string, unbind bool) (sessions int, err error)
}
