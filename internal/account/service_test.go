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
	saw      int // sessions noted as seen
	notices  []Notice
}

type row struct {
	User
	hash string
	ties []Identity
}

func newService() (*Service, *memory) {
	store := &memory{users: map[int64]*row{}, sessions: map[[32]byte]Session{}}
	return &Service{Store: store, SessionTTL: time.Hour, SessionIdle: 20 * time.Minute}, store
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
	if m.users[userID] == nil {
		return ErrNoUser
	}
	m.setPassword(userID, hash)
	m.endSessions(userID)
	m.note(NoticePasswordChanged)
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

// note keeps the notices of all users together.
func (m *memory) note(kind NoticeKind) {
	m.notices = append([]Notice{{ID: int64(len(m.notices) + 1), Kind: kind, At: time.Now()}}, m.notices...)
}

func (m *memory) Notices(context.Context, int64, time.Duration) ([]Notice, error) {
	return m.notices, nil
}

func (m *memory) SeenNotices(_ context.Context, _ int64, ids []int64) (int, error) {
	was := len(m.notices)
	m.notices = slices.DeleteFunc(m.notices, func(n Notice) bool { return slices.Contains(ids, n.ID) })
	return was - len(m.notices), nil
}

func (m *memory) Unbind(_ context.Context, userID int64) (int, error) {
	r, ok := m.users[userID]
	if !ok {
		return 0, nil
	}
	n := len(r.ties)
	r.ties = nil
	if n > 0 {
		m.note(NoticeUnbound)
	}
	return n, nil
}

func (m *memory) Identities(_ context.Context, userID int64) ([]Identity, error) {
	return m.users[userID].ties, nil
}

func (m *memory) Rehash(_ context.Context, userID int64, was, hash string) error {
	if r := m.users[userID]; r.hash == was {
		r.hash = hash
	}
	return nil
}

func (m *memory) ChangePasswordHash(_ context.Context, u User, hash string, session, rotated [32]byte, _ time.Duration) (int, error) {
	kept, ok := m.sessions[session]
	if !ok {
		return 0, ErrNoSession
	}
	if m.users[u.ID].PasswordChanges != u.PasswordChanges {
		return 0, ErrCredentials
	}
	ended := m.endSessions(u.ID) - 1
	m.sessions[rotated] = kept
	m.setPassword(u.ID, hash)
	m.note(NoticePasswordChanged)
	return ended, nil
}

func (m *memory) setPassword(userID int64, hash string) {
	r := m.users[userID]
	r.hash = hash
	r.PasswordChanges++
}

func (m *memory) endSessions(userID int64) (ended int) {
	for hash, s := range m.sessions {
		if s.User.ID == userID {
			delete(m.sessions, hash)
			ended++
		}
	}
	return ended
}

func (m *memory) CreateSession(_ context.Context, u User, n NewSession, ttl time.Duration) error {
	r := m.users[u.ID]
	if r.PasswordChanges != u.PasswordChanges {
		return ErrCredentials
	}
	delete(m.sessions, n.Replaces)
	now := time.Now()
	m.sessions[n.Hash] = Session{
		ID: SessionID(n.Hash[:16]), User: r.User, Browser: n.Browser, Place: n.Place,
		CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(ttl),
	}
	return nil
}

func (m *memory) SessionByHash(_ context.Context, hash [32]byte, idle time.Duration) (Session, time.Duration, error) {
	s, ok := m.sessions[hash]
	if now := time.Now(); !ok || !now.Before(s.ExpiresAt) || !now.Before(s.SeenAt.Add(idle)) {
		return Session{}, 0, ErrNoSession
	}
	return s, time.Since(s.SeenAt), nil
}

func (m *memory) SawSession(_ context.Context, hash [32]byte, every time.Duration) (bool, error) {
	s := m.sessions[hash]
	if time.Since(s.SeenAt) < every {
		return false, errors.New("seen too often")
	}
	s.SeenAt = time.Now()
	m.sessions[hash] = s
	m.saw++
	return true, nil
}

func (m *memory) Sessions(_ context.Context, u User, _ time.Duration) ([]Session, error) {
	all := slices.Collect(maps.Values(m.sessions))
	return slices.DeleteFunc(all, func(s Session) bool { return s.User.ID != u.ID }), nil
}

func (m *memory) EndSession(_ context.Context, userID int64, _ [32]byte, id SessionID, _ time.Duration) error {
	for hash, s := range m.sessions {
		if s.User.ID == userID && s.ID == id {
			delete(m.sessions, hash)
			return nil
		}
	}
	return ErrNotTheirs
}

func (m *memory) EndOtherSessions(_ context.Context, userID int64, asks [32]byte, _ time.Duration) (int, error) {
	kept := m.sessions[asks]
	ended := m.endSessions(userID) - 1
	m.sessions[asks] = kept
	return ended, nil
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
	alice, err := service.Create(t.Context(), "alice", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	token := signIn(t, service, alice)
	if err := service.SetPassword(t.Context(), "Alice", "battery staple"); err != nil {
		t.Fatal(err)
	}
	checkNoSession(t, service, token, "of the old password")
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

func signIn(t *testing.T, service *Service, u User, replaces ...Token) Token {
	t.Helper()
	token := NewToken()
	n := NewSession{Hash: token.Hash(), Browser: "a browser", Place: "a place"}
	for _, r := range replaces {
		n.Replaces = r.Hash()
	}
	if err := service.SignIn(t.Context(), u, n); err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSessionLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, store := newService()
		alice, err := store.CreateUser(t.Context(), "alice", "")
		if err != nil {
			t.Fatal(err)
		}
		tokens := [2]Token{signIn(t, service, alice), signIn(t, service, alice)}
		s, err := service.Session(t.Context(), tokens[0])
		if err != nil || s.User != alice || s.ExpiresAt.Sub(s.CreatedAt) != service.SessionTTL || s.Browser != "a browser" || s.Place != "a place" {
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
		next := signIn(t, service, alice, tokens[1])
		checkNoSession(t, service, tokens[1], "replaced")
		for range 3 { // used, but not for longer than its whole life
			time.Sleep(service.SessionTTL / 4) // the bubble's clock
			if _, err := service.Session(t.Context(), next); err != nil {
				t.Errorf("a session that is used: %v", err)
			}
		}
		time.Sleep(service.SessionTTL / 4)
		checkNoSession(t, service, next, "expired")
	})
}

// A request more costs no write, and one that isn't made any more ends the session.
func TestASessionIsSeenOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, store := newService()
		alice, err := store.CreateUser(t.Context(), "alice", "")
		if err != nil {
			t.Fatal(err)
		}
		token := signIn(t, service, alice)
		for range 120 {
			time.Sleep(time.Second)
			if _, err := service.Session(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		if store.saw != 2 {
			t.Errorf("seen %d times in two minutes", store.saw)
		}
		time.Sleep(service.SessionIdle)
		checkNoSession(t, service, token, "not used")

		service.SessionIdle = 10 * time.Second
		token = signIn(t, service, alice)
		for range 60 { // seen often enough to be told from one that isn't used
			time.Sleep(service.SessionIdle / 2)
			if _, err := service.Session(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRevoke(t *testing.T) {
	service, store := newService()
	var users [2]User
	for i, name := range []string{"alice", "bob"} {
		var err error
		if users[i], err = store.CreateUser(t.Context(), name, ""); err != nil {
			t.Fatal(err)
		}
	}
	here, there, elsewhere := signIn(t, service, users[0]), signIn(t, service, users[0]), signIn(t, service, users[0])
	bobs := signIn(t, service, users[1])
	id := func(token Token) SessionID {
		t.Helper()
		s, err := service.Session(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	if own, err := service.Revoke(t.Context(), here, id(bobs)); !errors.Is(err, ErrNotTheirs) || own {
		t.Errorf("bob's session revoked by alice: %v, %v", own, err)
	}
	if own, err := service.Revoke(t.Context(), here, id(there)); err != nil || own {
		t.Errorf("another session revoked: %v, %v", own, err)
	}
	checkNoSession(t, service, there, "revoked")
	if n, err := service.RevokeOthers(t.Context(), here); err != nil || n != 1 {
		t.Errorf("others revoked: %d, %v", n, err)
	}
	checkNoSession(t, service, elsewhere, "revoked with the others")
	if _, err := service.RevokeOthers(t.Context(), elsewhere); !errors.Is(err, ErrNoSession) {
		t.Errorf("revoked by a session that was: %v", err)
	}
	if own, err := service.Revoke(t.Context(), here, id(here)); err != nil || !own {
		t.Errorf("own session revoked: %v, %v", own, err)
	}
	checkNoSession(t, service, here, "revoked by itself")
	id(bobs)
}

func TestChangePassword(t *testing.T) {
	service, _ := newService()
	alice, err := service.Create(t.Context(), "alice", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	here, there := signIn(t, service, alice), signIn(t, service, alice)
	change := func(token Token, current, password string, want error) (Token, int) {
		t.Helper()
		rotated, ended, err := service.ChangePassword(t.Context(), token, current, password)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Fatalf("changed from %q to %q: %v, want %v", current, password, err, want)
		}
		return rotated, ended
	}
	change(here, "wrong horse", "battery staple", ErrCredentials)
	change(here, "correct horse", "short", ErrPassword)
	change(NewToken(), "correct horse", "battery staple", ErrNoSession)
	if _, err := service.Session(t.Context(), there); err != nil {
		t.Errorf("a change that failed ended a session: %v", err)
	}
	rotated, ended := change(here, "correct horse", "battery staple", nil)
	if ended != 1 {
		t.Errorf("%d sessions ended", ended)
	}
	checkNoSession(t, service, there, "of before the change")
	checkNoSession(t, service, here, "rotated")
	if _, err := service.Session(t.Context(), rotated); err != nil {
		t.Errorf("the session that asked for the change: %v", err)
	}
	if err := service.SignIn(t.Context(), alice, NewSession{Hash: NewToken().Hash()}); !errors.Is(err, ErrCredentials) {
		t.Errorf("a login that proved the old password: %v", err)
	}
}

func checkNoSession(t *testing.T, service *Service, token Token, what string) {
	t.Helper()
	if s, err := service.Session(t.Context(), token); !errors.Is(err, ErrNoSession) || s != (Session{}) {
		t.Errorf("%s: Session = %+v, %v, want %v", what, s, err, ErrNoSession)
	}
}
