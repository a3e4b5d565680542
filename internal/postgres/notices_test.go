package postgres_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/pgstore"
)

var elsewhere = account.Origin{Browser: "Firefox/140.0", Place: "Kunming"}

// from is a context for what is done from elsewhere.
func from(ctx context.Context) context.Context {
	return audit.With(ctx, audit.Where{Addr: netip.MustParseAddr("192.0.2.7"), Browser: elsewhere.Browser, Place: elsewhere.Place})
}

// untold takes the turn to tell all that there is, for as long as patience says.
func (w *world) untold(db *postgres.DB, patience time.Duration) []account.Untold {
	w.t.Helper()
	all, err := postgres.Notices{DB: db}.ClaimNotices(w.t.Context(), 100, patience)
	w.ok(err)
	slices.SortFunc(all, func(a, b account.Untold) int { return int(a.ID - b.ID) })
	for _, u := range all {
		slices.Sort(u.OpenIDs)
	}
	return all
}

// shown is what a user's page would show.
func (w *world) shown(user int64) []account.Notice {
	w.t.Helper()
	all, err := w.accounts.Notices(w.t.Context(), user, long)
	w.ok(err)
	return all
}

func (w *world) notices() int {
	w.t.Helper()
	return get[int](w, "SELECT count(*) FROM scanlogin.notice")
}

// bindFrom binds a new phone from elsewhere.
func (w *world) bindFrom(openID string, user int64) {
	w.t.Helper()
	l := w.show()
	w.scan(l, openID)
	w.ok(w.logins.Bind(from(w.t.Context()), l.Ref, login.Owner{ID: user, PasswordChanges: get[int32](w, "SELECT password_changes FROM scanlogin.account WHERE id = $1", user)}, newSession(), long))
}

// Whatever changes who may sign in to an account leaves word of it, for the phones that were
// tied to it just before or are just after.
func TestWhatIsDoneToAnAccountLeavesWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	ann, bob := w.account("ann"), w.account("bob")
	w.tie("bob's", bob)
	w.bindFrom("first", ann)
	w.bindFrom("second", ann)
	session := w.browser(ann)
	_, err := w.accounts.ChangePasswordHash(from(t.Context()), account.User{ID: ann}, "second", session, newHash(), long)
	w.ok(err)
	n, err := w.accounts.Unbind(from(t.Context()), ann)
	w.ok(err)
	if n != 2 {
		t.Errorf("%d ties", n)
	}
	w.ok(w.accounts.SetPasswordHash(t.Context(), ann, "third"))
	want := []account.Untold{
		{Notice: account.Notice{Kind: account.NoticeBound, Origin: elsewhere}, OpenIDs: []string{"first"}},
		{Notice: account.Notice{Kind: account.NoticeBound, Origin: elsewhere}, OpenIDs: []string{"first", "second"}},
		{Notice: account.Notice{Kind: account.NoticePasswordChanged, Origin: elsewhere}, OpenIDs: []string{"first", "second"}},
		{Notice: account.Notice{Kind: account.NoticeUnbound, Origin: elsewhere}, OpenIDs: []string{"first", "second"}},
	}
	got := w.untold(w.db, long)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(account.Notice{}, "ID", "At"), cmpopts.IgnoreFields(account.Untold{}, "Turn")); diff != "" {
		t.Error(diff)
	}
	if since := time.Since(got[0].At); since < 0 || since > time.Minute {
		t.Errorf("done %v ago", since)
	}
	// By then there was no phone.
	if all := w.shown(ann); len(all) != 1 || all[0].Kind != account.NoticePasswordChanged || all[0].Origin != (account.Origin{}) {
		t.Errorf("the page shows %+v", all)
	}
	if all := w.shown(bob); len(all) != 0 {
		t.Errorf("bob is told of %+v", all)
	}
}

func TestWhatIsNotDoneLeavesNoWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	ann, bob := w.account("ann"), w.account("bob")
	if n, err := w.accounts.Unbind(from(t.Context()), ann); n != 0 || err != nil {
		t.Errorf("unbound %d (%v)", n, err)
	}
	if err := w.accounts.SetPasswordHash(t.Context(), ann+bob, "x"); !errors.Is(err, account.ErrNoUser) {
		t.Error(err)
	}
	session := w.browser(ann)
	_, err := w.accounts.ChangePasswordHash(from(t.Context()), account.User{ID: ann, PasswordChanges: 7}, "x", session, newHash(), long)
	if !errors.Is(err, account.ErrCredentials) {
		t.Error(err)
	}
	_, err = w.accounts.ChangePasswordHash(from(t.Context()), account.User{ID: ann}, "x", newHash(), newHash(), long)
	if !errors.Is(err, account.ErrNoSession) {
		t.Error(err)
	}
	l := w.show()
	if err := w.bind(l.Ref, ann); !errors.Is(err, login.ErrNotReady) {
		t.Error(err)
	}
	w.scan(l, "new")
	if err := w.logins.Bind(t.Context(), l.Ref, login.Owner{ID: ann, PasswordChanges: 7}, newSession(), long); !errors.Is(err, account.ErrCredentials) {
		t.Error(err)
	}
	w.tie("new", bob)
	if err := w.bind(l.Ref, ann); !errors.Is(err, login.ErrTied) {
		t.Error(err)
	}
	if _, err := w.accounts.Unfollowed(t.Context(), "new", true); err != nil {
		t.Error(err)
	}
	if n := w.notices(); n != 0 {
		t.Errorf("%d notices of nothing", n)
	}
}

func TestOfManyThatUnbindOneLeavesWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.tie("work", ann)
	var removed atomic.Int32
	atOnce(16, func(int) {
		n, err := w.accounts.Unbind(from(t.Context()), ann)
		if err != nil {
			t.Error(err)
		}
		removed.Add(int32(n))
	})
	if n := w.notices(); n != 1 || removed.Load() != 1 {
		t.Errorf("%d ties removed, %d notices", removed.Load(), n)
	}
}

// A notice is one instance's turn, until it is given up on; then it is another's, and what the
// first one makes of it late counts no more.
func TestANoticeIsOneInstancesTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	other := w.instance()
	ann := w.account("ann")
	for _, phone := range []string{"one", "two", "three"} {
		w.bindFrom(phone, ann)
	}
	var turns atomic.Int32
	atOnce(8, func(n int) {
		all, err := postgres.Notices{DB: []*postgres.DB{w.db, other}[n%2]}.ClaimNotices(t.Context(), 1, long)
		if err != nil {
			t.Error(err)
		}
		turns.Add(int32(len(all)))
	})
	if rest := w.untold(other, long); int(turns.Load())+len(rest) != 3 {
		t.Errorf("%d and %d turns for 3 notices", turns.Load(), len(rest))
	}
	w.exec("UPDATE scanlogin.notice SET telling_until = now()")
	first := w.untold(w.db, 0) // which is over at once
	second := w.untold(other, long)
	if len(first) != 3 || len(second) != 3 {
		t.Fatalf("%d and %d notices", len(first), len(second))
	}
	here, there := postgres.Notices{DB: w.db}, postgres.Notices{DB: other}
	w.ok(here.EndNotice(t.Context(), first[0]))
	w.ok(here.LeaveNotice(t.Context(), first[1]))
	if n := get[int](w, "SELECT count(*) FROM scanlogin.notice WHERE openids <> '{}'"); n != 3 {
		t.Errorf("of 3 notices %d are left to those whose turn it is", n)
	}
	w.ok(there.EndNotice(t.Context(), second[0]))
	w.ok(there.LeaveNotice(t.Context(), second[1]))
	if again := w.untold(w.db, long); len(again) != 0 {
		t.Errorf("told again: %v", again)
	}
	all := w.shown(ann)
	if len(all) != 1 || all[0].ID != second[1].ID || all[0].Origin != elsewhere {
		t.Errorf("the page shows %+v", all)
	}
	// Whoever was to tell the last one is late: the page doesn't wait.
	if all, err := w.accounts.Notices(t.Context(), ann, 0); err != nil || len(all) != 2 {
		t.Errorf("the page shows %+v (%v)", all, err)
	}
}

func TestANoticeIsReadByItsOwnerAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann, bob := w.account("ann"), w.account("bob")
	for range 2 {
		w.ok(w.accounts.SetPasswordHash(t.Context(), ann, "x"))
	}
	all := w.shown(ann)
	if len(all) != 2 || all[0].ID < all[1].ID {
		t.Fatalf("the page shows %+v", all)
	}
	read := func(user int64, want int, ids ...int64) {
		t.Helper()
		if n, err := w.accounts.SeenNotices(t.Context(), user, ids); n != want || err != nil {
			t.Errorf("%d read (%v), want %d", n, err, want)
		}
	}
	read(bob, 0, all[0].ID, all[1].ID)
	read(ann, 0)
	read(ann, 1, all[0].ID, all[0].ID, -1)
	read(ann, 0, all[0].ID)
	if left := w.shown(ann); len(left) != 1 || left[0].ID != all[1].ID {
		t.Errorf("the page shows %+v", left)
	}
}

// readsBy insists on the index that a statement reads by, for any arguments.
func (w *world) readsBy(index string, run func(q *pgstore.Queries) error) {
	w.t.Helper()
	spy := &spy{}
	if err := run(pgstore.New(spy)); !errors.Is(err, errSpy) {
		w.t.Fatal(err)
	}
	if p := w.plan(spy.statement, spy.args...); !strings.Contains(p, index) || strings.Contains(p, "Seq Scan") {
		w.t.Errorf("not by %s:\n%s", index, p)
	}
}

// What is looked for all the time is found by an index, however many lie there unread.
func TestNoticesAreFoundByAnIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.planForAny()
	w.exec(`INSERT INTO scanlogin.notice (account_id, kind, browser, place, openids)
		SELECT n, 'unbound', '', '', '{}' FROM generate_series(1, 20000) n`)
	w.exec("ANALYZE scanlogin.notice")
	w.readsBy("notice_untold", func(q *pgstore.Queries) error { _, err := q.ClaimNotices(t.Context(), long, 8); return err })
	w.readsBy("notice_account", func(q *pgstore.Queries) error { _, err := q.NoticesOf(t.Context(), 7, long); return err })
	w.readsBy("notice_age", func(q *pgstore.Queries) error { _, err := q.RemoveNotices(t.Context(), long, 1000); return err })
}
