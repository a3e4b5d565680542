package postgres_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// browser signs a user in and returns the session's hash.
func (w *world) browser(user int64) [32]byte {
	w.t.Helper()
	hash := newHash()
	w.ok(w.signIn(hash, user))
	return hash
}

// lives checks which of these sessions are there still.
func (w *world) lives(what string, hash [32]byte, want bool) {
	w.t.Helper()
	_, err := w.session(hash)
	if (err == nil) != want || err != nil && !errors.Is(err, account.ErrNoSession) {
		w.t.Errorf("%s: %v, want it to live: %v", what, err, want)
	}
}

func (w *world) idOf(hash [32]byte) account.SessionID {
	w.t.Helper()
	s, err := w.session(hash)
	w.ok(err)
	return s.ID
}

// age makes a session look as if it had been seen that long ago.
func (w *world) age(hash [32]byte, by time.Duration) {
	w.t.Helper()
	w.exec("UPDATE scanlogin.web_session SET seen_at = now() - $2::interval WHERE token_hash = $1", hash[:], by)
}

func TestSessionsAreListedToTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	ann, bob := account.User{ID: w.account("ann")}, account.User{ID: w.account("bob")}
	w.tie("ann", ann.ID)
	scanned, bound := w.show(), w.show()
	w.scan(scanned, "ann")
	w.scan(bound, "new")
	start := func(name string) account.NewSession {
		return account.NewSession{Hash: newHash(), Browser: "browser " + name, Place: "place " + name}
	}
	w.ok(w.accounts.CreateSession(t.Context(), ann, start("1"), long))
	w.ok(w.logins.Complete(t.Context(), scanned.Ref, login.Session(start("2")), long))
	w.ok(w.logins.Bind(t.Context(), bound.Ref, login.Owner{ID: ann.ID}, login.Session(start("3")), long))
	w.ok(w.accounts.CreateSession(t.Context(), bob, start("of bob"), long))
	over, idle := w.browser(ann.ID), w.browser(ann.ID)
	w.exec("UPDATE scanlogin.web_session SET expires_at = now() WHERE token_hash = $1", over[:])
	w.age(idle, long)

	list, err := w.accounts.Sessions(t.Context(), ann, long)
	w.ok(err)
	var got []string
	ids := map[account.SessionID]bool{}
	for _, s := range list {
		got = append(got, s.Browser+", "+s.Place)
		ids[s.ID] = true
		if s.User != ann || s.ExpiresAt.Sub(s.CreatedAt) != long || s.SeenAt.Before(s.CreatedAt) {
			t.Errorf("%+v", s)
		}
	}
	if want := []string{"browser 3, place 3", "browser 2, place 2", "browser 1, place 1"}; !slices.Equal(got, want) || len(ids) != 3 {
		t.Errorf("got %q with %d ids, want %q", got, len(ids), want)
	}
}

func TestASessionThatIsNotUsedEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	hash := w.browser(w.account("ann"))
	look := func(idle time.Duration) error {
		t.Helper()
		_, unseen, err := w.accounts.SessionByHash(t.Context(), hash, idle)
		if err == nil && (unseen < 40*time.Minute || unseen > long) {
			t.Errorf("unseen for %v", unseen)
		}
		return err
	}
	w.age(hash, 40*time.Minute)
	w.ok(look(41 * time.Minute))
	if err := look(40 * time.Minute); !errors.Is(err, account.ErrNoSession) {
		t.Errorf("after its time: %v", err)
	}
	saw := func(every time.Duration, want bool) {
		t.Helper()
		if noted, err := w.accounts.SawSession(t.Context(), hash, every); noted != want || err != nil {
			t.Errorf("noted: %v, %v, want %v", noted, err, want)
		}
	}
	saw(long, false) // it was seen less than an hour ago
	w.ok(look(long))
	saw(time.Minute, true)
	saw(time.Minute, false)
	if _, unseen, err := w.accounts.SessionByHash(t.Context(), hash, time.Minute); err != nil || unseen > 30*time.Second {
		t.Errorf("seen right now: %v, %v", unseen, err)
	}
}

// A page of an app behind forward-auth is many requests at once: they write once, into the
// same page and no index, and wait for nobody.
func TestSeeingASessionIsCheap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.exec(`INSERT INTO scanlogin.web_session (token_hash, account_id, expires_at, seen_at, browser)
		SELECT sha256(n::text::bytea), $1, now() + interval '1 h', now() - interval '1 h', repeat('b', 120) FROM generate_series(1, 300) n`, ann)
	var hashes [][32]byte // some of each page: nothing can be cleaned up in between
	for n := range 30 {
		hashes = append(hashes, sha256.Sum256([]byte(strconv.Itoa(10*n+1))))
	}
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	var updated, hot [2]int
	count := func(i int) {
		t.Helper()
		w.ok(tx.QueryRow(t.Context(), `SELECT pg_stat_get_xact_tuples_updated(c.oid), pg_stat_get_xact_tuples_hot_updated(c.oid)
			FROM pg_class c WHERE c.oid = 'scanlogin.web_session'::regclass`).Scan(&updated[i], &hot[i]))
	}
	q := pgstore.New(tx)
	count(0)
	for range 2 {
		for _, hash := range hashes {
			must(q.SawSession(t.Context(), hash[:], time.Minute))(t)
		}
	}
	count(1)
	if n, inPlace := updated[1]-updated[0], hot[1]-hot[0]; n != len(hashes) || inPlace != n {
		t.Errorf("%d updates, %d of them HOT, want %d", n, inPlace, len(hashes))
	}
	// They are locked now.
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 3 {
		must(w.accounts.SawSession(soon, hashes[0], time.Minute))(t)
	}
	w.ok(tx.Commit(t.Context()))
}

func TestALoginReplacesTheSessionOfItsBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	ann, bob := w.account("ann"), w.account("bob")
	w.tie("ann", ann)
	bystander := w.browser(bob)
	shown := func(openID string) login.Ref {
		w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
		l := w.show()
		w.scan(l, openID)
		return l.Ref
	}
	for name, sign := range map[string]func(n account.NewSession) error{
		"by password": func(n account.NewSession) error {
			return w.accounts.CreateSession(t.Context(), account.User{ID: ann}, n, long)
		},
		"by scan": func(n account.NewSession) error {
			return w.logins.Complete(t.Context(), shown("ann"), login.Session(n), long)
		},
		"by bind": func(n account.NewSession) error {
			return w.logins.Bind(t.Context(), shown("new"), login.Owner{ID: ann}, login.Session(n), long)
		},
	} {
		for _, before := range []int64{ann, bob} { // whoever it was
			w.exec("DELETE FROM scanlogin.wechat_identity WHERE openid = 'new'")
			had, next := w.browser(before), newHash()
			w.ok(sign(account.NewSession{Hash: next, Replaces: had}))
			w.lives(name+": the session before", had, false)
			w.lives(name+": the new session", next, true)
		}
		w.lives(name+": somebody else's session", bystander, true)
	}
	for name, fail := range map[string]func(n account.NewSession) error{
		"by an old password": func(n account.NewSession) error {
			return w.accounts.CreateSession(t.Context(), account.User{ID: ann, PasswordChanges: -1}, n, long)
		},
		"by nobody's scan": func(n account.NewSession) error {
			return w.logins.Complete(t.Context(), w.show().Ref, login.Session(n), long)
		},
		"by a bind of an old password": func(n account.NewSession) error {
			return w.logins.Bind(t.Context(), shown("newer"), login.Owner{ID: ann, PasswordChanges: -1}, login.Session(n), long)
		},
		"by a bind of another's WeChat": func(n account.NewSession) error {
			ref := shown("newest")
			w.tie("newest", bob)
			return w.logins.Bind(t.Context(), ref, login.Owner{ID: ann}, login.Session(n), long)
		},
	} {
		w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
		had, next := w.browser(ann), newHash()
		if err := fail(account.NewSession{Hash: next, Replaces: had}); err == nil {
			t.Errorf("logged in %s", name)
		}
		w.lives("not replaced "+name, had, true)
		w.lives("made "+name, next, false)
	}
}

func TestAPasswordThatIsSetEndsEverySession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann, bob := w.account("ann"), w.account("bob")
	one, two, bobs := w.browser(ann), w.browser(ann), w.browser(bob)
	proved, _, err := w.accounts.UserByName(t.Context(), "ann")
	w.ok(err)
	w.ok(w.accounts.SetPasswordHash(t.Context(), ann, "second"))
	w.lives("one", one, false)
	w.lives("two", two, false)
	w.lives("bob's", bobs, true)
	if err := w.accounts.CreateSession(t.Context(), proved, account.NewSession{Hash: newHash()}, long); !errors.Is(err, account.ErrCredentials) {
		t.Errorf("a login with the password before: %v", err)
	}
	now, _, err := w.accounts.UserByName(t.Context(), "ann")
	w.ok(err)
	w.ok(w.accounts.CreateSession(t.Context(), now, account.NewSession{Hash: newHash()}, long))

	// The same password, hashed anew, is no change; and none that comes too late.
	w.ok(w.accounts.Rehash(t.Context(), ann, "second", "second, stronger"))
	w.ok(w.accounts.CreateSession(t.Context(), now, account.NewSession{Hash: newHash()}, long))
	w.ok(w.accounts.Rehash(t.Context(), ann, "hash", "the first one, come back"))
	if _, hash, err := w.accounts.UserByName(t.Context(), "ann"); err != nil || hash != "second, stronger" {
		t.Errorf("the password is %q (%v)", hash, err)
	}
}

func TestAChangedPasswordKeepsTheSessionThatAskedForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann, bob := w.account("ann"), w.account("bob")
	bobs := w.browser(bob)
	here, there, idle := w.browser(ann), w.browser(ann), w.browser(ann)
	w.age(idle, 2*long)
	id := w.idOf(here)
	user, _, err := w.accounts.UserByName(t.Context(), "ann")
	w.ok(err)
	change := func(u account.User, session [32]byte) ([32]byte, int, error) {
		rotated := newHash()
		n, err := w.accounts.ChangePasswordHash(t.Context(), u, "second", session, rotated, long)
		return rotated, n, err
	}
	for name, c := range map[string]struct {
		u       account.User
		session [32]byte
		want    error
	}{
		"by a session that has ended":   {user, newHash(), account.ErrNoSession},
		"by somebody else's session":    {user, bobs, account.ErrNoSession},
		"for a password of before":      {account.User{ID: ann, PasswordChanges: -1}, here, account.ErrCredentials},
		"of somebody else, by a friend": {account.User{ID: bob}, here, account.ErrNoSession},
	} {
		if _, _, err := change(c.u, c.session); !errors.Is(err, c.want) {
			t.Errorf("changed %s: %v, want %v", name, err, c.want)
		}
		for _, hash := range [][32]byte{here, there, bobs} {
			w.lives("changed "+name, hash, true)
		}
		for _, user := range []string{"ann", "bob"} {
			if u, hash, err := w.accounts.UserByName(t.Context(), user); err != nil || hash != "hash" || u.PasswordChanges != 0 {
				t.Errorf("changed %s: the password of %s is %q (%v)", name, user, hash, err)
			}
		}
	}
	rotated, ended, err := change(user, here)
	if err != nil || ended != 1 { // the idle one had ended already
		t.Errorf("%d sessions ended, %v", ended, err)
	}
	w.lives("the old token", here, false)
	w.lives("the other session", there, false)
	w.lives("the new token", rotated, true)
	w.lives("bob's session", bobs, true)
	if w.idOf(rotated) != id {
		t.Error("it is another session")
	}
}

func TestSessionsAreRevokedByTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann, bob := w.account("ann"), w.account("bob")
	here, there, elsewhere, idle, bobs := w.browser(ann), w.browser(ann), w.browser(ann), w.browser(ann), w.browser(bob)
	idleID := w.idOf(idle)
	w.age(idle, 2*long)
	end := func(user int64, asks [32]byte, id account.SessionID, want error) {
		t.Helper()
		err := w.accounts.EndSession(t.Context(), user, asks, id, long)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	end(bob, bobs, w.idOf(there), account.ErrNotTheirs)
	end(ann, here, w.idOf(bobs), account.ErrNotTheirs)
	end(ann, here, account.SessionID{}, account.ErrNotTheirs)
	end(ann, here, idleID, account.ErrNotTheirs)
	end(ann, bobs, w.idOf(there), account.ErrNoSession)
	end(ann, newHash(), w.idOf(there), account.ErrNoSession)
	for _, hash := range [][32]byte{here, there, elsewhere, bobs} {
		w.lives("revoked by nobody who may", hash, true)
	}
	end(ann, here, w.idOf(there), nil)
	w.lives("the revoked one", there, false)
	w.lives("the one beside it", elsewhere, true)
	if _, err := w.accounts.EndOtherSessions(t.Context(), ann, there, long); !errors.Is(err, account.ErrNoSession) {
		t.Errorf("asked for by one that was revoked: %v", err)
	}
	w.lives("asked for by one that was revoked", here, true)
	if n, err := w.accounts.EndOtherSessions(t.Context(), ann, here, long); err != nil || n != 1 {
		t.Errorf("%d others, %v", n, err)
	}
	w.lives("the other", elsewhere, false)
	w.lives("this one", here, true)
	w.lives("bob's", bobs, true)
}

// Whoever has stolen a session and its owner may both be at it.
func TestOfSessionsThatEndEachOtherOneIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	for round := range 20 {
		hashes := [][32]byte{w.browser(ann), w.browser(ann), w.browser(ann), w.browser(ann)}
		errs := make([]error, len(hashes))
		atOnce(len(hashes), func(i int) {
			_, errs[i] = w.accounts.EndOtherSessions(t.Context(), ann, hashes[i], long)
		})
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, account.ErrNoSession) {
				t.Error(err)
			}
			w.lives("a session", hashes[i], err == nil)
		}
		if won != 1 {
			t.Fatalf("round %d: %d sessions are left", round, won)
		}
		w.exec("DELETE FROM scanlogin.web_session")
	}
}

// Each order of the two, made sure by a lock on what the second one needs.
func TestNoSessionOutlivesThePasswordItWasMadeBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	ann := w.account("ann")
	user := account.User{ID: ann}
	for name, sign := range map[string]func() error{
		"CreateSession": func() error { return w.signIn(newHash(), ann) },
		"Vouch": func() error {
			l := w.show()
			w.scan(l, "new")
			return w.logins.Bind(t.Context(), l.Ref, login.Owner{ID: user.ID}, newSession(), long)
		},
	} {
		w.exec("UPDATE scanlogin.account SET password_changes = 0")
		tx, err := w.admin.Begin(t.Context())
		w.ok(err)
		defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
		n, err := pgstore.New(tx).SetPassword(t.Context(), pgstore.SetPasswordParams{Password: "second", ID: ann})
		w.ok(err)
		signed := make(chan error, 1)
		go func() { signed <- sign() }()
		await(t, name, func() bool { return strings.Contains(w.waiting(), "name: "+name) })
		_, err = pgstore.New(tx).EndOtherSessions(t.Context(), pgstore.EndOtherSessionsParams{AccountID: ann, Idle: long})
		w.ok(err)
		w.ok(tx.Commit(t.Context()))
		if err := <-signed; n != 1 || !errors.Is(err, account.ErrCredentials) || w.sessions() != 0 {
			t.Errorf("%s after the change: %v, and %d sessions", name, err, w.sessions())
		}
	}

	w.exec("UPDATE scanlogin.account SET password_changes = 0")
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	hash := newHash()
	_, err = pgstore.New(tx).CreateSession(t.Context(), pgstore.CreateSessionParams{TokenHash: hash[:], AccountID: ann, SessionTtl: long})
	w.ok(err)
	set := make(chan error, 1)
	go func() { set <- w.accounts.SetPasswordHash(t.Context(), ann, "third") }()
	await(t, "the change", func() bool { return strings.Contains(w.waiting(), "name: SetPassword") })
	w.ok(tx.Commit(t.Context()))
	w.ok(<-set)
	w.lives("made before the change", hash, false)
}

// waiting is what waits for a lock.
func (w *world) waiting() string {
	w.t.Helper()
	return get[string](w, `SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

// Whatever ends sessions, all at once, on several instances: nobody waits for ever, and
// nobody else's session ends.
func TestWhateverEndsSessionsGetsAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 40)
	w.accounts.AppID = appID
	ann, bob := w.account("ann"), w.account("bob")
	bobs := w.browser(bob)
	for round := range 15 {
		w.exec("DELETE FROM scanlogin.wechat_identity")
		w.tie("ann", ann)
		user, _, err := w.accounts.UserByName(t.Context(), "ann")
		w.ok(err)
		sign := func(replaces [32]byte) ([32]byte, error) {
			hash := newHash()
			return hash, w.accounts.CreateSession(t.Context(), user, account.NewSession{Hash: hash, Replaces: replaces}, long)
		}
		var hashes [8][32]byte
		for i := range hashes {
			hashes[i], err = sign([32]byte{})
			w.ok(err)
		}
		scanned, bound := w.show(), w.show()
		w.scan(scanned, "ann")
		w.scan(bound, fmt.Sprint("new ", round))
		id := w.idOf(hashes[7])
		deeds := []func() error{
			func() error { return w.accounts.SetPasswordHash(t.Context(), ann, "second") },
			func() error {
				_, err := w.accounts.ChangePasswordHash(t.Context(), user, "third", hashes[0], newHash(), long)
				return err
			},
			func() error {
				_, err := w.accounts.EndOtherSessions(t.Context(), ann, hashes[1], long)
				return err
			},
			func() error {
				_, err := w.accounts.EndOtherSessions(t.Context(), ann, hashes[2], long)
				return err
			},
			func() error { return w.accounts.EndSession(t.Context(), ann, hashes[3], id, long) },
			func() error { return w.accounts.DeleteSession(t.Context(), hashes[4]) },
			func() error { _, err := sign(hashes[5]); return err },
			func() error {
				return w.logins.Complete(t.Context(), scanned.Ref, login.Session{Hash: newHash(), Replaces: hashes[6]}, long)
			},
			func() error {
				owner := login.Owner{ID: ann, PasswordChanges: user.PasswordChanges}
				return w.logins.Bind(t.Context(), bound.Ref, owner, login.Session{Hash: newHash(), Replaces: hashes[7]}, long)
			},
			func() error { _, err := w.accounts.Unfollowed(t.Context(), "ann", true); return err },
			func() error { _, err := w.accounts.SawSession(t.Context(), hashes[2], 0); return err },
			func() error { _, err := w.db.RemoveSessions(t.Context(), 100); return err },
		}
		atOnce(len(deeds), func(i int) {
			err := deeds[i]()
			for _, may := range []error{account.ErrNoSession, account.ErrNotTheirs, account.ErrCredentials, login.ErrEnded} {
				if errors.Is(err, may) {
					return
				}
			}
			if err != nil {
				t.Errorf("deed %d: %v", i, err)
			}
		})
		w.lives("bob's", bobs, true)
		w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
	}
}
