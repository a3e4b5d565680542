package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

// cell is one login in some state, with people of its own to scan it.
type cell struct {
	*world
	login.Login
	tied, untied string // openids
	account      int64  // of the one who is tied
}

func (w *world) newCell(name string) *cell {
	c := &cell{world: w, Login: w.show(), tied: "tied " + name, untied: "untied " + name, account: w.account(name)}
	w.tie(c.tied, c.account)
	return c
}

// states are the ways into each state. Those after the bar are over, by time or by act.
var states = []struct {
	name  string
	reach func(c *cell)
}{
	{"waiting", func(*cell) {}},
	{"authenticated", func(c *cell) { c.scan(c.Login, c.tied) }},
	{"bind_required", func(c *cell) { c.scan(c.Login, c.untied) }},
	{"completed", func(c *cell) { c.scan(c.Login, c.tied); c.ok(c.world.complete(c.Ref)) }},
	{"bound", func(c *cell) { c.scan(c.Login, c.untied); c.ok(c.world.bind(c.Ref, c.account)) }},
	{"left", func(c *cell) { c.ok(c.logins.Leave(c.t.Context(), []login.Ref{c.Ref})) }},
	{"abandoned", func(c *cell) { c.ok(c.logins.Abandon(c.t.Context(), c.Ref)) }},
	{"waiting|late", func(c *cell) { c.timeOut(c.Ref) }},
	{"authenticated|late", func(c *cell) { c.scan(c.Login, c.tied); c.timeOut(c.Ref) }},
	{"bind_required|late", func(c *cell) { c.scan(c.Login, c.untied); c.timeOut(c.Ref) }},
	{"unbound", func(c *cell) { // authenticated by somebody whose tie was removed since
		c.scan(c.Login, c.tied)
		_, err := c.accounts.Unbind(c.t.Context(), c.account)
		c.ok(err)
	}},
	{"scanned", func(c *cell) { c.ask(c.Login, c.tied, login.ConfirmReply, "42") }},
	{"coded", func(c *cell) { c.ask(c.Login, c.untied, login.ConfirmCode, "123456") }},
	{"declined", func(c *cell) { c.ask(c.Login, c.tied, login.ConfirmReply, "42"); c.answer(c.tied, "") }},
	{"scanned|late", func(c *cell) { c.ask(c.Login, c.tied, login.ConfirmReply, "42"); c.timeOut(c.Ref) }},
	{"coded|late", func(c *cell) { c.ask(c.Login, c.untied, login.ConfirmCode, "123456"); c.timeOut(c.Ref) }},
}

var actions = []struct {
	name string
	act  func(ctx context.Context, c *cell) string
}{
	{"ticket", func(ctx context.Context, c *cell) string {
		return errName(c.logins.SetTicket(ctx, c.Ref, login.Ticket{Ticket: "new", URL: "new"}))
	}},
	{"abandon", func(ctx context.Context, c *cell) string { return errName(c.logins.Abandon(ctx, c.Ref)) }},
	{"join", func(ctx context.Context, c *cell) string {
		l, err := c.logins.Join(ctx, c.Ref)
		if err == nil && (l.Ticket != c.Ticket || l.Ref != c.Ref || l.ExpiresIn <= 0 || l.ExpiresIn > long) {
			return fmt.Sprintf("joined %+v", l)
		}
		return errName(err)
	}},
	{"leave", func(ctx context.Context, c *cell) string { return errName(c.logins.Leave(ctx, []login.Ref{c.Ref})) }},
	{"complete", func(_ context.Context, c *cell) string { return errName(c.world.complete(c.Ref)) }},
	{"bind", func(_ context.Context, c *cell) string { return errName(c.world.bind(c.Ref, c.account)) }},
	{"tied scans", func(_ context.Context, c *cell) string { return c.scan(c.Login, c.tied).String() }},
	{"untied scans", func(_ context.Context, c *cell) string { return c.scan(c.Login, c.untied).String() }},
	{"old code", func(_ context.Context, c *cell) string {
		old := c.Login
		old.Ticket.Ticket = "of an earlier login"
		return c.scan(old, c.tied).String()
	}},
	{"no code", func(_ context.Context, c *cell) string {
		none := c.Login
		none.Ticket.Ticket = ""
		return c.scan(none, c.tied).String()
	}},
	{"tied is asked", func(_ context.Context, c *cell) string {
		return c.ask(c.Login, c.tied, login.ConfirmReply, "43").String()
	}},
	{"number", func(_ context.Context, c *cell) string { return c.answer(c.tied, "42").String() }},
	{"wrong number", func(_ context.Context, c *cell) string { return c.answer(c.tied, "41").String() }},
	{"refusal", func(_ context.Context, c *cell) string { return c.answer(c.tied, "").String() }},
	{"code", func(_ context.Context, c *cell) string { return c.typed(c.Ref, "123456") }},
}

// Each cell is the answer; then, where the row changes, a blank and the state
// that the login is in afterwards.
const transitions = `
                   ticket     abandon    join             leave      complete     bind         tied scans              untied scans            old code no code tied is asked      number                  wrong number refusal           code
waiting            ok/waiting ok/expired ok/waiting       ok/expired not_ready    not_ready    logged_in/authenticated must_bind/bind_required stale    stale   to_confirm/scanned stale                   stale        stale             not_asked
authenticated      ended      ok         ok/authenticated ok         ok/completed not_ready    logged_in               used                    stale    stale   logged_in          stale                   stale        stale             not_asked
bind_required      ended      ok         ok/bind_required ok         not_ready    ok/completed used                    must_bind               stale    stale   used               stale                   stale        stale             not_asked
completed          ended      ok         ended            ok         ended        ended        logged_in               used                    stale    stale   logged_in          stale                   stale        stale             ended
bound              ended      ok         ended            ok         ended        ended        used                    must_bind               stale    stale   used               stale                   stale        stale             ended
left               ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
abandoned          ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
waiting|late       ended      ok/expired ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
authenticated|late ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
bind_required|late ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
unbound            ended      ok         ok/authenticated ok         ended        not_ready    logged_in               used                    stale    stale   logged_in          stale                   stale        stale             not_asked
scanned            ended      ok         ok/scanned       ok         not_ready    not_ready    must_bind               used                    stale    stale   to_confirm         logged_in/authenticated wrong_number declined/declined not_asked
coded              ended      ok         ok/scanned       ok         not_ready    not_ready    used                    must_bind               stale    stale   used               stale                   stale        stale             ok/bind_required
declined           ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
scanned|late       ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
coded|late         ended      ok         ended            ok         ended        ended        stale                   stale                   stale    stale   stale              stale                   stale        stale             ended
`

func TestEveryActionInEveryState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, int32(len(states)*len(actions)))
	lines := strings.Split(strings.TrimSpace(transitions), "\n")[1:]
	if len(lines) != len(states) {
		t.Fatalf("%d lines for %d states", len(lines), len(states))
	}
	for i, s := range states {
		want := strings.Fields(lines[i])
		if want[0] != s.name || len(want) != len(actions)+1 {
			t.Fatalf("a line for %q in the place of %q, or of another length", want[0], s.name)
		}
		for j, a := range actions {
			c := w.newCell(fmt.Sprintf("%d.%d", i, j))
			s.reach(c)
			before, sessions := w.row(c.Scene), w.sessions()
			got := a.act(t.Context(), c)
			if w.row(c.Scene) != before {
				got += "/" + w.state(c.Ref).String()
			}
			if got != want[j+1] {
				t.Errorf("%s, %s: %s, want %s", s.name, a.name, got, want[j+1])
			}
			made := w.sessions() - sessions
			if wantMade := strings.HasSuffix(want[j+1], "ok/completed"); wantMade != (made == 1) || made > 1 {
				t.Errorf("%s, %s: %d sessions made", s.name, a.name, made)
			}
		}
	}
}

func TestAFormerHolderChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	holders := append(slices.Concat(states[:5], states[11:13]), struct {
		name  string
		reach func(c *cell)
	}{"claimed", func(c *cell) { // its code is being made
		c.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
		c.claim()
	}})
	for i, s := range holders {
		former := w.newCell(fmt.Sprintf("former %d", i))
		w.timeOut(former.Ref)
		holder := former
		if s.name != "claimed" { // that one would wipe out the former one's code
			holder = w.newCell(fmt.Sprintf("holder %d", i))
		}
		s.reach(holder)
		for _, a := range actions {
			before, sessions := w.row(1), w.sessions()
			got := a.act(t.Context(), former)
			if diff := cmp.Diff(before, w.row(1)); diff != "" {
				t.Errorf("%s, %s by a former holder changed the row:\n%s", s.name, a.name, diff)
			}
			if w.sessions() != sessions {
				t.Errorf("%s, %s by a former holder made a session", s.name, a.name)
			}
			if !slices.Contains([]string{"ended", "stale", "ok"}, got) || got == "ok" && a.name != "abandon" && a.name != "leave" {
				t.Errorf("%s, %s by a former holder: %s", s.name, a.name, got)
			}
		}
		w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
	}
}

func TestTheScanGivesItsResultBindTTL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	l := w.show()
	_, id, err := w.logins.Scan(t.Context(), scanOf(l, "ann"), 7*time.Minute)
	w.ok(err)
	if id != l.ID {
		t.Errorf("the scan is to be told to %v, want %v", id, l.ID)
	}
	now, err := w.logins.Current(t.Context(), l.Ref)
	w.ok(err)
	if now.ExpiresIn <= 6*time.Minute || now.ExpiresIn > 7*time.Minute {
		t.Errorf("scanned, the login has %v left, want 7m", now.ExpiresIn)
	}
	if _, again, err := w.logins.Scan(t.Context(), scanOf(l, "ann"), long); err != nil || again != l.ID {
		t.Errorf("the repeat is to be told to %v (%v), want %v", again, err, l.ID)
	}
	if _, none, err := w.logins.Scan(t.Context(), scanOf(l, "bob"), long); err != nil || none != (login.ID{}) {
		t.Errorf("another person's scan is to be told to %v (%v)", none, err)
	}
}

func TestTheFirstOfManyScannersWins(t *testing.T) {
	t.Parallel()
	const scanners = 32
	w := newWorld(t, 1)
	ann := w.account("ann")
	for i := range scanners / 2 {
		w.tie(fmt.Sprintf("scanner %d", i), ann)
	}
	for range 5 {
		l := w.show()
		outcomes := make([]login.Outcome, 2*scanners) // WeChat pushes everything twice
		atOnce(len(outcomes), func(i int) {
			var err error
			outcomes[i], _, err = w.logins.Scan(t.Context(), scanOf(l, fmt.Sprintf("scanner %d", i/2)), long)
			if err != nil {
				t.Error(err)
			}
		})
		won := 0
		for i := 0; i < len(outcomes); i += 2 {
			if outcomes[i] != outcomes[i+1] {
				t.Errorf("scanner %d was told %v and %v", i/2, outcomes[i], outcomes[i+1])
			}
			want := login.MustBind
			if i/2 < scanners/2 {
				want = login.LoggedIn
			}
			switch outcomes[i] {
			case want:
				won++
			case login.Used:
			default:
				t.Errorf("scanner %d was told %v", i/2, outcomes[i])
			}
		}
		if won != 1 {
			t.Errorf("%d scanners have won", won)
		}
		w.timeOut(l.Ref)
	}
}

func TestALoginCompletesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.tie("ann", ann)
	for _, end := range []struct {
		openID string
		act    func(login.Ref) error
	}{
		{"ann", w.complete},
		{"new", func(ref login.Ref) error { return w.bind(ref, ann) }},
	} {
		l, sessions := w.show(), w.sessions()
		w.scan(l, end.openID)
		errs := make([]error, 24)
		atOnce(len(errs), func(i int) { errs[i] = end.act(l.Ref) })
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, login.ErrEnded):
				t.Errorf("a loser was told %v", err)
			}
		}
		if made := w.sessions() - sessions; won != 1 || made != 1 {
			t.Errorf("%s: %d have won, %d sessions made", end.openID, won, made)
		}
	}
	if n := get[int](w, "SELECT count(*) FROM scanlogin.web_session WHERE account_id = $1 AND expires_at BETWEEN now() + interval '59 min' AND now() + interval '1 h'", ann); n != 2 {
		t.Errorf("%d sessions of the right person and life", n)
	}
}

func TestAScanBetweenCompleteAndItsReasonIsNoEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	ann := w.account("ann")
	w.tie("ann", ann)
	db := w.instance()
	logins := postgres.Logins{DB: db, AppID: appID}
	for _, end := range []struct {
		openID string
		act    func(ref login.Ref) error
	}{
		{"ann", func(ref login.Ref) error { return logins.Complete(t.Context(), ref, newSession(), long) }},
		{"new", func(ref login.Ref) error {
			return logins.Bind(t.Context(), ref, login.Owner{ID: ann}, newSession(), long)
		}},
	} {
		l := w.show()
		var once sync.Once
		db.BeforeEach(func(statement string, _ []any) {
			if strings.Contains(statement, "name: Look ") {
				once.Do(func() { w.scan(l, end.openID) })
			}
		})
		if err := end.act(l.Ref); err != nil {
			t.Errorf("scanned by %s while it completed: %v", end.openID, err)
		}
	}
}

func TestTwoAccountsWantTheSameWeChatUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	for i := range 10 {
		openID := fmt.Sprintf("shared %d", i)
		l := []login.Login{w.show(), w.show()}
		accounts := []int64{w.account(fmt.Sprint("a", i)), w.account(fmt.Sprint("b", i))}
		w.scan(l[0], openID)
		w.scan(l[1], openID)
		sessions := w.sessions()
		errs := make([]error, 2)
		atOnce(2, func(j int) { errs[j] = w.bind(l[j].Ref, accounts[j]) })
		winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
		if winner < 0 || !errors.Is(errs[1-winner], login.ErrTied) {
			t.Fatalf("the two were told %v", errs)
		}
		if got := w.tieOf(openID); got != accounts[winner] {
			t.Errorf("tied to account %d, want the winner's", got)
		}
		if s := w.state(l[1-winner].Ref); s != login.BindRequired {
			t.Errorf("the loser's login is %v", s)
		}
		if made := w.sessions() - sessions; made != 1 {
			t.Errorf("%d sessions made", made)
		}
		// The loser may still bind to the account that the person has by now.
		w.ok(w.bind(l[1-winner].Ref, accounts[winner]))
	}
}

func TestAPersonMayHaveTwoWeChatUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	ann := w.account("ann")
	w.tie("work", ann)
	l := w.show()
	w.scan(l, "home")
	w.ok(w.bind(l.Ref, ann))
	if w.tieOf("work") != ann || w.tieOf("home") != ann {
		t.Error("one of the two ties is gone")
	}
}

func TestATieBelongsToOneOfficialAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.exec("INSERT INTO scanlogin.wechat_identity (appid, openid, account_id) VALUES ('another', 'ann', $1)", w.account("ann"))
	if o := w.scan(w.show(), "ann"); o != login.MustBind {
		t.Errorf("an openid of another Official Account gave %v", o)
	}
}

func TestAnUnboundPersonWhoseTieIsAnothersNowDoesNotLogIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann, bob := w.account("ann"), w.account("bob")
	w.tie("shared", ann)
	l := w.show()
	w.scan(l, "shared")
	_, err := w.accounts.Unbind(t.Context(), ann)
	w.ok(err)
	w.tie("shared", bob)
	if err := w.complete(l.Ref); !errors.Is(err, login.ErrEnded) {
		t.Errorf("scanned as ann, completed as bob: %v", err)
	}
	if n := w.sessions(); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestBindingLeavesNothingBehindWhereItFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := w.show()
	w.scan(l, "new")
	before := w.row(l.Scene)
	if err := w.bind(l.Ref, 4711); err == nil {
		t.Error("bound to an account that isn't there")
	}
	if w.row(l.Scene) != before || w.tieOf("new") != 0 || w.sessions() != 0 {
		t.Error("something of it was kept")
	}
}

func TestWatchers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	a, b := w.show(), w.show()
	join := func(l login.Login, n int) {
		for range n {
			_, err := w.logins.Join(t.Context(), l.Ref)
			w.ok(err)
		}
	}
	leave := func(ls ...login.Login) {
		var refs []login.Ref
		for _, l := range ls {
			refs = append(refs, l.Ref)
		}
		w.ok(w.logins.Leave(t.Context(), refs))
	}
	want := func(l login.Login, s login.State, watchers int) {
		t.Helper()
		if got := w.state(l.Ref); got != s {
			t.Errorf("the login is %v, want %v", got, s)
		}
		if n := get[int](w, "SELECT watchers FROM scanlogin.scene WHERE id = $1", l.Scene); n != watchers {
			t.Errorf("%d watchers, want %d", n, watchers)
		}
	}
	join(a, 3)
	want(a, login.Waiting, 4)
	leave(a, b, a)
	want(a, login.Waiting, 2)
	want(b, login.Expired, 0)
	w.scan(a, "ann")
	leave(a, a, a)
	if s := w.state(a.Ref); s != login.BindRequired {
		t.Errorf("a scanned login that everybody left is %v", s)
	}
	leave()
	leave(login.Login{Ref: login.Ref{Scene: 99, ID: newID()}})
}

func TestOverlappingLeavesInOppositeOrder(t *testing.T) {
	t.Parallel()
	const logins, instances = 60, 6
	w := newWorld(t, logins)
	refs := make([]login.Ref, logins)
	for i := range refs {
		refs[i] = w.claim().Ref
	}
	w.exec("UPDATE scanlogin.scene SET watchers = 1000")
	backward := slices.Clone(refs)
	slices.Reverse(backward)
	atOnce(instances, func(i int) {
		batch := refs
		if i%2 == 0 {
			batch = backward
		}
		for range 10 {
			if err := w.logins.Leave(t.Context(), batch); err != nil {
				t.Error(err)
			}
		}
	})
	if n := get[int](w, "SELECT count(*) FROM scanlogin.scene WHERE watchers = 1000 - $1::int", 10*instances); n != logins {
		t.Errorf("%d of %d logins have the right number of watchers", n, logins)
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	ann := w.account("ann")
	w.tie("ann", ann)
	same, scanned, late, lost, done := w.show(), w.show(), w.show(), w.show(), w.show()
	w.scan(scanned, "ann")
	w.timeOut(late.Ref)
	w.scan(done, "ann")
	w.ok(w.complete(done.Ref))
	w.exec("UPDATE scanlogin.scene SET login = gen_random_uuid() WHERE id = $1", lost.Scene)
	watch := func(l login.Login, seen login.State) login.Watch { return login.Watch{Ref: l.Ref, Seen: seen} }
	got, err := w.logins.Look(t.Context(), []login.Watch{
		watch(same, login.Waiting), watch(scanned, login.Waiting), watch(late, login.Waiting), watch(lost, login.Waiting), watch(done, login.Waiting),
		watch(same, 0),                      // told nothing yet
		watch(scanned, login.Authenticated), // know already
		watch(late, login.Expired), watch(lost, login.Expired), watch(done, login.Completed),
	})
	w.ok(err)
	var said []string
	for _, l := range got {
		said = append(said, fmt.Sprint(l.Scene, " ", l.State, " ", l.ExpiresIn > 0, " ", l.Ticket.Ticket != ""))
	}
	slices.Sort(said)
	want := []string{
		fmt.Sprint(same.Scene, " waiting true true"), fmt.Sprint(scanned.Scene, " authenticated true true"),
		fmt.Sprint(late.Scene, " expired false true"), fmt.Sprint(lost.Scene, " expired false false"),
		fmt.Sprint(done.Scene, " completed false true"),
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
	if got, err := w.logins.Look(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("looking at nothing gave %v, %v", got, err)
	}
}

func TestTenThousandAreLookedAtInOneQuery(t *testing.T) {
	t.Parallel()
	const scenes = 10_000
	w := newWorld(t, scenes)
	w.exec("UPDATE scanlogin.scene SET login = gen_random_uuid(), state = 'waiting', expires_at = now() + interval '1 h'")
	w.exec("UPDATE scanlogin.scene SET state = 'authenticated' WHERE id % 100 = 0")
	ids := get[[]login.ID](w, "SELECT array_agg(login ORDER BY id) FROM scanlogin.scene")
	watches := make([]login.Watch, scenes)
	for i, id := range ids {
		watches[i] = login.Watch{Ref: login.Ref{Scene: int32(i + 1), ID: id}, Seen: login.Waiting}
	}
	for range 3 {
		got, err := w.logins.Look(t.Context(), watches)
		w.ok(err)
		if len(got) != scenes/100 {
			t.Fatalf("%d have changed, want %d", len(got), scenes/100)
		}
	}
}

// During a deploy a newer version, with a state that this one doesn't know, runs beside it.
func TestAStateOfANewerVersionBlindsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	newer, scanned := w.show(), w.show()
	w.scan(scanned, "ann")
	w.exec("ALTER TABLE scanlogin.scene DROP CONSTRAINT scene_state_check")
	w.exec("UPDATE scanlogin.scene SET state = 'confirming' WHERE id = $1", newer.Scene)

	watches := []login.Watch{{Ref: newer.Ref, Seen: login.Waiting}, {Ref: scanned.Ref, Seen: login.Waiting}}
	got, err := w.logins.Look(t.Context(), watches)
	if err != nil || len(got) != 1 || got[0].Ref != scanned.Ref || got[0].State != login.BindRequired {
		t.Errorf("looking gave %+v (%v), want the login that was scanned", got, err)
	}
	_, err = w.logins.Join(t.Context(), newer.Ref)
	if errName(err) != "not_ready" { // ErrEnded would start another login
		t.Errorf("resuming: %v", err)
	}
	if err := w.complete(newer.Ref); errName(err) != "not_ready" {
		t.Errorf("completing: %v", err)
	}
	if err := w.bind(newer.Ref, w.account("ann")); errName(err) != "not_ready" {
		t.Errorf("binding: %v", err)
	}
	w.exec("UPDATE scanlogin.scene SET state = 'authenticated' WHERE id = $1", newer.Scene)
	if got, err := w.logins.Look(t.Context(), watches[:1]); err != nil || len(got) != 1 || got[0].State != login.Authenticated {
		t.Errorf("looking gave %+v (%v), want the state that came next", got, err)
	}
}
