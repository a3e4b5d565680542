package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

// foreign is a user of the team's own, who has signed in.
func (w *world) foreign(id string) account.User {
	w.t.Helper()
	u, err := w.accounts.KeepForeign(w.t.Context(), account.Foreign{ID: id, Name: id})
	w.ok(err)
	return u
}

// members is a table of a team's own, with ids of this type, and the statements for it.
// The password is the name backwards.
func (w *world) members(idType string, ids ...string) postgres.UserStatements {
	w.t.Helper()
	w.exec("CREATE SCHEMA shop")
	w.exec("CREATE TABLE shop.members (uid " + idType + " PRIMARY KEY, login text NOT NULL, pw_changed int NOT NULL DEFAULT 1, blocked_at timestamptz)")
	// Also to write: it isn't for want of a right that nothing is written.
	w.exec("GRANT USAGE ON SCHEMA shop TO " + postgrestest.Service)
	w.exec("GRANT ALL ON shop.members TO " + postgrestest.Service)
	for i, id := range ids {
		w.exec("INSERT INTO shop.members (uid, login) VALUES ($1, $2)", id, []string{"ann", "bob"}[i])
	}
	return postgres.UserStatements{
		FindByName: "SELECT uid AS id, login AS name FROM shop.members WHERE lower(login) = lower($1)",
		Verify:     "SELECT $2 = reverse(login) FROM shop.members WHERE uid = $1",
		FindByID:   "SELECT uid AS id, login AS name, pw_changed AS version FROM shop.members WHERE uid = $1 AND blocked_at IS NULL;",
	}
}

func (w *world) users(s postgres.UserStatements) *postgres.Users { return w.usersAt(w.url, s) }

func (w *world) usersAt(url string, s postgres.UserStatements) *postgres.Users {
	w.t.Helper()
	u, err := postgres.OpenUsers(w.t.Context(), url, s, slog.New(slog.DiscardHandler))
	w.ok(err)
	w.t.Cleanup(u.Close)
	return u
}

func TestUsersOfAnyKeyByAnyRoute(t *testing.T) {
	t.Parallel()
	const a, b = "0190a5b0-7c3e-7000-8000-000000000001", "0190a5b0-7c3e-7000-8000-000000000002"
	for name, c := range map[string]struct{ idType, ann, bob string }{
		"bigint": {"bigint", "7", "9007199254740993"}, "uuid": {"uuid", a, b}, "text": {"text", "ann@shop", "07"},
		"varchar": {"varchar(20)", "x y", "名"}, "numeric": {"numeric", "1", "2.50"}, "a domain": {"shop_id", "1", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.exec("CREATE DOMAIN shop_id AS int CHECK (VALUE > 0)")
			statements := w.members(c.idType, c.ann, c.bob)
			for _, url := range []string{w.url, w.pooled(), w.url + "&default_query_exec_mode=simple_protocol"} {
				u := w.usersAt(url, statements)
				for name, id := range map[string]string{"ann": c.ann, "BOB": c.bob} {
					if got, err := u.IDOf(t.Context(), name); got != id || err != nil {
						t.Errorf("%s: %q, %v, want %s", name, got, err, id)
					}
					lower := strings.ToLower(name)
					if got, err := u.ByID(t.Context(), id); err != nil || got != (account.Foreign{ID: id, Name: lower, Version: "1"}) {
						t.Errorf("%s: %+v, %v", id, got, err)
					}
					for _, password := range []string{"nna", "bob", ""} {
						want := password == map[string]string{"ann": "nna", "bob": "bob"}[lower]
						if got, err := u.Check(t.Context(), id, password); got != want || err != nil {
							t.Errorf("the password %q of %s: %v, %v", password, name, got, err)
						}
					}
				}
				for _, nobody := range []string{"", "eve", "12345", b + "0", strings.Repeat("9", 50)} {
					if _, err := u.IDOf(t.Context(), nobody); !errors.Is(err, account.ErrNoUser) {
						t.Errorf("a name that nobody has: %v", err)
					}
					if f, err := u.ByID(t.Context(), nobody); err == nil {
						t.Errorf("an id that nobody has, or none at all: %+v", f)
					}
					if right, err := u.Check(t.Context(), nobody, "nna"); right || err != nil {
						t.Errorf("a password of nobody: %v, %v", right, err)
					}
				}
			}
		})
	}
}

// What somebody types is a value, whatever it looks like.
func TestALoginNameIsNoSQL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	statements := w.members("bigint", "1", "2")
	typed := []string{
		"ann' OR '1'='1", "ann'--", "' UNION SELECT 1, 'ann' --", `ann\'; DROP TABLE shop.members; --`, "'; DROP TABLE shop.members; --",
		"$1", "$2", "ann/*", `ann"`, `\`, `E'\''`, "%", "_nn", "ann; SELECT 1",
	}
	for _, url := range []string{w.url, w.pooled(), w.url + "&default_query_exec_mode=simple_protocol"} {
		u := w.usersAt(url, statements)
		for _, text := range typed {
			if id, err := u.IDOf(t.Context(), text); !errors.Is(err, account.ErrNoUser) {
				t.Errorf("by the name %s: %q, %v", text, id, err)
			}
			if right, err := u.Check(t.Context(), "1", text); right || err != nil {
				t.Errorf("by the password %s: %v, %v", text, right, err)
			}
			if f, err := u.ByID(t.Context(), text); err == nil {
				t.Errorf("by the id %s: %+v", text, f)
			}
		}
	}
	for i, text := range typed { // and where somebody is called that, they are found
		w.exec("INSERT INTO shop.members (uid, login) VALUES ($1, $2)", 100+i, text)
	}
	u := w.users(statements)
	for i, text := range typed {
		if id, err := u.IDOf(t.Context(), text); id != fmt.Sprint(100+i) || err != nil {
			t.Errorf("%s: %q, %v", text, id, err)
		}
	}
}

func TestStatementsAreCheckedAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	good := w.members("bigint", "1", "2")
	w.exec(`CREATE FUNCTION shop.write() RETURNS bigint LANGUAGE sql AS 'INSERT INTO shop.members (uid, login) VALUES (99, ''eve'') RETURNING uid'`)
	w.exec(`CREATE FUNCTION shop.strict(id bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF id IS NULL THEN RAISE 'no id'; END IF; RETURN 'x'; END $$`)
	byName := func(text string) postgres.UserStatements { s := good; s.FindByName = text; return s }
	verify := func(text string) postgres.UserStatements { s := good; s.Verify = text; return s }
	byID := func(text string) postgres.UserStatements { s := good; s.FindByID = text; return s }
	through := w.pooled()
	const from = " FROM shop.members WHERE uid = $1"
	for name, c := range map[string]struct {
		s    postgres.UserStatements
		want []string
	}{
		"all is well":              {good, nil},
		"against NULL":             {byID("SELECT uid AS id, shop.strict($1) AS name FROM shop.members WHERE uid = $1"), nil},
		"a syntax error":           {byName("SELEC uid"), []string{"ACCOUNTS_FIND_BY_NAME can't be used: syntax error at or near \"SELEC\""}},
		"two statements":           {byName(good.FindByName + "; SELECT 1"), []string{"ACCOUNTS_FIND_BY_NAME can't be used: cannot insert multiple commands"}},
		"no such table":            {verify("SELECT $2 = pw FROM shop.customers WHERE uid = $1"), []string{`ACCOUNTS_VERIFY can't be used: relation "shop.customers" does not exist`}},
		"no parameter":             {byID("SELECT uid AS id, login AS name FROM shop.members"), []string{"ACCOUNTS_FIND_BY_ID has 0 parameters, not 1"}},
		"a password that's unused": {verify("SELECT true" + from), []string{"ACCOUNTS_VERIFY has 1 parameters, not 2"}},
		"no id":                    {byName("SELECT uid, login AS name FROM shop.members WHERE login = $1"), []string{"ACCOUNTS_FIND_BY_NAME gives no column id"}},
		"no name":                  {byID("SELECT uid AS id" + from), []string{"ACCOUNTS_FIND_BY_ID gives no column name"}},
		"no boolean":               {verify("SELECT login" + from + " AND login = $2"), []string{"ACCOUNTS_VERIFY has to give one column, a boolean"}},
		"two columns":              {verify("SELECT true, $2 = login" + from), []string{"ACCOUNTS_VERIFY has to give one column, a boolean"}},
		"a time for a version":     {byID("SELECT uid AS id, login AS name, blocked_at AS version" + from), []string{"ACCOUNTS_FIND_BY_ID gives version as timestamptz: write version::text AS version"}},
		"bytes for a password":     {verify("SELECT $2 = login::bytea" + from), []string{"ACCOUNTS_VERIFY takes $2 as bytea: write $2::text"}},
		"an INSERT":                {byName("INSERT INTO shop.members (uid, login) VALUES (99, $1) RETURNING uid AS id"), []string{"ACCOUNTS_FIND_BY_NAME may only read: cannot execute INSERT in a read-only transaction"}},
		"an UPDATE":                {verify("UPDATE shop.members SET login = login WHERE uid = $1 RETURNING $2 = login"), []string{"ACCOUNTS_VERIFY may only read: cannot execute UPDATE"}},
		"a DELETE inside":          {byID("WITH gone AS (DELETE FROM shop.members RETURNING 1) SELECT uid AS id, login AS name" + from), []string{"ACCOUNTS_FIND_BY_ID may only read: cannot execute SELECT in a read-only"}},
		"a lock":                   {byID("SELECT uid AS id, login AS name" + from + " FOR UPDATE"), []string{"ACCOUNTS_FIND_BY_ID may only read: cannot execute SELECT FOR UPDATE"}},
		"a function that writes":   {byID("SELECT shop.write() AS id, $1::text AS name"), []string{"ACCOUNTS_FIND_BY_ID may only read: cannot execute INSERT"}},
		"out of the transaction":   {byID("COMMIT"), []string{"ACCOUNTS_FIND_BY_ID has 0 parameters"}},
		"all of it at once": {postgres.UserStatements{FindByName: "SELEC", Verify: "SELECT 1", FindByID: "SELECT $1::text AS id"}, []string{
			"ACCOUNTS_FIND_BY_NAME can't be used", "ACCOUNTS_VERIFY has 0 parameters", "ACCOUNTS_FIND_BY_ID gives no column name",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, url := range []string{w.url, through} {
				u, err := postgres.OpenUsers(t.Context(), url, c.s, slog.New(slog.DiscardHandler))
				if c.want == nil {
					if err != nil {
						t.Fatal(err)
					}
					u.Close()
					continue
				}
				lines := strings.Split(fmt.Sprint(err), "\n")
				if len(lines) != len(c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				for i, want := range c.want {
					if !strings.HasPrefix(lines[i], want) {
						t.Errorf("%s, want %s", lines[i], want)
					}
				}
			}
		})
	}
	if n := get[int](w, "SELECT count(*) FROM shop.members"); n != 2 {
		t.Errorf("%d members, there were 2", n)
	}
}

// Rights are looked at when a statement runs, which shall not be at somebody's login.
func TestRightsAreLookedAtAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	statements := w.members("uuid")
	role := fmt.Sprintf("reader_%x", newHash())[:20]
	w.exec("CREATE ROLE " + role + " LOGIN")
	w.exec("GRANT USAGE ON SCHEMA shop TO " + role)
	as := strings.ReplaceAll(w.url, "user=postgres", "user="+role)
	_, err := postgres.OpenUsers(t.Context(), as, statements, slog.New(slog.DiscardHandler))
	if n := strings.Count(fmt.Sprint(err), "can't be used: permission denied for table members"); n != 3 {
		t.Errorf("%d statements may not be run: %v", n, err)
	}
	w.exec("GRANT SELECT ON shop.members TO " + role)
	w.usersAt(as, statements)
	w.exec("DROP OWNED BY " + role)
	w.exec("DROP ROLE " + role)
}

// What writes only when somebody is there fails then, and has written nothing.
func TestNoStatementWritesLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.members("bigint", "1")
	w.exec(`CREATE FUNCTION shop.count(name text) RETURNS text LANGUAGE sql STRICT AS $$
		UPDATE shop.members SET pw_changed = pw_changed + 1 WHERE login = name RETURNING login $$`)
	w.exec(`CREATE FUNCTION shop.open() RETURNS text LANGUAGE sql AS $$ SELECT set_config('transaction_read_only', 'off', false) $$`)
	s.FindByID = "SELECT uid AS id, coalesce(shop.count(login), '') AS name FROM shop.members WHERE uid = $1"
	u := w.users(s)
	if _, err := u.ByID(t.Context(), "1"); err == nil || errors.Is(err, account.ErrNoUser) || !strings.Contains(err.Error(), "ACCOUNTS_FIND_BY_ID: cannot execute UPDATE in a read-only transaction") {
		t.Error(err)
	}
	s.FindByID = "SELECT uid AS id, shop.open() || coalesce(shop.count(login), '') AS name FROM shop.members WHERE uid = $1"
	if _, err := w.users(s).ByID(t.Context(), "1"); err == nil || errors.Is(err, account.ErrNoUser) {
		t.Errorf("a transaction that lets itself write: %v", err)
	}
	if n := get[int](w, "SELECT pw_changed FROM shop.members"); n != 1 {
		t.Error("it was written")
	}
}

func TestWhatIsWrongWithAnAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.members("text", "1", "2")
	w.exec(`INSERT INTO shop.members (uid, login) VALUES ('', 'no id'), (' 3', 'space'), (E'4\n', 'line'), (repeat('x', 256), 'long'), ('5', E' Eve\r\nX-Auth-User: root '), ('6', E'\n')`)
	u := w.users(s)
	for _, name := range []string{"no id", "space", "line", "long"} {
		if id, err := u.IDOf(t.Context(), name); err == nil || errors.Is(err, account.ErrNoUser) {
			t.Errorf("the id of %q is %q, %v", name, id, err)
		}
	}
	for id, want := range map[string]string{"5": "Eve  X-Auth-User: root", "6": "6"} {
		if f, err := u.ByID(t.Context(), id); err != nil || f.Name != want {
			t.Errorf("%q, %v, want %q", f.Name, err, want)
		}
	}
	s.FindByName = "SELECT uid AS id FROM shop.members WHERE login LIKE $1 || '%'"
	s.FindByID = "SELECT uid AS id, login AS name FROM shop.members WHERE uid > $1 ORDER BY uid LIMIT 1"
	s.Verify = "SELECT nullif($2 = reverse(login), true) FROM shop.members WHERE uid >= $1"
	u = w.users(s)
	if id, err := u.IDOf(t.Context(), ""); err == nil || errors.Is(err, account.ErrNoUser) {
		t.Errorf("of several users %q, %v", id, err)
	}
	if f, err := u.ByID(t.Context(), "1"); err == nil || errors.Is(err, account.ErrNoUser) {
		t.Errorf("another user: %+v, %v", f, err)
	}
	if right, err := u.Check(t.Context(), "1", "nna"); right || err == nil {
		t.Errorf("several answers: %v, %v", right, err)
	}
	if right, err := u.Check(t.Context(), "space", "ecaps"); right || err != nil {
		t.Errorf("no row: %v, %v", right, err)
	}
	s.Verify = "SELECT nullif($2 = reverse(login), true) FROM shop.members WHERE uid = $1"
	if right, err := w.users(s).Check(t.Context(), "1", "nna"); right || err != nil {
		t.Errorf("NULL: %v, %v", right, err)
	}
}

// A database's complaint may quote what it was given.
func TestNoErrorHoldsWhatWasTyped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.members("bigint", "1")
	const secret = "hunter2"
	w.exec(`CREATE FUNCTION shop.raise(password text) RETURNS boolean LANGUAGE plpgsql STRICT AS $$ BEGIN RAISE 'not %', password; END $$`)
	s.Verify = "SELECT shop.raise($2) FROM shop.members WHERE uid = $1"
	if _, err := w.users(s).Check(t.Context(), "1", secret); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "ACCOUNTS_VERIFY: SQLSTATE P0001") {
		t.Error(err)
	}
	s.Verify = "SELECT $2::int = 7 FROM shop.members WHERE uid = $1"
	var log strings.Builder
	u, err := postgres.OpenUsers(t.Context(), w.url, s, slog.New(slog.NewTextHandler(&log, nil)))
	w.ok(err)
	t.Cleanup(u.Close)
	if right, err := u.Check(t.Context(), "1", secret); right || err != nil {
		t.Errorf("a password that can't be one: %v, %v", right, err)
	}
	if got := log.String(); strings.Contains(got, secret) || !strings.Contains(got, "setting=ACCOUNTS_VERIFY sqlstate=22P02") {
		t.Errorf("log: %s", got)
	}
}

// One row that breaks a statement, which anybody may have put there by signing up, signs
// nobody out.
func TestABrokenRowIsNobodysEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.members("text", "1", "2")
	s.FindByID = "SELECT uid AS id, login AS name FROM shop.members WHERE uid::int = $1::int"
	u := w.users(s)
	must(u.ByID(t.Context(), "1"))(t)
	w.exec("INSERT INTO shop.members (uid, login) VALUES ('one', 'eve')")
	if _, err := u.ByID(t.Context(), "1"); err == nil || errors.Is(err, account.ErrNoUser) || !strings.Contains(err.Error(), "ACCOUNTS_FIND_BY_ID: SQLSTATE 22P02") {
		t.Error(err)
	}
}

func TestUsersThatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.members("bigint", "1")
	u := w.users(s)
	w.exec("ALTER TABLE shop.members RENAME TO customers")
	for range 2 {
		if _, err := u.IDOf(t.Context(), "ann"); err == nil || errors.Is(err, account.ErrNoUser) || !strings.Contains(err.Error(), `relation "shop.members" does not exist`) {
			t.Error(err)
		}
		if right, err := u.Check(t.Context(), "1", "nna"); right || err == nil {
			t.Errorf("%v, %v", right, err)
		}
	}
	// Another column, another type: nothing of the old shape is remembered.
	w.exec("ALTER TABLE shop.customers RENAME TO members")
	w.exec("ALTER TABLE shop.members ALTER uid TYPE text")
	if f, err := u.ByID(t.Context(), "1"); err != nil || f.Name != "ann" {
		t.Errorf("%+v, %v", f, err)
	}
	_, err := postgres.OpenUsers(t.Context(), "postgres://someone:secret-word@127.0.0.1:1/none", s, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "connecting by ACCOUNTS_URL") || strings.Contains(err.Error(), "secret-word") {
		t.Error(err)
	}
}

func TestAStatementHasItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.members("bigint", "1")
	s.FindByID = "SELECT uid AS id, current_setting('statement_timeout') || ' ' || current_setting('transaction_read_only') AS name FROM shop.members WHERE uid = $1"
	for _, url := range []string{w.url, w.pooled()} {
		if f, err := w.usersAt(url, s).ByID(t.Context(), "1"); err != nil || f.Name != "5s on" {
			t.Errorf("%+v, %v", f, err)
		}
	}
}

// Their names are not ours: they may be anybody's, change, and change hands.
func TestNamesOfForeignUsersCollideWithNobodys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ours, err := w.accounts.CreateUser(t.Context(), "ann", "hash")
	w.ok(err)
	keep := func(id, name string) account.User {
		t.Helper()
		u, err := w.accounts.KeepForeign(t.Context(), account.Foreign{ID: id, Name: name})
		w.ok(err)
		if u.ForeignID != id || u.Name != name {
			t.Errorf("%s, %s: kept %+v", id, name, u)
		}
		return u
	}
	one, other := keep("1", "ann"), keep("A1", "ANN")
	third := keep("a1", "Ann")
	hash := w.browser(one.ID)
	for range 2 {
		swapped, swappedToo := keep("1", "bob"), keep("A1", "ann")
		if swapped.ID != one.ID || swappedToo.ID != other.ID {
			t.Errorf("%d and %d became %d and %d", one.ID, other.ID, swapped.ID, swappedToo.ID)
		}
		if s, err := w.session(hash); err != nil || s.User.Name != "bob" || s.User.ForeignID != "1" || s.User.ID != one.ID {
			t.Errorf("%+v, %v", s.User, err)
		}
		keep("1", "ann")
	}
	ids := map[int64]bool{ours.ID: true, one.ID: true, other.ID: true, third.ID: true}
	if len(ids) != 4 {
		t.Errorf("4 users, of whom some are one: %v", ids)
	}
	// Of ours there is one ann still, and a bob can be made though one of theirs was called so.
	if u, _, err := w.accounts.UserByName(t.Context(), "ANN"); err != nil || u.ID != ours.ID {
		t.Errorf("%+v, %v", u, err)
	}
	w.account("bob")
	for name := range map[string]bool{"1": true, "A1": true, get[string](w, "SELECT trim(name) FROM scanlogin.account WHERE external_id = '1'"): true} {
		if u, _, err := w.accounts.UserByName(t.Context(), name); !errors.Is(err, account.ErrNoUser) {
			t.Errorf("by %q, %+v, %v", name, u, err)
		}
	}
	// No password fits, ours or an older version's: it isn't even a hash.
	if n := get[int](w, "SELECT count(*) FROM scanlogin.account WHERE external_id IS NOT NULL AND (password <> '!' OR name NOT LIKE ' %')"); n != 0 {
		t.Errorf("%d users of theirs could be found", n)
	}
	if u, err := w.accounts.ForeignUser(t.Context(), "a1"); err != nil || u.ID != third.ID || u.Name != "Ann" {
		t.Errorf("%+v, %v", u, err)
	}
	if id, err := w.accounts.ForeignID(t.Context(), third.ID); err != nil || id != "a1" {
		t.Errorf("%q, %v", id, err)
	}
	if _, err := w.accounts.ForeignID(t.Context(), ours.ID); !errors.Is(err, account.ErrNoUser) {
		t.Errorf("the foreign id of one of ours: %v", err)
	}
}

func TestOneForeignUserAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	some := func(want string) {
		t.Helper()
		if id, err := w.accounts.SomeForeignID(t.Context()); id != want || err != nil {
			t.Errorf("some user is %q, %v, want %q", id, err, want)
		}
	}
	w.account("ours")
	some("")
	ids := make([]int64, 16)
	atOnce(len(ids), func(i int) {
		u, err := w.accounts.KeepForeign(t.Context(), account.Foreign{ID: "1", Name: fmt.Sprint("name ", i%3)})
		if err != nil {
			t.Error(err)
		}
		ids[i] = u.ID
	})
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("one user is %v", ids)
		}
	}
	some("1")
}

// Another version is another password: what was proved before is worth nothing.
func TestAnotherVersionEndsTheSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	keep := func(version string) account.User {
		t.Helper()
		u, err := w.accounts.KeepForeign(t.Context(), account.Foreign{ID: "1", Name: "ann", Version: version})
		w.ok(err)
		return u
	}
	before := keep("a")
	old, others := w.browser(before.ID), w.browser(w.foreign("2").ID)
	keep("a")
	w.lives("of the same version", old, true)
	after := keep("b")
	w.lives("of the version before", old, false)
	w.lives("somebody else's", others, true)
	if err := w.accounts.CreateSession(t.Context(), before, account.NewSession{Hash: newHash()}, long); !errors.Is(err, account.ErrCredentials) {
		t.Errorf("who has proved the version before: %v", err)
	}
	l := w.show()
	w.scan(l, "new")
	if err := w.logins.Bind(t.Context(), l.Ref, login.Owner{ID: before.ID, PasswordChanges: before.PasswordChanges}, newSession(), long); !errors.Is(err, account.ErrCredentials) {
		t.Errorf("bound by the version before: %v", err)
	}
	hash := newHash()
	w.ok(w.accounts.CreateSession(t.Context(), after, account.NewSession{Hash: hash}, long))
	if s, err := w.session(hash); err != nil || s.User != after {
		t.Errorf("%+v, %v, want %+v", s.User, err, after)
	}
	w.ok(w.accounts.EndSessions(t.Context(), after.ID, "account_gone"))
	w.lives("of who is gone", hash, false)
	w.lives("somebody else's", others, true)
}

// Instances that look users up and instances that keep them, side by side: no tie of the
// one kind logs anybody in at the other.
func TestTiesOfBothKindsAreKeptApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9)
	ours := w.account("ann")
	w.tie("ann", ours)
	theirs := w.foreign("1")
	foreign := postgres.Logins{DB: w.db, AppID: postgres.ForeignTies(appID)}
	scan := func(at postgres.Logins, want login.Outcome) login.Ref {
		t.Helper()
		l := w.show()
		if o, _, err := at.Scan(t.Context(), scanOf(l, "ann"), long); err != nil || o != want {
			t.Errorf("scanned: %v, %v, want %v", o, err, want)
		}
		return l.Ref
	}
	complete := func(at postgres.Logins, ref login.Ref, want error) {
		t.Helper()
		if err := at.Complete(t.Context(), ref, newSession(), long); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("completed: %v, want %v", err, want)
		}
	}
	first := scan(foreign, login.MustBind)
	w.ok(foreign.Bind(t.Context(), first, login.Owner{ID: theirs.ID}, newSession(), long))
	if ref := scan(foreign, login.LoggedIn); true {
		if id, err := foreign.AccountOf(t.Context(), ref); err != nil || id != theirs.ID {
			t.Errorf("whose login that is: %d, %v", id, err)
		}
		complete(w.logins, ref, login.ErrEnded)
		complete(foreign, ref, nil)
		if id, err := foreign.AccountOf(t.Context(), ref); err != nil || id != 0 {
			t.Errorf("whose login that was: %d, %v", id, err)
		}
	}
	ref := scan(w.logins, login.LoggedIn)
	complete(foreign, ref, login.ErrEnded)
	complete(w.logins, ref, nil)
	// Who unfollows is signed out and unbound where they are tied now.
	accounts := postgres.Accounts{DB: w.db, AppID: postgres.ForeignTies(appID)}
	if n, err := accounts.Unfollowed(t.Context(), "ann", true); n != 2 || err != nil {
		t.Errorf("%d sessions ended, %v", n, err)
	}
	scan(foreign, login.MustBind)
	scan(w.logins, login.LoggedIn)
}

// The accounts of a version that knows nothing of other people's.
func TestTheVersionBeforeFindsNoForeignUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.foreign("1")
	for _, version := range olderSchemas(t) {
		for _, s := range statementsOf(t, version) {
			if s.name != "AccountByName" {
				continue
			}
			for _, name := range []string{"1", "", get[string](w, "SELECT trim(name) FROM scanlogin.account WHERE external_id = '1'")} {
				rows, err := w.admin.Query(t.Context(), s.text, name)
				w.ok(err)
				if rows.Next() {
					t.Errorf("version %d finds somebody by %q", version, name)
				}
				rows.Close()
			}
		}
	}
}

// A users' database of its own that isn't ours.
func TestUsersInAnotherDatabase(t *testing.T) {
	t.Parallel()
	theirs := postgrestest.NewDatabase(t)
	admin := must(pgxpool.New(t.Context(), theirs))(t)
	t.Cleanup(admin.Close)
	there := &world{t: t, url: theirs, admin: admin}
	statements := there.members("bigint", "1")
	w := newWorld(t, 1)
	service := &account.Service{Store: w.accounts, SessionTTL: long, SessionIdle: long, Users: w.usersAt(theirs, statements)}
	ann, err := service.Verify(t.Context(), "Ann", "nna")
	if err != nil || ann.ForeignID != "1" || ann.Name != "ann" {
		t.Errorf("%+v, %v", ann, err)
	}
	if _, err := service.Verify(t.Context(), "Ann", "ann"); !errors.Is(err, account.ErrCredentials) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := service.Verify(ctx, "Ann", "nna"); !errors.Is(err, account.ErrUnanswered) {
		t.Errorf("without the time to ask: %v", err)
	}
}
