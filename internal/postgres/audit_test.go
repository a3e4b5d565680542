package postgres_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

// log is for the owner: the service doesn't read it.
func (w *world) log() postgres.Audit {
	w.t.Helper()
	db := must(postgres.Open(w.t.Context(), postgrestest.As(w.url, postgrestest.Owner), postgrestest.Schema))(w.t)
	w.t.Cleanup(db.Close)
	return postgres.Audit{DB: db}
}

// all asks for the whole log.
func all() audit.Filter {
	return audit.Filter{Until: time.Now().Add(1000 * long), Most: 1 << 30}
}

// audited is what the log says, in short.
func (w *world) audited(f audit.Filter) (rows []string) {
	w.t.Helper()
	found, _, err := w.log().Rows(w.t.Context(), f, "")
	w.ok(err)
	for _, r := range found {
		rows = append(rows, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Kind, r.Detail, r.Account)))
	}
	return rows
}

// months are the partitions.
func (w *world) months() []string {
	w.t.Helper()
	return strings.Fields(get[string](w, `SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'scanlogin.audit'::regclass`))
}

// month is the name of the partition of so many months from now.
func (w *world) month(n int) string {
	w.t.Helper()
	return get[string](w, `SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + $1::int * interval '1 month', '"audit_"YYYY_MM')`, n)
}

// addMonth makes the partition of another month, with a row in it.
func (w *world) addMonth(n int) {
	w.t.Helper()
	const from = `date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + %d * interval '1 month'`
	w.exec(fmt.Sprintf(`DO $$ BEGIN EXECUTE format('CREATE TABLE scanlogin.%s PARTITION OF scanlogin.audit FOR VALUES FROM (%%L) TO (%%L)', `+from+`, `+from+`); END $$`,
		w.month(n), n, n+1))
	w.exec(fmt.Sprintf(`INSERT INTO scanlogin.audit (at, kind, detail, instance) VALUES (`+from+` + interval '1 hour', 'login', '%d', 'test')`, n, n))
}

func TestMonthsOfTheAuditLogAreMadeAheadAndDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ahead := []string{w.month(0), w.month(1), w.month(2), "audit_rest"}
	if diff := cmp.Diff(ahead, w.months()); diff != "" {
		t.Errorf("after the migration, -want +got:\n%s", diff)
	}
	w.exec("DROP TABLE scanlogin." + w.month(1) + ", scanlogin." + w.month(2))
	for _, n := range []int{-13, -15, -5, -8} {
		w.addMonth(n)
	}
	w.exec("INSERT INTO scanlogin.audit (at, kind, instance) VALUES (now() - interval '420 days', 'old', 'test'), (now() - interval '300 days', 'rest', 'test')")
	keep := func(d time.Duration, dropped int32, want ...string) {
		t.Helper()
		for _, n := range []int32{dropped, 0} { // and then there is nothing to do
			if got := must(w.db.KeepAudit(t.Context(), d))(t); got != n {
				t.Errorf("kept for %v, %d months are dropped, want %d", d, got, n)
			}
		}
		want = append(want, ahead...)
		slices.Sort(want)
		if diff := cmp.Diff(want, w.months()); diff != "" {
			t.Errorf("kept for %v, -want +got:\n%s", d, diff)
		}
	}
	// Wherever in its month today is, the thirteenth before ended less than 400 days ago.
	keep(9600*time.Hour, 1, w.month(-13), w.month(-5), w.month(-8))
	if n := get[int](w, "SELECT count(*) FROM scanlogin.audit_rest"); n != 1 {
		t.Errorf("%d rows are left of those without a month, want 1", n)
	}
	// Half a year is left whatever the service asks for.
	for _, d := range []time.Duration{0, -1000 * long, time.Minute} {
		w.exec("SELECT scanlogin.keep_audit(NULL)")
		must(w.db.KeepAudit(t.Context(), d))(t)
		keep(d, 0, w.month(-5))
	}
	if rows := w.audited(all()); !slices.Contains(rows, "login -5") || slices.Contains(rows, "rest") {
		t.Errorf("what is left: %q", rows)
	}
}

// A month that nobody has made is no reason to refuse a login.
func TestRowsWithoutAMonthAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.exec("DROP TABLE scanlogin." + w.month(0) + ", scanlogin." + w.month(1) + ", scanlogin." + w.month(2))
	w.tie("ann", w.account("ann"))
	l := w.show()
	w.scan(l, "ann")
	w.ok(w.complete(l.Ref))
	want := []string{"signup  ann", "scan logged_in ann", "login scan ann"}
	if diff := cmp.Diff(want, w.audited(all())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	must(w.db.KeepAudit(t.Context(), long))(t) // where the rows of this month lie, others may join them
	if diff := cmp.Diff([]string{w.month(1), w.month(2), "audit_rest"}, w.months()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	w.account("bob")
	if diff := cmp.Diff(append(want, "signup  bob"), w.audited(all())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A login without its row, or a row without its login, can't be: whatever of the statement
// fails, nothing of it was.
func TestADeedAndItsRowAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	ann := w.account("ann")
	w.tie("ann", ann)
	l, other := w.show(), w.show()
	w.scan(l, "ann")
	w.exec("ALTER TABLE scanlogin.audit ADD CHECK (kind = 'nothing') NOT VALID")
	for name, do := range map[string]func() error{
		"a scan": func() error {
			_, _, err := w.logins.Scan(t.Context(), scanOf(other, "ann"), long)
			return err
		},
		"a login":    func() error { return w.complete(l.Ref) },
		"a session":  func() error { return w.signIn(newHash(), ann) },
		"an account": func() error { _, err := w.accounts.CreateUser(t.Context(), "bob", "hash"); return err },
		"an unbind":  func() error { _, err := w.accounts.Unbind(t.Context(), ann); return err },
		"a password": func() error { return w.accounts.SetPasswordHash(t.Context(), ann, "other") },
	} {
		if err := do(); err == nil {
			t.Errorf("%s is done without its row", name)
		}
	}
	if w.state(other.Ref) != login.Waiting || w.state(l.Ref) != login.Authenticated || w.sessions() != 0 || w.tieOf("ann") != ann ||
		get[int](w, "SELECT count(*) FROM scanlogin.account WHERE name = 'bob' OR password = 'other'") != 0 {
		t.Error("something was done without its row")
	}
}

// What is refused changes nothing, so there is no row either.
func TestWhatChangesNothingIsNoRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	ann := w.account("ann")
	before := w.audited(all())
	l := w.show()
	if err := w.complete(l.Ref); err == nil {
		t.Error("completed before the scan")
	}
	w.timeOut(l.Ref)
	w.scan(l, "ann")
	w.ok(w.accounts.DeleteSession(t.Context(), newHash()))
	must(w.accounts.Unbind(t.Context(), ann))(t)
	must(w.accounts.Unfollowed(t.Context(), "nobody", true))(t)
	w.ok(w.bindNothing(ann))
	if diff := cmp.Diff(before, w.audited(all())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// bindNothing is a bind of a login that nobody has scanned.
func (w *world) bindNothing(account int64) error {
	if err := w.bind(w.show().Ref, account); errName(err) != "not_ready" {
		return fmt.Errorf("bound what nobody has scanned: %w", err)
	}
	return nil
}

func TestRefusalsAreWrittenWithoutWhatWasTyped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.db.Instance = "here"
	w.account("Ann")
	from := audit.Where{Addr: netip.MustParseAddr("::ffff:192.0.2.1"), Browser: "Firefox", Place: "上海"}
	w.ok(postgres.Audit{DB: w.db}.Write(t.Context(), []audit.Counted{
		{Event: audit.Event{Kind: audit.SignInFailed, Detail: "login", Account: "aNN", Where: from}, Times: 3},
		{Event: audit.Event{Kind: audit.SignInFailed, Detail: "login", Account: "a password in the wrong field", Where: from}, Times: 1},
		{Event: audit.Event{Kind: audit.Limited, Detail: "scans", Person: login.PersonOf(appID, "an openid")}, Times: 1},
	}))
	rows, _, err := w.log().Rows(t.Context(), all(), "")
	w.ok(err)
	rows = rows[1:] // the account
	for i := range rows {
		rows[i].At, rows[i].ID, rows[i].AccountID = time.Time{}, 0, min(rows[i].AccountID, 1)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	want := []audit.Row{
		{Kind: "sign_in_failed", Detail: "login", AccountID: 1, Account: "Ann", Address: addr, Browser: "Firefox", Place: "上海", Instance: "here", Times: 3},
		{Kind: "sign_in_failed", Detail: "login", Address: addr, Browser: "Firefox", Place: "上海", Instance: "here", Times: 1},
		{Kind: "limited", Detail: "scans", Person: get[string](w, "SELECT scanlogin.person($1, 'an openid')", appID), Instance: "here", Times: 1},
	}
	if diff := cmp.Diff(want, rows, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAuditFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.ok(w.db.AddWeChatAccount(t.Context(), appID))
	w.db.Instance = "one"
	ann := w.account("Ann")
	w.account("bob")
	w.tie("openid", ann)
	l := w.show()
	w.scan(l, "openid")
	w.db.Instance = "two"
	at := func(addr string) context.Context {
		return audit.With(t.Context(), audit.Where{Addr: netip.MustParseAddr(addr)})
	}
	w.ok(w.logins.Complete(at("2001:db8::7"), l.Ref, newSession(), long))
	must(w.accounts.Unbind(at("192.0.2.7"), ann))(t)
	w.exec("UPDATE scanlogin.audit SET at = at - interval '2 days' WHERE kind = 'signup'")
	for name, c := range map[string]struct {
		set  func(f *audit.Filter)
		want []string
	}{
		"all":        {func(*audit.Filter) {}, []string{"signup  Ann", "signup  bob", "scan logged_in Ann", "login scan Ann", "unbind  Ann"}},
		"account":    {func(f *audit.Filter) { f.Account = "BOB" }, []string{"signup  bob"}},
		"kind":       {func(f *audit.Filter) { f.Kind = audit.Login }, []string{"login scan Ann"}},
		"login":      {func(f *audit.Filter) { f.Login = l.ID.Short() }, []string{"scan logged_in Ann", "login scan Ann"}},
		"address":    {func(f *audit.Filter) { f.Network = netip.MustParsePrefix("2001:db8::7/128") }, []string{"login scan Ann"}},
		"network":    {func(f *audit.Filter) { f.Network = netip.MustParsePrefix("192.0.2.0/24") }, []string{"unbind  Ann"}},
		"instance":   {func(f *audit.Filter) { f.Instance = "two" }, []string{"login scan Ann", "unbind  Ann"}},
		"person":     {func(f *audit.Filter) { f.Person = login.PersonOf(appID, "openid") }, []string{"scan logged_in Ann", "login scan Ann", "unbind  Ann"}},
		"openid":     {func(f *audit.Filter) { f.OpenID = "openid" }, []string{"scan logged_in Ann", "login scan Ann", "unbind  Ann"}},
		"since":      {func(f *audit.Filter) { f.Since = time.Now().Add(-long) }, []string{"scan logged_in Ann", "login scan Ann", "unbind  Ann"}},
		"until":      {func(f *audit.Filter) { f.Until = time.Now().Add(-long) }, []string{"signup  Ann", "signup  bob"}},
		"the newest": {func(f *audit.Filter) { f.Most = 2 }, []string{"login scan Ann", "unbind  Ann"}},
		"both":       {func(f *audit.Filter) { f.Account, f.Kind = "bob", audit.Login }, nil},
	} {
		f := all()
		c.set(&f)
		if diff := cmp.Diff(c.want, w.audited(f)); diff != "" {
			t.Errorf("%s, -want +got:\n%s", name, diff)
		}
	}
}

// Transactions end in another order than they begin, and get their ids and times.
func TestWhoFollowsTheLogSeesEachRowOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	log := w.log()
	var seen audit.Moment
	next := func(want ...string) {
		t.Helper()
		rows, upto, err := log.Rows(t.Context(), all(), seen)
		w.ok(err)
		var got []string
		for _, r := range rows {
			got = append(got, r.Detail)
		}
		seen = upto
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	const insert = "INSERT INTO scanlogin.audit (kind, detail, instance) VALUES ('login', $1, 'test')"
	slow, err := w.admin.Begin(t.Context())
	w.ok(err)
	must(slow.Exec(t.Context(), insert, "slow"))(t)
	w.exec(insert, "first")
	next("first")
	idle, err := w.admin.Begin(t.Context()) // its time is of now, its number of then
	w.ok(err)
	must(idle.Exec(t.Context(), "SELECT 1"))(t)
	next()
	w.exec(insert, "second")
	next("second")
	must(idle.Exec(t.Context(), insert, "idle"))(t)
	next()
	w.ok(slow.Commit(t.Context()))
	next("slow")
	w.exec(insert, "third")
	w.ok(idle.Commit(t.Context()))
	next("idle", "third")
	gone, err := w.admin.Begin(t.Context())
	w.ok(err)
	must(gone.Exec(t.Context(), insert, "gone"))(t)
	next()
	w.ok(gone.Rollback(t.Context()))
	next()
}

// The log is read while logins write to it and months come and go.
func TestManyWritersAndOneWhoFollows(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 50
	w := newWorld(t, 1)
	log := w.log()
	rows, seen, err := log.Rows(t.Context(), all(), "")
	w.ok(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		atOnce(writers, func(i int) {
			for n := range each {
				tx, err := w.admin.Begin(t.Context())
				if err == nil {
					_, err = tx.Exec(t.Context(), "INSERT INTO scanlogin.audit (kind, detail, instance) SELECT 'login', $1, 'test' FROM generate_series(1, $2)", fmt.Sprint(i), 1+n%3)
				}
				if err == nil {
					err = tx.Commit(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}()
	count := map[int64]int{}
	for last := false; ; {
		for _, r := range rows {
			count[r.ID]++
		}
		if last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
		rows, seen, err = log.Rows(t.Context(), all(), seen)
		w.ok(err)
	}
	if n := get[int](w, "SELECT count(*) FROM scanlogin.audit"); n != len(count) || n < writers*each {
		t.Errorf("%d of %d rows were seen", len(count), n)
	}
	for id, n := range count {
		if n != 1 {
			t.Errorf("row %d was seen %d times", id, n)
		}
	}
}
