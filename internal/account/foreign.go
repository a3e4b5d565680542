package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Foreign is one of the team's own users, as they are now.
type Foreign struct {
	ID      string // their own, as text; never used again for somebody else
	Name    string
	Version string // of the password: another one ends the sessions; empty: it isn't told
}

// Users is where the team's own users are. Any error but those that are named
// means that nobody can tell right now.
type Users interface {
	// IDOf returns the ID of the user whom this name, as it was typed, signs
	// in. It returns [ErrNoUser].
	IDOf(ctx context.Context, name string) (id string, err error)
	// ByID returns the user as they are now. It returns [ErrNoUser] for one
	// who may not sign in (any more).
	ByID(ctx context.Context, id string) (Foreign, error)
	// Check tells whether this is the password of the user of that ID.
	Check(ctx context.Context, id, password string) (bool, error)
}

// maxForeignName is the length in bytes of an e-mail address, and some.
const maxForeignName = 256

// verifyForeign is [Service.Verify] for the team's own users. What a password
// costs to check, only their database knows: a hash is computed for a user who
// exists. So whoever is refused has had the same three statements run in the
// same order, and where there is no such user the last is about a decoy, any
// user of theirs, whose answer isn't used.
func (s *Service) verifyForeign(ctx context.Context, name, password string) (User, error) {
	if len(name) > maxForeignName || len(password) > maxPasswordBytes || !askable(name) || !askable(password) {
		return User{}, ErrCredentials // whatever the name
	}
	id, err := s.Users.IDOf(ctx, name)
	if errors.Is(err, ErrNoUser) {
		return User{}, s.refuse(ctx, password)
	}
	if err != nil {
		return User{}, unanswered(err)
	}
	user, err := s.Users.ByID(ctx, id)
	if err != nil && !errors.Is(err, ErrNoUser) {
		return User{}, unanswered(err)
	}
	there := err == nil
	if there {
		s.decoy.Store(&id)
	} else {
		id = s.decoyID(ctx)
	}
	right, err := s.Users.Check(ctx, id, password)
	if err != nil {
		return User{}, unanswered(err)
	}
	if !there || !right {
		return User{}, ErrCredentials
	}
	return s.keep(ctx, user)
}

// refuse is [ErrCredentials] for a name that nobody has, after what it would have taken;
// [ErrUnanswered] where that takes too long, as it would have.
func (s *Service) refuse(ctx context.Context, password string) error {
	id := s.decoyID(ctx)
	if _, err := s.Users.ByID(ctx, id); err != nil {
		s.decoy.Store(nil) // gone itself, or no ID that they know
	}
	if _, err := s.Users.Check(ctx, id, password); err != nil {
		return unanswered(err)
	}
	return ErrCredentials
}

// askable says that PostgreSQL takes it as text.
func askable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func unanswered(err error) error { return fmt.Errorf("%w: %w", ErrUnanswered, err) }

// decoyID is the user who was looked up last; after a start, any one who has
// ever signed in. Nobody has: there is none.
func (s *Service) decoyID(ctx context.Context) string {
	if id := s.decoy.Load(); id != nil {
		return *id
	}
	id, _ := s.Store.SomeForeignID(ctx) // without one the answer is the same
	return id
}

func (s *Service) keep(ctx context.Context, f Foreign) (User, error) {
	user, err := s.Store.KeepForeign(ctx, f)
	if err != nil {
		return User{}, fmt.Errorf("account: keep a user of the team's own: %w", err)
	}
	return user, nil
}

// foreignByName takes the ID as well: who is gone has no name.
func (s *Service) foreignByName(ctx context.Context, name string) (User, error) {
	id, err := s.Users.IDOf(ctx, name)
	if errors.Is(err, ErrNoUser) {
		id = name
	} else if err != nil {
		return User{}, unanswered(err)
	}
	user, err := s.Store.ForeignUser(ctx, id)
	if err != nil {
		return User{}, fmt.Errorf("account: look up a user: %w", err)
	}
	return user, nil
}

// Admit is asked before a scan signs in a user of the team's own, whom nobody
// has looked up: it returns [ErrNoUser] for one who may not (any more), and
// ends their sessions; [ErrUnanswered].
func (s *Service) Admit(ctx context.Context, userID int64) error {
	id, err := s.Store.ForeignID(ctx, userID)
	if err != nil {
		return fmt.Errorf("account: look up user %d: %w", userID, err)
	}
	_, err = s.current(ctx, User{ID: userID, ForeignID: id})
	return err
}

// current is the user as they are now. Whoever is gone has no sessions any
// more: [ErrNoUser].
func (s *Service) current(ctx context.Context, u User) (User, error) {
	f, err := s.Users.ByID(ctx, u.ForeignID)
	switch {
	case err == nil:
		return s.keep(ctx, f)
	case !errors.Is(err, ErrNoUser):
		return User{}, unanswered(err)
	}
	return User{}, fmt.Errorf("account: user %d: %w", u.ID, errors.Join(ErrNoUser, s.Store.EndSessions(ctx, u.ID, "account_gone")))
}

// checkPatience is how long a request waits for what is asked about its
// session, once a minute.
const checkPatience = 2 * time.Second

// stillGood asks whether the session's user is there still, and has the
// password that it was made by. Where nobody can tell, the session goes on. Who
// hangs up meanwhile keeps nobody from asking.
func (s *Service) stillGood(ctx context.Context, session Session) (Session, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkPatience)
	defer cancel()
	user, err := s.current(ctx, session.User)
	switch {
	case errors.Is(err, ErrNoUser):
		return Session{}, ErrNoSession
	case err != nil:
		s.Logger.WarnContext(ctx, "a session goes on whose user could not be looked up", "account", session.User.ID, "err", err)
		return session, nil
	case user.PasswordChanges != session.User.PasswordChanges:
		return Session{}, ErrNoSession
	}
	session.User = user
	return session, nil
}
