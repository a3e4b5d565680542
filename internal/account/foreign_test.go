package account

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (m *memory) KeepForeign(_ context.Context, f Foreign) (User, error) {
	for _, r := range m.users {
		if r.ForeignID == f.ID {
			if r.hash != f.Version {
				m.setPassword(r.ID, f.Version)
				m.endSessions(r.ID)
			}
			r.Name = f.Name
			return r.User, nil
		}
	}
	u := User{ID: int64(len(m.users) + 1), ForeignID: f.ID, Name: f.Name}
	m.users[u.ID] = &row{User: u, hash: f.Version}
	return u, nil
}

func (m *memory) ForeignUser(_ context.Context, id string) (User, error) {
	for _, r := range m.users {
		if r.ForeignID == id && id != "" {
			return r.User, nil
		}
	}
	return User{}, ErrNoUser
}

func (m *memory) ForeignID(_ context.Context, userID int64) (string, error) {
	if r := m.users[userID]; r != nil && r.ForeignID != "" {
		return r.ForeignID, nil
	}
	return "", ErrNoUser
}

func (m *memory) SomeForeignID(context.Context) (string, error) {
	for _, r := range m.users {
		if r.ForeignID != "" {
			return r.ForeignID, nil
		}
	}
	return "", nil
}

func (m *memory) EndSessions(_ context.Context, userID int64, _ string) error {
	m.endSessions(userID)
	return nil
}

func (m *memory) Disable(ctx context.Context, userID int64, noPassword string) error {
	if _, err := m.Unbind(ctx, userID); err != nil {
		return err
	}
	return m.SetPasswordHash(ctx, userID, noPassword)
}

// members is a users' table of somebody else, which writes down what it is asked.
type members struct {
	rows    map[string]*member // by login name
	away    error              // the answer
	awayFor string             // to this alone; empty: to everything
	asked   []string
}

type member struct {
	Foreign
	password string
	blocked  bool
}

func (m *members) note(ctx context.Context, what, about string) error {
	m.asked = append(m.asked, what+" "+about)
	if m.awayFor != "" && m.awayFor != what {
		return ctx.Err()
	}
	return errors.Join(m.away, ctx.Err())
}

func (m *members) IDOf(ctx context.Context, name string) (string, error) {
	if err := m.note(ctx, "id of", name); err != nil {
		return "", err
	}
	if r := m.rows[name]; r != nil { // whether they are blocked, ByID knows
		return r.ID, nil
	}
	return "", ErrNoUser
}

func (m *members) find(id string) *member {
	for _, r := range m.rows {
		if r.ID == id && !r.blocked {
			return r
		}
	}
	return nil
}

func (m *members) ByID(ctx context.Context, id string) (Foreign, error) {
	if err := m.note(ctx, "user", id); err != nil {
		return Foreign{}, err
	}
	if r := m.find(id); r != nil {
		return r.Foreign, nil
	}
	return Foreign{}, ErrNoUser
}

func (m *members) Check(ctx context.Context, id, password string) (bool, error) {
	err := m.note(ctx, "password of", id)
	r := m.find(id)
	return err == nil && r != nil && r.password == password, err
}

// breaking has no answer about one ID.
type breaking struct {
	*members
	id string
}

func (b *breaking) ByID(ctx context.Context, id string) (Foreign, error) {
	f, err := b.members.ByID(ctx, id)
	if id == b.id {
		err = errors.New("not a number")
	}
	return f, err
}

func newForeignService() (*Service, *memory, *members, *bytes.Buffer) {
	service, store := newService()
	users := &members{rows: map[string]*member{
		"ann": {Foreign: Foreign{ID: "u-1", Name: "Ann"}, password: "horse of ann"},
		"bob": {Foreign: Foreign{ID: "u-2", Name: "Bob"}, password: "horse of bob"},
	}}
	var log bytes.Buffer
	service.Users, service.Logger = users, slog.New(slog.NewTextHandler(&log, nil))
	return service, store, users, &log
}

func TestVerifyForeign(t *testing.T) {
	service, _, users, _ := newForeignService()
	ann, err := service.Verify(t.Context(), "ann", "horse of ann")
	if err != nil || ann.ForeignID != "u-1" || ann.PublicID() != "u-1" || ann.Name != "Ann" {
		t.Fatalf("%+v, %v", ann, err)
	}
	users.rows["anna"] = users.rows["ann"]
	users.rows["anna"].Name = "Anna"
	again, err := service.Verify(t.Context(), "anna", "horse of ann")
	if err != nil || again.ID != ann.ID || again.Name != "Anna" {
		t.Errorf("under another name: %+v, %v, was %+v", again, err, ann)
	}
	users.away = errors.New("gone fishing")
	for _, c := range []struct{ away, name string }{
		{"id of", "ann"}, {"id of", "nobody"}, {"user", "ann"}, {"password of", "ann"}, {"password of", "nobody"},
	} {
		users.awayFor = c.away
		if _, err := service.Verify(t.Context(), c.name, "horse of ann"); !errors.Is(err, ErrUnanswered) || errors.Is(err, ErrCredentials) {
			t.Errorf("without an answer to the %s %s: %v", c.away, c.name, err)
		}
	}
}

// The time of a hash is their database's secret: it takes the same statements to find out
// that somebody is unknown, or blocked, as that the password is wrong.
func TestARefusalCostsTheSameWhateverIsWrong(t *testing.T) {
	service, _, users, _ := newForeignService()
	users.rows["eve"] = &member{Foreign: Foreign{ID: "u-3"}, password: "horse of eve", blocked: true}
	if _, err := service.Verify(t.Context(), "bob", "not it"); !errors.Is(err, ErrCredentials) {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ name, password, user, decoy string }{
		"wrong password":       {"ann", "not it", "u-1", "u-1"},
		"unknown":              {"nobody", "not it", "u-2", "u-2"},
		"the decoy's password": {"nobody", "horse of bob", "u-2", "u-2"},
		"blocked":              {"eve", "horse of eve", "u-3", "u-2"},
	} {
		users.asked = nil
		bob := "u-2"
		service.decoy.Store(&bob)
		u, err := service.Verify(t.Context(), c.name, c.password)
		if !errors.Is(err, ErrCredentials) || err.Error() != ErrCredentials.Error() || u != (User{}) {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		if want := []string{"id of " + c.name, "user " + c.user, "password of " + c.decoy}; !slices.Equal(users.asked, want) {
			t.Errorf("%s: asked for %q, want %q", name, users.asked, want)
		}
	}
	for name, given := range map[string][2]string{
		"a long name": {strings.Repeat("x", 257), "x"}, "a long password": {"ann", strings.Repeat("x", 1025)},
		"no text": {"ann\xff", "x"}, "no text for PostgreSQL": {"ann", "x\x00"},
	} {
		users.asked = nil
		if _, err := service.Verify(t.Context(), given[0], given[1]); !errors.Is(err, ErrCredentials) || users.asked != nil {
			t.Errorf("%s: %v, asked for %q", name, err, users.asked)
		}
	}
}

func TestTheDecoyIsSomebodyWhoIsThere(t *testing.T) {
	service, store, users, _ := newForeignService()
	unknown := func(decoy string) {
		t.Helper()
		users.asked = nil
		if _, err := service.Verify(t.Context(), "nobody", "x"); !errors.Is(err, ErrCredentials) {
			t.Error(err)
		}
		if last := users.asked[len(users.asked)-1]; len(users.asked) != 3 || last != "password of "+decoy {
			t.Errorf("asked for %q, want %q last", users.asked, decoy)
		}
	}
	unknown("") // nobody has ever signed in
	if _, err := store.KeepForeign(t.Context(), users.rows["ann"].Foreign); err != nil {
		t.Fatal(err)
	}
	unknown("u-1") // somebody has, before this process was started
	if _, err := service.Verify(t.Context(), "bob", "x"); !errors.Is(err, ErrCredentials) {
		t.Error(err)
	}
	unknown("u-2")
	users.rows["bob"].blocked = true
	unknown("u-2") // found out, and not taken again
	unknown("u-1")
	gone := "of another table"
	service.decoy.Store(&gone)
	broken := &breaking{members: users, id: gone}
	service.Users = broken
	unknown(gone) // whatever is wrong with the decoy, the name is nobody's
	service.Users = users
	unknown("u-1")
}

func TestAForeignSession(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*members)
		ends   bool
		logs   bool
	}{
		"nothing has happened":   {func(*members) {}, false, false},
		"the user is gone":       {func(m *members) { m.rows["ann"].blocked = true }, true, false},
		"the password changed":   {func(m *members) { m.rows["ann"].Version = "2" }, true, false},
		"the name changed":       {func(m *members) { m.rows["ann"].Name = "Anna" }, false, false},
		"nobody can tell":        {func(m *members) { m.away = errors.New("gone fishing") }, false, true},
		"somebody else is gone":  {func(m *members) { m.rows["bob"].blocked = true }, false, false},
		"and nobody knows their": {func(m *members) { m.rows["bob"].Version = "2" }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service, _, users, log := newForeignService()
				ann, err := service.Verify(t.Context(), "ann", "horse of ann")
				if err != nil {
					t.Fatal(err)
				}
				here, there := signIn(t, service, ann), signIn(t, service, ann)
				users.asked = nil
				c.change(users)
				for range 59 { // not on each request
					time.Sleep(time.Second)
					if _, err := service.Session(t.Context(), here); err != nil {
						t.Fatal(err)
					}
				}
				if users.asked != nil {
					t.Errorf("asked within a minute: %q", users.asked)
				}
				time.Sleep(time.Second)
				hungUp, hangUp := context.WithCancel(t.Context())
				hangUp() // which keeps nobody from asking
				s, err := service.Session(hungUp, here)
				if c.ends {
					if !errors.Is(err, ErrNoSession) {
						t.Errorf("%+v, %v", s, err)
					}
					checkNoSession(t, service, here, name)
					checkNoSession(t, service, there, name)
				} else if err != nil || s.User.ID != ann.ID || users.away == nil && s.User.Name != users.rows["ann"].Name {
					t.Errorf("%+v, %v", s, err)
				}
				if want := []string{"user u-1"}; !slices.Equal(users.asked, want) {
					t.Errorf("asked for %q, want %q", users.asked, want)
				}
				if logged := strings.Contains(log.String(), "gone fishing"); logged != c.logs {
					t.Errorf("log: %s", log)
				}
			})
		})
	}
}

func TestAdmit(t *testing.T) {
	service, store, users, _ := newForeignService()
	ann, err := service.Verify(t.Context(), "ann", "horse of ann")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := store.CreateUser(t.Context(), "ours", "hash")
	if err != nil {
		t.Fatal(err)
	}
	admit := func(id int64, want error) {
		t.Helper()
		if err := service.Admit(t.Context(), id); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	admit(ann.ID, nil)
	admit(ours.ID, ErrNoUser)
	admit(99, ErrNoUser)
	users.away = errors.New("gone fishing")
	admit(ann.ID, ErrUnanswered)
	users.away, users.rows["ann"].blocked = nil, true
	token := signIn(t, service, ann)
	admit(ann.ID, ErrNoUser)
	checkNoSession(t, service, token, "of somebody who is gone")
}

// The numbers of ours may be somebody else's IDs of theirs: neither kind is taken for the
// other after a switch, or while some instances have switched and some have not.
func TestNoKindOfUserIsTakenForTheOther(t *testing.T) {
	service, store, _, _ := newForeignService()
	theirs, err := service.Verify(t.Context(), "ann", "horse of ann")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := store.CreateUser(t.Context(), "ours", "hash")
	if err != nil {
		t.Fatal(err)
	}
	builtin := &Service{Store: store, SessionTTL: time.Hour, SessionIdle: time.Hour}
	if theirs.PublicID() != "u-1" || ours.PublicID() != "2" {
		t.Errorf("%s and %s", theirs.PublicID(), ours.PublicID())
	}
	ofTheirs, ofOurs := signIn(t, service, theirs), signIn(t, builtin, ours)
	checkNoSession(t, builtin, ofTheirs, "of theirs")
	checkNoSession(t, service, ofOurs, "of ours")
	for _, c := range []struct {
		s     *Service
		token Token
		who   string
	}{{service, ofTheirs, "Ann"}, {builtin, ofOurs, "ours"}} {
		if s, err := c.s.Session(t.Context(), c.token); err != nil || s.User.Name != c.who {
			t.Errorf("%+v, %v", s, err)
		}
		if users, err := c.s.List(t.Context()); err != nil || len(users) != 1 || users[0].Name != c.who {
			t.Errorf("%+v, %v", users, err)
		}
	}
}

func TestUnbindForeign(t *testing.T) {
	service, store, users, _ := newForeignService()
	ann, err := service.Verify(t.Context(), "ann", "horse of ann")
	if err != nil {
		t.Fatal(err)
	}
	unbind := func(name string, want int, wantErr error) {
		t.Helper()
		store.users[ann.ID].ties = make([]Identity, 2)
		if n, err := service.UnbindName(t.Context(), name); n != want || !errors.Is(err, wantErr) {
			t.Errorf("%s: %d, %v, want %d, %v", name, n, err, want, wantErr)
		}
	}
	unbind("ann", 2, nil)
	unbind("bob", 0, ErrNoUser) // has never signed in
	unbind("nobody", 0, ErrNoUser)
	delete(users.rows, "ann")
	unbind("ann", 0, ErrNoUser)
	unbind("u-1", 2, nil) // as listed
	users.away = errors.New("gone fishing")
	unbind("u-1", 0, ErrUnanswered)
}
