package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// Service is the rules about users and sessions over a [Store]. Set the
// exported fields before the first call; all methods may then be called from
// many goroutines. A Service must not be copied after its first call.
type Service struct {
	Store       Store
	SessionTTL  time.Duration // how long a session lasts from its sign-in; more than 0
	SessionIdle time.Duration // how long it lasts without being used; more than 0
	// Users are asked where users are the team's own; nil: they are ours. No
	// user of the one kind has a session where it is the other.
	Users  Users
	Logger *slog.Logger // needed with Users

	hasher hasher
	decoy  atomic.Pointer[string] // see verifyForeign
}

// Verify returns the user who has this name and this password. An unknown
// user and a wrong password take the same work and return the same
// [ErrCredentials]. A password that was hashed with weaker parameters than
// today's is hashed anew. It returns [ErrUnanswered] where nobody can tell.
func (s *Service) Verify(ctx context.Context, name, password string) (User, error) {
	if s.Users != nil {
		return s.verifyForeign(ctx, name, password)
	}
	name, err := cleanName(name)
	if err != nil || len(password) > maxPasswordBytes {
		return User{}, ErrCredentials
	}
	user, stored, err := s.lookUp(ctx, name)
	if err != nil && !errors.Is(err, ErrNoUser) {
		return User{}, fmt.Errorf("account: look up a user: %w", err)
	}
	known := err == nil
	right, err := s.hasher.matches(ctx, stored, password)
	if err != nil {
		return User{}, fmt.Errorf("account: check a password: %w", err)
	}
	if !known || !right {
		return User{}, ErrCredentials
	}
	if stored.weak() {
		if err := s.rehash(ctx, user.ID, stored, password); err != nil {
			return User{}, err
		}
	}
	return user, nil
}

func (s *Service) rehash(ctx context.Context, userID int64, stored phc, password string) error {
	hash, err := s.hasher.hash(ctx, password)
	if err == nil {
		err = s.Store.Rehash(ctx, userID, stored.String(), hash)
	}
	if err != nil {
		return fmt.Errorf("account: hash the password of user %d anew: %w", userID, err)
	}
	return nil
}

// noPassword stands where a hash would, of an account that is disabled. None is like it.
const noPassword = "!"

// lookUp returns the user and the password's hash, and with [ErrNoUser] a
// hash that costs as much to compare with as a real one.
func (s *Service) lookUp(ctx context.Context, name string) (User, phc, error) {
	user, text, err := s.Store.UserByName(ctx, name)
	if err == nil && text == noPassword {
		err = ErrNoUser
	}
	if err != nil {
		return User{}, decoy(), err
	}
	stored, err := parsePHC(text)
	if err != nil {
		return User{}, phc{}, fmt.Errorf("user %d: %w", user.ID, err)
	}
	return user, stored, nil
}

// Create adds a user. It returns [ErrName], [ErrPassword] or [ErrNameTaken].
// Spaces around the name are dropped.
func (s *Service) Create(ctx context.Context, name, password string) (User, error) {
	name, err := cleanName(name)
	if err != nil {
		return User{}, err
	}
	if err := checkPassword(name, password); err != nil {
		return User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return User{}, fmt.Errorf("account: hash a password: %w", err)
	}
	user, err := s.Store.CreateUser(ctx, name, hash)
	if err != nil {
		return User{}, fmt.Errorf("account: create a user: %w", err)
	}
	return user, nil
}

// SetPassword gives the named user a new password, and ends their sessions.
// It returns [ErrPassword] or [ErrNoUser].
func (s *Service) SetPassword(ctx context.Context, name, password string) error {
	if err := checkPassword(name, password); err != nil {
		return err
	}
	user, err := s.byName(ctx, name)
	if err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("account: hash a password: %w", err)
	}
	if err := s.Store.SetPasswordHash(ctx, user.ID, hash); err != nil {
		return fmt.Errorf("account: set the password of user %d: %w", user.ID, err)
	}
	return nil
}

// Disable takes the password, the ties and the sessions from the named user,
// who can't sign in until [Service.SetPassword] gives them another password.
// The name stays theirs. It returns [ErrNoUser].
func (s *Service) Disable(ctx context.Context, name string) error {
	user, err := s.byName(ctx, name)
	if err != nil {
		return err
	}
	if err := s.Store.Disable(ctx, user.ID, noPassword); err != nil {
		return fmt.Errorf("account: disable user %d: %w", user.ID, err)
	}
	return nil
}

// SignOutEverywhere ends every session of the named user. It returns
// [ErrNoUser].
func (s *Service) SignOutEverywhere(ctx context.Context, name string) error {
	user, err := s.byName(ctx, name)
	if err != nil {
		return err
	}
	if err := s.Store.EndSessions(ctx, user.ID, "shell"); err != nil {
		return fmt.Errorf("account: end the sessions of user %d: %w", user.ID, err)
	}
	return nil
}

// ChangePassword gives the token's user a new password, for the current one.
// Their other sessions end; this one goes on under the token that is returned.
// It returns how many have ended, [ErrNoSession], [ErrCredentials] or
// [ErrPassword].
func (s *Service) ChangePassword(ctx context.Context, token Token, current, password string) (rotated Token, ended int, err error) {
	session, err := s.Session(ctx, token)
	if err != nil {
		return Token{}, 0, err
	}
	user, err := s.Verify(ctx, session.User.Name, current)
	if err != nil {
		return Token{}, 0, err
	}
	if err := checkPassword(user.Name, password); err != nil {
		return Token{}, 0, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return Token{}, 0, fmt.Errorf("account: hash a password: %w", err)
	}
	rotated = NewToken()
	ended, err = s.Store.ChangePasswordHash(ctx, user, hash, token.Hash(), rotated.Hash(), s.SessionIdle)
	if err != nil {
		return Token{}, 0, fmt.Errorf("account: change the password of user %d: %w", user.ID, err)
	}
	return rotated, ended, nil
}

// byName returns the user of that name or [ErrNoUser], which is also the
// answer for what can't be a name.
func (s *Service) byName(ctx context.Context, name string) (User, error) {
	if s.Users != nil {
		return s.foreignByName(ctx, name)
	}
	name, err := cleanName(name)
	if err != nil {
		return User{}, ErrNoUser
	}
	user, _, err := s.Store.UserByName(ctx, name)
	if err != nil {
		return User{}, fmt.Errorf("account: look up a user: %w", err)
	}
	return user, nil
}

// List returns every user, by name; of the team's own, those who have ever
// signed in.
func (s *Service) List(ctx context.Context) ([]Listed, error) {
	users, err := s.Store.ListUsers(ctx)
	if err != nil {
		return nil, fmt.Errorf("account: list the users: %w", err)
	}
	return slices.DeleteFunc(users, func(u Listed) bool { return s.strange(u.User) }), nil
}

// Unbind removes the user's ties to WeChat users and returns how many there
// were. Sessions go on.
func (s *Service) Unbind(ctx context.Context, userID int64) (ties int, err error) {
	ties, err = s.Store.Unbind(ctx, userID)
	if err != nil {
		return 0, fmt.Errorf("account: unbind user %d: %w", userID, err)
	}
	return ties, nil
}

// UnbindName is [Service.Unbind] for a name, or an ID of the team's own, from a
// shell. It returns [ErrNoUser].
func (s *Service) UnbindName(ctx context.Context, name string) (ties int, err error) {
	user, err := s.byName(ctx, name)
	if err != nil {
		return 0, err
	}
	return s.Unbind(ctx, user.ID)
}

// Identities returns the user's ties to WeChat users, oldest first.
func (s *Service) Identities(ctx context.Context, userID int64) ([]Identity, error) {
	ties, err := s.Store.Identities(ctx, userID)
	if err != nil {
		return nil, fmt.Errorf("account: list the ties of user %d: %w", userID, err)
	}
	return ties, nil
}

// SignIn starts a session for a user who has proved to be that user. Its token
// is to be a fresh one, so that none that was planted in a browser beforehand
// can become a session; the session that the browser had before ends. It
// returns [ErrCredentials] where the password was changed meanwhile.
func (s *Service) SignIn(ctx context.Context, u User, n NewSession) error {
	if err := s.Store.CreateSession(ctx, u, n, s.SessionTTL); err != nil {
		return fmt.Errorf("account: start a session of user %d: %w", u.ID, err)
	}
	return nil
}

// Session returns the session that the token opens, or [ErrNoSession].
func (s *Service) Session(ctx context.Context, token Token) (Session, error) {
	session, unseen, err := s.Store.SessionByHash(ctx, token.Hash(), s.SessionIdle)
	if err != nil {
		return Session{}, fmt.Errorf("account: look up a session: %w", err)
	}
	if s.strange(session.User) {
		return Session{}, ErrNoSession
	}
	if unseen < s.seenEvery() {
		return session, nil
	}
	// A session that can't be noted as seen is good all the same, and the next
	// request tries again. Of many at once, the one that notes it asks.
	if noted, _ := s.Store.SawSession(ctx, token.Hash(), s.seenEvery()); noted && s.Users != nil {
		return s.stillGood(ctx, session)
	}
	return session, nil
}

// strange says that a user is of the kind that this service doesn't know.
func (s *Service) strange(u User) bool { return (u.ForeignID != "") != (s.Users != nil) }

// seenEvery is how often it is noted that a session is used: often enough to
// tell a used one from one that isn't.
func (s *Service) seenEvery() time.Duration { return min(time.Minute, s.SessionIdle/10) }

// Sessions returns every session of the user whose session this is, the newest
// first.
func (s *Service) Sessions(ctx context.Context, of Session) ([]Session, error) {
	sessions, err := s.Store.Sessions(ctx, of.User, s.SessionIdle)
	if err != nil {
		return nil, fmt.Errorf("account: list the sessions of user %d: %w", of.User.ID, err)
	}
	return sessions, nil
}

// Revoke ends a session of the token's user, on every instance, and tells
// whether it was the token's own. It returns [ErrNoSession], or [ErrNotTheirs]
// where the user has no session of that ID.
func (s *Service) Revoke(ctx context.Context, token Token, id SessionID) (own bool, err error) {
	session, err := s.Session(ctx, token)
	if err != nil {
		return false, err
	}
	if session.ID == id {
		return true, s.SignOut(ctx, token)
	}
	if err := s.Store.EndSession(ctx, session.User.ID, token.Hash(), id, s.SessionIdle); err != nil {
		return false, fmt.Errorf("account: revoke a session of user %d: %w", session.User.ID, err)
	}
	return false, nil
}

// RevokeOthers ends every session of the token's user but the token's, and
// returns how many. It returns [ErrNoSession].
func (s *Service) RevokeOthers(ctx context.Context, token Token) (ended int, err error) {
	session, err := s.Session(ctx, token)
	if err != nil {
		return 0, err
	}
	ended, err = s.Store.EndOtherSessions(ctx, session.User.ID, token.Hash(), s.SessionIdle)
	if err != nil {
		return 0, fmt.Errorf("account: revoke the other sessions of user %d: %w", session.User.ID, err)
	}
	return ended, nil
}

// SignOut ends the token's session on every instance. It is no error when
// there is none.
func (s *Service) SignOut(ctx context.Context, token Token) error {
	if err := s.Store.DeleteSession(ctx, token.Hash()); err != nil {
		return fmt.Errorf("account: end a session: %w", err)
	}
	return nil
}

// Unfollowed is told when a WeChat user unfollows the Official Account: their
// sessions end, and by unbind their tie, too. It returns how many sessions
// ended.
func (s *Service) Unfollowed(ctx context.Context, openid string, unbind bool) (sessions int, err error) {
	sessions, err = s.Store.Unfollowed(ctx, openid, unbind)
	if err != nil {
		return 0, fmt.Errorf("account: unfollow: %w", err)
	}
	return sessions, nil
}
