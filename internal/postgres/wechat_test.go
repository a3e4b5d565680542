package postgres_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

func digestOf(push string) []byte {
	sum := sha256.Sum256([]byte(push))
	return sum[:]
}

func TestTheFirstReplyStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	here, there := postgres.Pushes{DB: w.db}, postgres.Pushes{DB: w.instance()}
	reply := func(push string) string {
		t.Helper()
		r, ok, err := there.Reply(t.Context(), digestOf(push))
		w.ok(err)
		return fmt.Sprint(r, " ", ok)
	}
	if r := reply("a push"); r != " false" {
		t.Errorf("before: %q", r)
	}
	w.ok(here.Save(t.Context(), digestOf("a push"), "first"))
	w.ok(there.Save(t.Context(), digestOf("a push"), "second"))
	w.ok(here.Save(t.Context(), digestOf("silent"), ""))
	for push, want := range map[string]string{"a push": "first true", "silent": " true", "another": " false"} {
		if r := reply(push); r != want {
			t.Errorf("%s: %q, want %q", push, r, want)
		}
	}
	var errs atomic.Int32
	atOnce(16, func(i int) {
		if err := here.Save(t.Context(), digestOf("at once"), fmt.Sprint(i)); err != nil {
			errs.Add(1)
		}
	})
	first := reply("at once")
	w.ok(here.Save(t.Context(), digestOf("at once"), "late"))
	if again := reply("at once"); again != first || errs.Load() > 0 {
		t.Errorf("%q and then %q, %d errors", first, again, errs.Load())
	}
}

// WeChat repeats a push for a quarter of a minute, in which the scene may go on to
// somebody else.
func TestAPushIsAnsweredAsBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.tie("ann", w.account("ann"))
	other := postgres.Logins{DB: w.instance(), AppID: appID}
	for _, c := range []struct {
		openID string
		want   login.Outcome
	}{{"ann", login.LoggedIn}, {"bob", login.MustBind}} {
		l := w.show()
		scan := func(openID, push string) (login.Outcome, login.ID) {
			t.Helper()
			s := scanOf(l, openID)
			if push != "" {
				s.Push = digestOf(push)
			}
			o, id, err := other.Scan(t.Context(), s, long)
			w.ok(err)
			return o, id
		}
		push := "the push of " + c.openID
		for range 2 { // while the login is there, a repeat tells its streams again
			if o, id := scan(c.openID, push); o != c.want || id != l.ID {
				t.Errorf("%s: %v, to be told to %v", c.openID, o, id)
			}
		}
		if o, id := scan("cyd", "the push of cyd"); o != login.Used || id != (login.ID{}) {
			t.Errorf("another person: %v, to be told to %v", o, id)
		}
		w.timeOut(l.Ref)
		next := w.show()
		before := w.row(1)
		if o, id := scan(c.openID, push); o != c.want || id != (login.ID{}) {
			t.Errorf("%s's push, when the scene has gone on: %v, to be told to %v", c.openID, o, id)
		}
		for _, stale := range []struct{ openID, push string }{
			{c.openID, "a later push"}, {c.openID, ""}, {"cyd", "the push of cyd"},
		} {
			if o, id := scan(stale.openID, stale.push); o != login.Stale || id != (login.ID{}) {
				t.Errorf("%+v, when the scene has gone on: %v, to be told to %v", stale, o, id)
			}
		}
		if w.row(1) != before {
			t.Error("the repeats changed the next login")
		}
		w.timeOut(next.Ref)
	}
	if n := get[int](w, "SELECT count(*) FROM scanlogin.wechat_push"); n != 2 {
		t.Errorf("%d pushes are kept, want those that counted", n)
	}
}

func TestAPushWithoutDigestIsNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	for _, push := range [][]byte{nil, {}} {
		l := w.show()
		s := scanOf(l, "ann")
		s.Push = push
		for range 2 {
			if o, id, err := w.logins.Scan(t.Context(), s, long); err != nil || o != login.MustBind || id != l.ID {
				t.Errorf("%v, to be told to %v (%v)", o, id, err)
			}
		}
		w.timeOut(l.Ref)
		w.claim()
		if o, _, err := w.logins.Scan(t.Context(), s, long); err != nil || o != login.Stale {
			t.Errorf("when the scene has gone on: %v (%v)", o, err)
		}
		w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
	}
	if n := get[int](w, "SELECT count(*) FROM scanlogin.wechat_push"); n != 0 {
		t.Errorf("%d pushes are kept", n)
	}
}

func TestWhoUnfollowsIsLoggedOut(t *testing.T) {
	t.Parallel()
	for _, unbind := range []bool{true, false} {
		w := newWorld(t, 3)
		w.accounts.AppID = appID
		ann, bob := w.account("ann"), w.account("bob")
		w.tie("ann", ann)
		w.tie("ann's other", ann)
		w.tie("bob", bob)
		w.exec("INSERT INTO scanlogin.wechat_identity (appid, openid, account_id) VALUES ('another', 'ann', $1)", bob)
		var hashes [][32]byte
		for _, user := range []int64{ann, ann, bob} {
			hashes = append(hashes, newHash())
			w.ok(w.signIn(hashes[len(hashes)-1], user))
		}
		l := w.show() // scanned, not yet completed
		w.scan(l, "ann")

		if n, err := w.accounts.Unfollowed(t.Context(), "nobody", unbind); err != nil || n != 0 {
			t.Errorf("a stranger: %d sessions (%v)", n, err)
		}
		if n, err := w.accounts.Unfollowed(t.Context(), "ann", unbind); err != nil || n != 2 {
			t.Errorf("unbind %v: %d sessions ended (%v), want 2", unbind, n, err)
		}
		for i, want := range []error{account.ErrNoSession, account.ErrNoSession, nil} {
			if _, err := w.session(hashes[i]); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("unbind %v: session %d gives %v", unbind, i, err)
			}
		}
		wantTie, wantEnd := ann, "ok"
		if unbind {
			wantTie, wantEnd = 0, "ended"
		}
		if tie := w.tieOf("ann"); tie != wantTie {
			t.Errorf("unbind %v: tied to %d", unbind, tie)
		}
		if w.tieOf("ann's other") != ann || w.tieOf("bob") != bob || get[int](w, "SELECT count(*) FROM scanlogin.wechat_identity WHERE appid = 'another'") != 1 {
			t.Errorf("unbind %v: other ties are gone", unbind)
		}
		if got := errName(w.complete(l.Ref)); got != wantEnd {
			t.Errorf("unbind %v: a login scanned before gives %s, want %s", unbind, got, wantEnd)
		}
	}
}

// A login that completes at the same moment ends before the sessions do, or not at all.
func TestNoSessionOutlivesATie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.accounts.AppID = appID
	ann := w.account("ann")
	for range 40 {
		w.exec("DELETE FROM scanlogin.wechat_identity")
		w.tie("ann", ann)
		ls := []login.Login{w.show(), w.show(), w.show()}
		for _, l := range ls {
			w.scan(l, "ann")
		}
		atOnce(len(ls)+1, func(i int) {
			if i == len(ls) {
				if _, err := w.accounts.Unfollowed(t.Context(), "ann", true); err != nil {
					t.Error(err)
				}
				return
			}
			if err := w.complete(ls[i].Ref); err != nil && !errors.Is(err, login.ErrEnded) {
				t.Error(err)
			}
		})
		if n := w.sessions(); n != 0 {
			t.Fatalf("%d sessions of somebody without a tie", n)
		}
		for _, l := range ls {
			w.timeOut(l.Ref)
		}
	}
}

// Each order of the two, made sure by a lock on what the second one needs.
func TestACompletionWaitsForWhoUnfollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.tie("ann", w.account("ann"))
	l := w.show()
	w.scan(l, "ann")
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, statement := range []string{
		"SELECT FROM scanlogin.wechat_identity WHERE openid = 'ann' FOR UPDATE",
		"DELETE FROM scanlogin.web_session",
	} {
		_, err = tx.Exec(t.Context(), statement)
		w.ok(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.complete(l.Ref) }()
	await(t, "the completion", func() bool {
		return strings.Contains(get[string](w, `SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`), "name: Complete")
	})
	_, err = tx.Exec(t.Context(), "DELETE FROM scanlogin.wechat_identity")
	w.ok(err)
	w.ok(tx.Commit(t.Context()))
	if err := <-ended; !errors.Is(err, login.ErrEnded) || w.sessions() != 0 {
		t.Errorf("got %v, and %d sessions", err, w.sessions())
	}
}

func TestTheAccountsNameIsLearnedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.ok(w.db.AddWeChatAccount(t.Context(), appID))
	newID := func() *postgres.OriginalID { return &postgres.OriginalID{DB: w.instance(), AppID: appID} }
	here, there, later := newID(), newID(), newID()
	for _, o := range []*postgres.OriginalID{here, there} {
		w.ok(o.Load(t.Context()))
		w.ok(o.Learn(t.Context(), ""))
		if o.Known() != "" {
			t.Errorf("known before it was learned: %q", o.Known())
		}
	}
	w.ok(here.Learn(t.Context(), "gh_first"))
	w.ok(there.Learn(t.Context(), "gh_second")) // takes what stands there
	w.ok(here.Learn(t.Context(), "gh_third"))
	w.ok(later.Load(t.Context()))
	for i, o := range []*postgres.OriginalID{here, there, later} {
		if o.Known() != "gh_first" {
			t.Errorf("instance %d knows %q", i, o.Known())
		}
	}
	w.ok(w.db.AddWeChatAccount(t.Context(), appID)) // the next start
	again := newID()
	w.ok(again.Load(t.Context()))
	if again.Known() != "gh_first" {
		t.Errorf("after a start: %q", again.Known())
	}
}

func TestAnOriginIsOfOneLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	kunming, dali := login.Origin{Place: "Kunming", Browser: "Firefox, Linux"}, login.Origin{Place: "Dali", Browser: "Safari, iPhone"}
	origin := func(l login.Login) login.Origin {
		t.Helper()
		o, err := w.logins.OriginOf(t.Context(), l.Scene, l.Ticket.Ticket)
		w.ok(err)
		return o
	}
	first := w.show()
	w.ok(w.logins.SetOrigin(t.Context(), first.Ref, kunming))
	w.scan(first, "ann")
	if o := origin(first); o != kunming {
		t.Errorf("the origin is %q", o)
	}
	w.ok(w.logins.SetOrigin(t.Context(), first.Ref, dali)) // too late: the phone was told
	if o := origin(first); o != kunming {
		t.Errorf("the origin is %q after the scan", o)
	}
	w.timeOut(first.Ref)
	next := w.claim() // its code is being made: it matches nothing
	if o := origin(next); o != (login.Origin{}) {
		t.Errorf("a login without a code is at %q", o)
	}
	w.ok(w.logins.SetOrigin(t.Context(), first.Ref, dali))
	next.Ticket = login.Ticket{Ticket: "next", URL: "url"}
	w.ok(w.logins.SetTicket(t.Context(), next.Ref, next.Ticket))
	for _, l := range []login.Login{next, first} {
		if o := origin(l); o != (login.Origin{}) {
			t.Errorf("the next login is at %q", o)
		}
	}
}
