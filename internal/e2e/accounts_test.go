package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"scanlogin/internal/postgres/postgrestest"
)

// accountsDoc is docs/accounts.md: what it tells people to run, by language.
func accountsDoc(t testing.TB) (statements []string, env settings) {
	t.Helper()
	text, err := os.ReadFile("../../docs/accounts.md")
	if err != nil {
		t.Fatal(err)
	}
	env = settings{}
	for _, block := range regexp.MustCompile("(?s)```(sql|sh)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if block[1] == "sql" {
			statements = append(statements, block[2])
			continue
		}
		// A shell reads them, as one would that starts scanlogin.
		cmd := exec.Command("sh", "-c", "set -a\n"+block[2]+"\nenv -0")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", block[2], err)
		}
		for line := range strings.SplitSeq(string(out), "\x00") {
			if name, value, _ := strings.Cut(line, "="); strings.HasPrefix(name, "ACCOUNTS") {
				env[name] = value
			}
		}
	}
	if len(statements) != 4 || len(env) != 5 {
		t.Fatalf("the document has %d blocks of SQL and the settings %v", len(statements), env)
	}
	return statements, env
}

// shop is a database with the document's table, and the settings that the document gives.
func shop(t *testing.T) (database string, block string, env settings) {
	t.Helper()
	statements, env := accountsDoc(t)
	database = postgrestest.NewDatabase(t)
	run := func(statement string) {
		if _, err := sqlAt(t, database).Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	t.Cleanup(func() {
		if _, err := sqlAt(t, database).Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY accounts_reader; DROP ROLE accounts_reader"); err != nil {
			t.Error(err)
		}
	})
	run(statements[0])
	run(statements[1])
	run(statements[3])
	// The same role and database, where the test's server is.
	at, err := url.Parse(env["ACCOUNTS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	query := strings.NewReplacer("user=postgres", "user="+at.User.Username())
	env["ACCOUNTS_URL"] = query.Replace(database)
	return database, statements[2], env
}

func sqlAt(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// TestUsersOfYourOwn runs docs/accounts.md: the shop's members sign in at scanlogin.
func TestUsersOfYourOwn(t *testing.T) {
	t.Parallel()
	database, block, env := shop(t)
	w := newWorld(t, options{settings: env})
	s := story{T: t, world: w}
	members := sqlAt(t, database)
	one := func(query string) (text string) {
		t.Helper()
		if err := members.QueryRow(t.Context(), query).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	const alicesPassword, bobsPassword = "the password of alice", "the password of bob"
	w.keep(alicesPassword, bobsPassword, one("SELECT pw_hash FROM shop.members WHERE login = 'Alice'"))
	alice := one("SELECT uid::text FROM shop.members WHERE login = 'Alice'")
	bob := one("SELECT uid::text FROM shop.members WHERE login = 'bob'")
	is := func(what string, b *browser, i *instance, name, id string) {
		t.Helper()
		a := b.get(i, "/auth/verify").want(t, http.StatusOK)
		if a.header.Get("X-Auth-User") != name || a.header.Get("X-Auth-User-Id") != id {
			t.Errorf("%s: %s, %s", what, a.header.Get("X-Auth-User"), a.header.Get("X-Auth-User-Id"))
		}
	}
	signIn := func(i *instance, name, password string, status int) *browser {
		t.Helper()
		b := newBrowser(t, w)
		b.post(i, "/login", form("username", name, "password", password)).want(t, status)
		return b
	}

	// By password, typed as people type.
	byPassword := signIn(w.a, " aLICE ", alicesPassword, http.StatusSeeOther)
	is("by password", byPassword, w.b, "Alice", alice)

	// A wrong password and an unknown name look alike, and so does SQL.
	var refused []string
	for _, typed := range [][2]string{{"alice", "not it, surely"}, {"nobody", alicesPassword}, {"alice' OR '1'='1", alicesPassword}, {"'; DROP TABLE shop.members; --", "x"}} {
		b := newBrowser(t, w)
		a := b.post(w.b, "/login", form("username", typed[0], "password", typed[1]), "Accept", "application/json").want(t, http.StatusUnauthorized)
		if len(a.set) > 0 {
			t.Errorf("%s is given %v", typed[0], a.set)
		}
		refused = append(refused, a.body)
	}
	for _, body := range refused {
		if body != refused[0] {
			t.Errorf("%s, and %s", refused[0], body)
		}
	}

	// By scan, which is bound once; and then at the other instance.
	who := w.person(true)
	b := newBrowser(t, w)
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("bind-required")
	for _, wrong := range [][2]string{{"alice", "not it, surely"}, {"nobody", alicesPassword}} {
		a := b.post(w.b, "/user/bind", form("username", wrong[0], "password", wrong[1])).want(t, http.StatusForbidden)
		if a.json(t, "error") != "invalid_credentials" {
			t.Error(a.body)
		}
	}
	b.post(w.b, "/user/bind", form("username", "alice", "password", alicesPassword)).want(t, http.StatusOK)
	is("bound", b, w.a, "Alice", alice)
	scanned := newBrowser(t, w)
	stream = scanned.events(w.b)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
	scanned.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
	is("scanned", scanned, w.b, "Alice", alice)
	if page := scanned.get(w.a, "/user", "Accept", "text/html").want(t, http.StatusOK).body; !strings.Contains(page, "Alice") || strings.Contains(page, `id="password"`) {
		t.Error("the user centre lacks Alice, or offers to change a password")
	}

	// What is made elsewhere isn't made here.
	scanned.post(w.a, "/user/password", form("current", alicesPassword, "password", "another long password")).want(t, http.StatusNotFound)
	scanned.post(w.a, "/user/signup", form("username", "carol", "password", "another long password")).want(t, http.StatusNotFound)
	for _, what := range []string{"add", "passwd"} {
		if r := w.command(t, "another long password\n", "user", what, "alice"); r.code != 1 || !oneLine(r.stderr) || !strings.Contains(r.stderr, "ACCOUNTS=sql") {
			t.Errorf("user %s: %+v", what, r)
		}
	}

	w.minutePasses()
	is("a minute later", scanned, w.a, "Alice", alice)

	// Names change and are swapped; people stay who they are.
	bobs := signIn(w.a, "bob", bobsPassword, http.StatusSeeOther)
	one("UPDATE shop.members SET login = 'tmp' WHERE login = 'bob' RETURNING login")
	one("UPDATE shop.members SET login = 'BOB' WHERE login = 'Alice' RETURNING login")
	one("UPDATE shop.members SET login = 'alice' WHERE login = 'tmp' RETURNING login")
	is("bob under alice's name", signIn(w.b, "alice", bobsPassword, http.StatusSeeOther), w.a, "alice", bob)
	is("alice under bob's name", signIn(w.b, "bob", alicesPassword, http.StatusSeeOther), w.a, "BOB", alice)
	w.minutePasses()
	is("bob's session", bobs, w.b, "alice", bob)
	is("alice's session", scanned, w.b, "BOB", alice)
	signIn(w.a, "alice", alicesPassword, http.StatusUnauthorized)
	one("UPDATE shop.members SET login = 'tmp' WHERE login = 'BOB' RETURNING login")
	one("UPDATE shop.members SET login = 'bob' WHERE login = 'alice' RETURNING login")
	one("UPDATE shop.members SET login = 'Alice' WHERE login = 'tmp' RETURNING login")

	list := w.command(t, "", "user", "list")
	if list.code != 0 || !regexp.MustCompile(alice+` +\S+ +1 `).MatchString(list.stdout) || !regexp.MustCompile(bob+` +\S+ +0 `).MatchString(list.stdout) {
		t.Errorf("list: %+v", list)
	}

	// Another password ends the sessions of the one before.
	const next = "the next password of bob"
	w.keep(next)
	one(fmt.Sprintf("UPDATE shop.members SET pw_hash = crypt('%s', gen_salt('bf', 8)) WHERE login = 'bob' RETURNING login", next))
	w.minutePasses()
	bobs.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)
	s.in("of the password before", bobs, false)
	signIn(w.a, "bob", bobsPassword, http.StatusUnauthorized)
	bobs = signIn(w.b, "bob", next, http.StatusSeeOther)

	// Whoever is blocked is out, and can't come back.
	pending := newBrowser(t, w)
	stream = pending.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
	if _, err := members.Exec(t.Context(), block); err != nil {
		t.Fatal(err)
	}
	if a := pending.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusForbidden); a.json(t, "error") != "account_gone" || a.set[sessionCookie] != nil {
		t.Errorf("%s, cookies %v", a.body, a.set)
	}
	if pending.cookie(loginCookie) != "" {
		t.Error("the browser keeps a login that can't be completed")
	}
	s.in("of a blocked member who has tried to come back", scanned, false)
	s.in("of a blocked member who has tried to come back", byPassword, false)
	signIn(w.a, "alice", alicesPassword, http.StatusUnauthorized)
	is("another member", bobs, w.b, "bob", bob)
	if r := w.command(t, "", "user", "unbind", alice); r.code != 0 || !strings.Contains(r.stdout, "removed 1 ") {
		t.Errorf("unbind: %+v", r)
	}
}

// minutePasses makes sessions look as if nobody had seen them for two minutes: the next
// request of each asks about its user.
func (w *world) minutePasses() {
	w.t.Helper()
	w.sql("UPDATE scanlogin.web_session SET seen_at = now() - interval '2 minutes'")
}

// A users' database that is away keeps people from signing in, and nobody who is signed in
// from going on.
func TestUsersDatabaseAway(t *testing.T) {
	t.Parallel()
	statements, env := accountsDoc(t)
	theirs := postgrestest.NewServer(t, nil)
	if _, err := sqlAt(t, theirs.URL("postgres")).Exec(t.Context(), statements[0]+statements[1]); err != nil {
		t.Fatal(err)
	}
	env["ACCOUNTS_URL"] = strings.ReplaceAll(theirs.URL("postgres"), "user=postgres", "user=accounts_reader")
	w := newWorld(t, options{settings: env})
	const alices = "the password of alice"
	who, b := w.person(true), newBrowser(t, w)
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("bind-required")
	b.post(w.a, "/user/bind", form("username", "alice", "password", alices)).want(t, http.StatusOK)
	scanned, unbound := newBrowser(t, w), newBrowser(t, w)
	stream = scanned.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
	stream = unbound.events(w.a)
	w.scan(t, w.person(true), stream.code().Ticket)
	stream.expect("bind-required")

	theirs.Kill()
	for _, i := range []*instance{w.a, w.b} {
		a := newBrowser(t, w).post(i, "/login", form("username", "alice", "password", alices), "Accept", "application/json").want(t, http.StatusServiceUnavailable)
		if a.json(t, "error") != "unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s, %v", a.body, a.header)
		}
		unbound.post(i, "/user/bind", form("username", "alice", "password", alices)).want(t, http.StatusServiceUnavailable)
		scanned.post(i, "/login/complete", jsonBody()).want(t, http.StatusServiceUnavailable)
	}
	w.minutePasses()
	b.get(w.b, "/auth/verify").want(t, http.StatusOK)
	eventually(t, "the log says that nobody could be asked", func() bool {
		return strings.Contains(w.b.log.String(), "a session goes on whose user could not be looked up")
	})
	postgrestest.Restart(t, theirs)
	// Nothing is lost: what waited goes on.
	eventually(t, "the scan is completed", func() bool {
		return scanned.post(w.b, "/login/complete", jsonBody()).status == http.StatusOK
	})
	unbound.post(w.a, "/user/bind", form("username", "bob", "password", "the password of bob")).want(t, http.StatusOK)
	w.minutePasses()
	b.get(w.a, "/auth/verify").want(t, http.StatusOK)

	// Gone without a try to come back: every session of theirs ends with the next look at one.
	other := newBrowser(t, w)
	other.post(w.b, "/login", form("username", "alice", "password", alices)).want(t, http.StatusSeeOther)
	if _, err := sqlAt(t, theirs.URL("postgres")).Exec(t.Context(), "DELETE FROM shop.members WHERE login = 'Alice'"); err != nil {
		t.Fatal(err)
	}
	w.minutePasses()
	b.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)
	story{T: t, world: w}.in("of a member who is gone", b, false)
	story{T: t, world: w}.in("of a member who is gone", other, false)
}

// goneInABrowser scans as somebody who was blocked: the page says so, and has a new code.
func goneInABrowser(t *testing.T, in window) {
	theirs := postgrestest.NewDatabase(t)
	members := sqlAt(t, theirs)
	for _, statement := range []string{"CREATE TABLE members (id int PRIMARY KEY, name text)", "INSERT INTO members VALUES (7, 'alice')"} {
		if _, err := members.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, options{settings: settings{
		"ACCOUNTS": "sql", "ACCOUNTS_URL": theirs,
		"ACCOUNTS_FIND_BY_NAME": "SELECT id FROM members WHERE name = $1",
		"ACCOUNTS_VERIFY":       "SELECT $2 = '" + password + "' FROM members WHERE id = $1",
		"ACCOUNTS_FIND_BY_ID":   "SELECT id, name FROM members WHERE id = $1",
	}})
	in.width = 360
	who := w.person(true)
	page := in.open(t, w.front.url("/login"))
	w.scan(t, who, page.ticket())
	page.awaitState("bind")
	page.fill("#bind-username", "alice")
	page.fill("#bind-password", password)
	page.key(kb.Enter)
	page.awaitPath("/user")
	page.awaitText("#account-name", "alice")
	page.await(`!document.getElementById('password')`)
	page.awaitFit("the user centre without a form for another password")
	page.press("#logout button")
	page.awaitPath("/login")
	page.awaitState("waiting")
	before := page.ticket()
	if _, err := members.Exec(t.Context(), "DELETE FROM members"); err != nil {
		t.Fatal(err)
	}
	page.expectError(http.StatusForbidden)
	w.scan(t, who, before)
	page.awaitState("refused")
	page.awaitText("#refused", "no longer active")
	page.awaitFit("the word that the account is gone")
	page.press("#renew")
	page.awaitState("waiting")
	if page.ticket() == before {
		t.Error("the new code is the old one")
	}
}

// What is wrong with the statements is told at start, all of it.
func TestBadStatementsAreToldAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	env := settings{
		"ADDR": w.a.addr, "OPS_ADDR": w.a.ops, "ACCOUNTS": "sql",
		"ACCOUNTS_FIND_BY_NAME": "SELECT uid FROM shop.members WHERE login = $1",
		"ACCOUNTS_VERIFY":       "UPDATE scanlogin.account SET name = $2 WHERE id = $1 RETURNING true",
		"ACCOUNTS_FIND_BY_ID":   "SELECT id, created_at AS name FROM scanlogin.account WHERE id = $1",
	}
	maps.Copy(env, w.settings)
	r := run(t, env, "", "serve")
	for _, want := range []string{
		`ACCOUNTS_FIND_BY_NAME can't be used: relation "shop.members" does not exist`,
		"ACCOUNTS_VERIFY may only read: cannot execute UPDATE in a read-only transaction",
		"ACCOUNTS_FIND_BY_ID gives name as timestamptz: write name::text AS name",
	} {
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("exit %d, want %q: %s", r.code, want, r.stderr)
		}
	}
}
