package account

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a [Store] in memory, for one goroutine.
type memory struct {
	users    map[int64]*row
	sessions map[[32]byte]Session
}

type row struct {
	User
	hash string
	ties []Identity
}

func newService() (*Service, *memory) {
	store := &memory{users: map[int64]*row{}, sessions: map[[32]byte]Session{}}
	return &Service{Store: store, SessionTTL: time.Hour}, store
}

func (m *memory) CreateUser(_ context.Context, name, hash string) (User, error) {
	if m.find(name) != nil {
		return User{}, ErrNameTaken
	}
	u := User{ID: int64(len(m.users) + 1), Name: name, CreatedAt: time.Now()}
	m.users[u.ID] = &row{User: u, hash: hash}
	return u, nil
}

func (m *memory) find(name string) *row {
	for _, r := range m.users {
		if strings.EqualFold(r.Name, name) {
			return r
		}
	}
	return nil
}

func (m *memory) UserByName(_ context.Context, name string) (User, string, error) {
	r := m.find(name)
	if r == nil {
		return User{}, "", ErrNoUser
	}
	return r.User, r.hash, nil
}

func (m *memory) SetPasswordHash(_ context.Context, userID int64, hash string) error {
	r, ok := m.users[userID]
	if !ok {
		return ErrNoUser
	}
	r.hash = hash
	return nil
}

func (m *memory) ListUsers(context.Context) ([]Listed, error) {
	var all []Listed
	for r := range maps.Values(m.users) {
		all = append(all, Listed{User: r.User, Ties: len(r.ties)})
	}
	slices.SortFunc(all, func(a, b Listed) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *memory) Unbind(_ context.Context, userID int64) (int, error) {
	r, ok := m.users[userID]
	if !ok {
		return 0, nil
	}
	n := len(r.ties)
	r.ties = nil
	return n, nil
}

func (m *memory) Identities(_ context.Context, userID int64) ([]Identity, error) {
	return m.users[userID].ties, nil
}

func (m *memory) CreateSession(_ context.Context, hash [32]byte, userID int64, ttl time.Duration) error {
	now := time.Now()
	m.sessions[hash] = Session{User: m.users[userID].User, CreatedAt: now, ExpiresAt: now.Add(ttl)}
	return nil
}

func (m *memory) SessionByHash(_ context.Context, hash [32]byte) (Session, error) {
	s, ok := m.sessions[hash]
	if !ok || !time.Now().Before(s.ExpiresAt) {
		return Session{}, ErrNoSession
	}
	return s, nil
}

func (m *memory) DeleteSession(_ context.Context, hash [32]byte) error {
	delete(m.sessions, hash)
	return nil
}

func (m *memory) Unfollowed(context.Context, string, bool) (int, error) { return 0, nil }

func TestCreateAndVerify(t *testing.T) {
	service, _ := newService()
	alice, err := service.Create(t.Context(), " Alice ", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if alice.Name != "Alice" {
		t.Errorf("created %q, want Alice", alice.Name)
	}
	got, err := service.Verify(t.Context(), "aLiCe\n", "correct horse")
	if err != nil || got != alice {
		t.Errorf("Verify = %+v, %v, want %+v", got, err, alice)
	}
	if _, err := service.Create(t.Context(), "ALICE", "another horse"); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a second Alice: %v, want %v", err, ErrNameTaken)
	}
	if _, err := service.Create(t.Context(), "two words", "correct horse"); !errors.Is(err, ErrName) {
		t.Errorf("a name with a space: %v, want %v", err, ErrName)
	}
	if _, err := service.Create(t.Context(), "bob", "short"); !errors.Is(err, ErrPassword) {
		t.Errorf("a short password: %v, want %v", err, ErrPassword)
	}
}

func TestWrongCredentialsAreAllAlike(t *testing.T) {
	service, _ := newService()
	if _, err := service.Create(t.Context(), "alice", "correct horse"); err != nil {
		t.Fatal(err)
	}
	for name, given := range map[string]struct{ name, password string }{
		"wrong password":     {"alice", "incorrect horse"},
		"other case":         {"alice", "Correct Horse"},
		"empty password":     {"alice", ""},
		"long password":      {"alice", strings.Repeat("x", 1025)},
		"unknown user":       {"mallory", "correct horse"},
		"decoy's password":   {"mallory", ""},
		"not a name":         {"al ice", "correct horse"},
		"no name":            {"", "correct horse"},
		"not UTF-8":          {"alice\xff", "correct horse"},
		"unknown, long word": {"mallory", strings.Repeat("x", 1025)},
	} {
		u, err := service.Verify(t.Context(), given.name, given.password)
		if !errors.Is(err, ErrCredentials) || err.Error() != ErrCredentials.Error() || u != (User{}) {
			t.Errorf("%s: Verify = %+v, %v, want %v", name, u, err, ErrCredentials)
		}
	}
}

func TestVerifyHashesAnewWhatWasWeak(t *testing.T) {
	service, store := newService()
	const weak = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	alice, err := store.CreateUser(t.Context(), "alice", weak)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Verify(t.Context(), "alice", "wrong password"); !errors.Is(err, ErrCredentials) {
		t.Fatalf("wrong password: %v, want %v", err, ErrCredentials)
	}
	if store.users[alice.ID].hash != weak {
		t.Fatal("a wrong password changed the hash")
	}
	for range 2 { // the second time with the new hash, which then stays
		before := store.users[alice.ID].hash
		if _, err := service.Verify(t.Context(), "alice", "password"); err != nil {
			t.Fatal(err)
		}
		after := store.users[alice.ID].hash
		if changed := before != after; changed != (before == weak) {
			t.Errorf("hash changed = %v, was weak = %v", changed, before == weak)
		}
	}
}

func TestVerifyReportsADamagedRow(t *testing.T) {
	service, store := newService()
	if _, err := store.CreateUser(t.Context(), "alice", "$argon2id$v=19$m=4194304,t=2,p=1$c2VjcmV0$c2VjcmV0"); err != nil {
		t.Fatal(err)
	}
	_, err := service.Verify(t.Context(), "alice", "password")
	if !errors.Is(err, errHash) || errors.Is(err, ErrCredentials) {
		t.Errorf("Verify = %v, want %v", err, errHash)
	}
	if err != nil && strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("the error shows the hash: %v", err)
	}
}

func TestSetPassword(t *testing.T) {
	service, _ := newService()
	if _, err := service.Create(t.Context(), "alice", "correct horse"); err != nil {
		t.Fatal(err)
	}
	if err := service.SetPassword(t.Context(), "Alice", "battery staple"); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Verify(t.Context(), "alice", "battery staple"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if _, err := service.Verify(t.Context(), "alice", "correct horse"); !errors.Is(err, ErrCredentials) {
		t.Errorf("the old password: %v, want %v", err, ErrCredentials)
	}
	for name, want := range map[string]error{"bob": ErrNoUser, "not a name": ErrNoUser} {
		if err := service.SetPassword(t.Context(), name, "battery staple"); !errors.Is(err, want) {
			t.Errorf("SetPassword(%q) = %v, want %v", name, err, want)
		}
	}
	if err := service.SetPassword(t.Context(), "alice", "short"); !errors.Is(err, ErrPassword) {
		t.Errorf("a short password: %v, want %v", err, ErrPassword)
	}
}

func TestUnbind(t *testing.T) {
	service, store := newService()
	alice, err := service.Create(t.Context(), "alice", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	store.users[alice.ID].ties = []Identity{{BoundAt: time.Now()}, {BoundAt: time.Now()}}
	if ties, err := service.Identities(t.Context(), alice.ID); err != nil || len(ties) != 2 {
		t.Errorf("Identities = %v, %v, want two", ties, err)
	}
	if users, err := service.List(t.Context()); err != nil || len(users) != 1 || users[0].Ties != 2 {
		t.Errorf("List = %v, %v, want alice with two ties", users, err)
	}
	if n, err := service.UnbindName(t.Context(), "ALICE"); err != nil || n != 2 {
		t.Errorf("UnbindName = %d, %v, want 2", n, err)
	}
	if n, err := service.Unbind(t.Context(), alice.ID); err != nil || n != 0 {
		t.Errorf("Unbind again = %d, %v, want 0", n, err)
	}
	if _, err := service.UnbindName(t.Context(), "bob"); !errors.Is(err, ErrNoUser) {
		t.Errorf("UnbindName(bob): %v, want %v", err, ErrNoUser)
	}
}

func TestSessionLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, store := newService()
		alice, err := store.CreateUser(t.Context(), "alice", "")
		if err != nil {
			t.Fatal(err)
		}
		var tokens [2]Token
		for i := range tokens {
			if tokens[i], err = service.SignIn(t.Context(), alice.ID); err != nil {
				t.Fatal(err)
			}
		}
		s, err := service.Session(t.Context(), tokens[0])
		if err != nil || s.User != alice || s.ExpiresAt.Sub(s.CreatedAt) != service.SessionTTL {
			t.Errorf("Session = %+v, %v, want alice's for %v", s, err, service.SessionTTL)
		}
		for range 2 { // the second time there is none, which is no error
			if err := service.SignOut(t.Context(), tokens[0]); err != nil {
				t.Errorf("SignOut: %v", err)
			}
		}
		checkNoSession(t, service, tokens[0], "signed out")
		checkNoSession(t, service, NewToken(), "made up")
		if _, err := service.Session(t.Context(), tokens[1]); err != nil {
			t.Errorf("the other browser's session: %v", err)
		}
		time.Sleep(service.SessionTTL) // the bubble's clock
		checkNoSession(t, service, tokens[1], "expired")
	})
}

func checkNoSession(t *testing.T, service *Service, token Token, what string) {
	t.Helper()
	if s, err := service.Session(t.Context(), token); !errors.Is(err, ErrNoSession) || s != (Session{}) {
		t.Errorf("%s: Session = %+v, %v, want %v", what, s, err, ErrNoSession)
	}
}
