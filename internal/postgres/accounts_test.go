package postgres_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

func TestNamesAreComparedWithoutCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	made, err := w.accounts.CreateUser(t.Context(), "Ann", "first")
	w.ok(err)
	for _, name := range []string{"Ann", "ann", "ANN"} {
		if _, err := w.accounts.CreateUser(t.Context(), name, "x"); !errors.Is(err, account.ErrNameTaken) {
			t.Errorf("a second %s: %v", name, err)
		}
		found, hash, err := w.accounts.UserByName(t.Context(), name)
		w.ok(err)
		if diff := cmp.Diff(made, found); diff != "" || hash != "first" {
			t.Errorf("%s is another: %s", name, diff)
		}
	}
	if _, _, err := w.accounts.UserByName(t.Context(), "bob"); !errors.Is(err, account.ErrNoUser) {
		t.Errorf("a user that isn't there: %v", err)
	}
}

func TestOneNameAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var made atomic.Int32
	atOnce(16, func(int) {
		switch _, err := w.accounts.CreateUser(t.Context(), "ann", "x"); {
		case err == nil:
			made.Add(1)
		case !errors.Is(err, account.ErrNameTaken):
			t.Error(err)
		}
	})
	if made.Load() != 1 {
		t.Errorf("%d users of one name", made.Load())
	}
}

func TestPasswordHashes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.ok(w.accounts.SetPasswordHash(t.Context(), ann, "second"))
	if _, hash, err := w.accounts.UserByName(t.Context(), "ann"); err != nil || hash != "second" {
		t.Errorf("the hash is %q (%v)", hash, err)
	}
	if err := w.accounts.SetPasswordHash(t.Context(), ann+1, "x"); !errors.Is(err, account.ErrNoUser) {
		t.Errorf("nobody's password: %v", err)
	}
}

func TestUsersAndTheirTies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	bob, ann := w.account("bob"), w.account("Ann")
	w.tie("work", ann)
	w.tie("home", ann)
	w.exec("UPDATE scanlogin.wechat_identity SET bound_at = now() - interval '1 day' WHERE openid = 'home'")
	list, err := w.accounts.ListUsers(t.Context())
	w.ok(err)
	want := []account.Listed{{User: account.User{ID: ann, Name: "Ann"}, Ties: 2}, {User: account.User{ID: bob, Name: "bob"}}}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(account.User{}, "CreatedAt")); diff != "" {
		t.Error(diff)
	}
	ties, err := w.accounts.Identities(t.Context(), ann)
	w.ok(err)
	if len(ties) != 2 || ties[1].BoundAt.Sub(ties[0].BoundAt) < 23*time.Hour {
		t.Errorf("ties %v, want two, the oldest first", ties)
	}
	for _, want := range []int{2, 0} {
		if n, err := w.accounts.Unbind(t.Context(), ann); err != nil || n != want {
			t.Errorf("unbound %d (%v), want %d", n, err, want)
		}
	}
	if ties, err := w.accounts.Identities(t.Context(), ann); err != nil || len(ties) != 0 {
		t.Errorf("unbound, there are %v (%v)", ties, err)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	hash, other := newHash(), newHash()
	w.ok(w.signIn(hash, ann))
	w.ok(w.signIn(other, ann))
	s, err := w.session(hash)
	w.ok(err)
	if s.User.ID != ann || s.User.Name != "ann" || s.ExpiresAt.Sub(s.CreatedAt) != long {
		t.Errorf("got %+v", s)
	}
	if err := w.signIn(hash, ann); err == nil {
		t.Error("two sessions of one token")
	}
	w.exec("UPDATE scanlogin.web_session SET expires_at = now() WHERE token_hash = $1", hash[:])
	if _, err := w.session(hash); !errors.Is(err, account.ErrNoSession) {
		t.Errorf("a session that has expired: %v", err)
	}
	for range 2 {
		w.ok(w.accounts.DeleteSession(t.Context(), other))
		if _, err := w.session(other); !errors.Is(err, account.ErrNoSession) {
			t.Errorf("a session that was ended: %v", err)
		}
	}
}

// A transaction pooler may not know of prepared statements: pgx leaves them out where
// the URL says so.
func TestEveryWayToRunStatements(t *testing.T) {
	t.Parallel()
	for _, route := range routes() {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			db := w.open(w.route(route))
			w.db, w.logins.DB, w.accounts.DB = db, db, db
			w.ok(db.ResizePool(t.Context(), 3))
			ann, l := w.account("ann"), w.show()
			w.scan(l, "new")
			w.ok(w.bind(l.Ref, ann))
			l = w.show()
			w.scan(l, "new")
			w.ok(w.complete(l.Ref))
			l = w.show()
			w.ok(w.logins.Leave(t.Context(), nil))
			w.ok(w.logins.Leave(t.Context(), []login.Ref{l.Ref}))
			w.ok(db.Notify(t.Context(), "channel", []string{"payload"}))
			w.want(w.tokens(newFetcher()), "token 1") // the turn's fence is a time to the microsecond
			w.want(postgres.Tokens{DB: db, AppID: appID}, "token 1")
			w.ok(postgres.Quota{DB: db, AppID: appID}.Count(t.Context()))
			w.ok(postgres.Quota{DB: db, AppID: appID}.Check(t.Context()))
			w.prepare(1, "ready", long, time.Minute)
			w.bare(3)
			w.ok(db.Current(t.Context()))
			if n := w.sessions(); n != 2 {
				t.Errorf("%d sessions, want 2", n)
			}
		})
	}
}
