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
	"strconv"
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
	// has expired, was not used for too long or was ended.
	ErrNoSession = errors.New("account: no such session")
	// ErrNotTheirs says that a user has no session of that ID.
	ErrNotTheirs = errors.New("account: the user has no such session")
	// ErrUnanswered says that the team's own users can't be asked for right
	// now. It comes wrapped with the reason.
	ErrUnanswered = errors.New("account: the users' database gives no answer")
)

// User is somebody who can sign in.
type User struct {
	ID        int64
	ForeignID string // the team's own, see [Users]; empty: the user is one of ours
	Name      string // as it was first written; compared without case
	CreatedAt time.Time
	// PasswordChanges is how often the password was changed. From
	// [Service.Verify] it says which one was proved, so that no session is
	// made once there is another.
	PasswordChanges int32
}

// PublicID is how apps know the user: by the team's own ID, where they have
// one.
func (u User) PublicID() string {
	if u.ForeignID != "" {
		return u.ForeignID
	}
	return strconv.FormatInt(u.ID, 10)
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

// NewSession is a session to start.
type NewSession struct {
	Hash     [32]byte // [Token.Hash]; the store never sees the token
	Replaces [32]byte // of the token that the browser held before; zero: it held none
	Browser  string   // its User-Agent; empty: unknown
	Place    string   // roughly where it is; empty: unknown
}

// Session is one signed-in browser.
type Session struct {
	ID             SessionID
	User           User
	Browser, Place string // as in [NewSession]
	CreatedAt      time.Time
	SeenAt         time.Time // to about a minute
	ExpiresAt      time.Time // whether it is used or not
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
	// SetPasswordHash sets another password, and ends every session of the
	// user. It returns [ErrNoUser]. This, ChangePasswordHash, Unbind and a bind
	// leave a [Notice].
	SetPasswordHash(ctx context.Context, userID int64, hash string) error
	// ChangePasswordHash sets another password, gives the session that asks
	// for it a new token, and ends the user's other sessions; it returns how
	// many. It returns [ErrNoSession] where the session was ended meanwhile,
	// and [ErrCredentials] where the password was changed since the user was
	// looked up; nothing has changed then.
	ChangePasswordHash(ctx context.Context, u User, hash string, session, rotated [32]byte, idle time.Duration) (ended int, err error)
	// Rehash replaces the hash by another one of the same password, unless
	// it is no longer the one that it was.
	Rehash(ctx context.Context, userID int64, was, hash string) error
	// ListUsers returns every user, by name, the team's own as well.
	ListUsers(ctx context.Context) ([]Listed, error)

	// KeepForeign returns the account of one of the team's own users, made
	// where there is none, and keeps its name current. Another version is
	// another password: the user's sessions end.
	KeepForeign(ctx context.Context, f Foreign) (User, error)
	// ForeignUser returns the account that was kept for this ID of the
	// team's own. It returns [ErrNoUser].
	ForeignUser(ctx context.Context, id string) (User, error)
	// ForeignID returns the ID that the team knows the user by. It returns
	// [ErrNoUser], also where the user is one of ours.
	ForeignID(ctx context.Context, userID int64) (string, error)
	// SomeForeignID returns the ID of any of the team's own users that was
	// kept, or nothing.
	SomeForeignID(ctx context.Context) (string, error)
	// EndSessions ends every session of the user; why is for the audit log.
	EndSessions(ctx context.Context, userID int64, why string) error
	// Disable sets what is no hash of any password, removes the user's ties and
	// ends their sessions, all at once. It returns [ErrNoUser].
	Disable(ctx context.Context, userID int64, noPassword string) error

	// Unbind removes the user's ties to WeChat users and returns how many
	// there were; none is no error.
	Unbind(ctx context.Context, userID int64) (ties int, err error)
	// Identities returns the user's ties to WeChat users, oldest first.
	Identities(ctx context.Context, userID int64) ([]Identity, error)
	// Notices returns what the user is to be told and no phone was; the newest
	// first, without those which a phone may be told of until patience is over.
	Notices(ctx context.Context, userID int64, patience time.Duration) ([]Notice, error)
	// SeenNotices removes these notices of the user and returns how many there
	// were.
	SeenNotices(ctx context.Context, userID int64, ids []int64) (seen int, err error)

	// CreateSession starts a session that ends ttl from now, and ends the one
	// that it replaces. It returns [ErrCredentials] where the user's password
	// was changed since the user was looked up.
	CreateSession(ctx context.Context, u User, n NewSession, ttl time.Duration) error
	// SessionByHash returns the session, and how long ago it was seen. It
	// returns [ErrNoSession] where there is none, it has expired, or was not
	// seen for idle.
	SessionByHash(ctx context.Context, hash [32]byte, idle time.Duration) (s Session, unseen time.Duration, err error)
	// SawSession notes that the session was used, unless that was noted less
	// than every ago, and tells whether it did.
	SawSession(ctx context.Context, hash [32]byte, every time.Duration) (noted bool, err error)
	// Sessions returns the user's sessions, the newest first.
	Sessions(ctx context.Context, u User, idle time.Duration) ([]Session, error)
	// EndSession ends the user's session of that ID. It returns [ErrNotTheirs]
	// where the user has none, and [ErrNoSession] where the session that asks
	// for it was ended meanwhile.
	EndSession(ctx context.Context, userID int64, asks [32]byte, id SessionID, idle time.Duration) error
	// EndOtherSessions ends the user's sessions but the one that asks for it,
	// and returns how many. It returns [ErrNoSession] where that one was ended
	// meanwhile.
	EndOtherSessions(ctx context.Context, userID int64, asks [32]byte, idle time.Duration) (ended int, err error)
	// DeleteSession ends the session. It is no error when there is none.
	DeleteSession(ctx context.Context, hash [32]byte) error

	// Unfollowed ends the sessions of the user who is tied to this WeChat
	// user, and removes the tie where unbind is true. It returns the number of
	// sessions; a WeChat user whom nobody knows is no error.
	Unfollowed(ctx context.Context, openid string, unbind bool) (sessions int, err error)
}
