package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/internal/wechatsim"
)

// logged is what `scanlogin audit` shows the owner with these flags.
func (w *world) logged(t testing.TB, flags ...string) (rows []audit.Row) {
	t.Helper()
	r := run(t, w.owned(), "", append([]string{"audit", "--json"}, flags...)...)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("audit %q: exit %d: %s", flags, r.code, r.stderr)
	}
	for line := range strings.Lines(r.stdout) {
		rows = append(rows, readRow(t, line))
	}
	return rows
}

func readRow(t testing.TB, line string) (r audit.Row) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return r
}

// follower is a `scanlogin audit --follow` that runs.
type follower struct {
	t      testing.TB
	lines  chan string
	seen   []int64
	outage bool // it may complain of one
}

func (w *world) follow(t testing.TB) *follower {
	t.Helper()
	cmd := exec.Command(binary, "audit", "--follow", "--json", "--since", "1h")
	cmd.Env, cmd.SysProcAttr = w.owned().environ(), dieWithParent()
	var complaints output
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, lines: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.read(out)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
		if err := cmd.Wait(); err != nil || complaints.String() != "" && !f.outage {
			t.Errorf("audit --follow ended with %v: %s", err, complaints.String())
		}
	})
	return f
}

func (f *follower) read(from io.Reader) {
	defer close(f.lines)
	for s := bufio.NewScanner(from); s.Scan(); {
		f.lines <- s.Text()
	}
}

func (f *follower) next() audit.Row {
	f.t.Helper()
	select {
	case line := <-f.lines:
		r := readRow(f.t, line)
		f.seen = append(f.seen, r.ID)
		return r
	case <-time.After(2 * patience):
		f.t.Fatal("no row in time")
	}
	return audit.Row{}
}

// brief is a row without what differs from run to run.
func brief(r audit.Row) string {
	from := "-"
	if r.Address.IsValid() {
		from = r.Address.String()
	}
	about := "nobody"
	if r.Account != "" {
		about = r.Account
	}
	text := fmt.Sprintf("%s %s: %s from %s", r.Kind, r.Detail, about, from)
	if r.Person != "" {
		text += " by WeChat"
	}
	if r.Login != "" {
		text += " in a login"
	}
	if r.Times != 1 {
		text += fmt.Sprintf(" x%d", r.Times)
	}
	return strings.Replace(text, " :", ":", 1) + " at " + r.Instance
}

// expect takes as many rows as are wanted. Those of one moment have no order, and what was
// refused comes a little later.
func (f *follower) expect(want ...string) (rows []audit.Row) {
	f.t.Helper()
	var got []string
	for range want {
		r := f.next()
		rows, got = append(rows, r), append(got, brief(r))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Fatalf("-want +got:\n%s", diff)
	}
	return rows
}

// auditWorld is one whose scans come to B, and whose browsers say where they are.
func auditWorld(t *testing.T, own settings) (*world, *follower) {
	t.Helper()
	s := settings{"TRUSTED_PROXIES": "127.0.0.1", "PLACE_HEADER": "X-City", "SIGNUP": "on", "INSTANCE": "shell"}
	maps.Copy(s, own)
	w := newWorld(t, options{settings: s, pushTo: []int{1}, stopped: true})
	delete(w.settings, "INSTANCE") // of the instances, which have names of their own
	for _, i := range []*instance{w.a, w.b} {
		i.start()
		i.awaitReady()
	}
	w.settings["INSTANCE"] = "shell" // of the commands
	return w, w.follow(t)
}

// home is a browser at the first of these addresses.
func home(t testing.TB, w *world) *browser {
	b := at(t, w, "203.0.113.7")
	b.header.Set("User-Agent", firefox)
	b.header.Set("X-City", "Kunming")
	return b
}

func TestEveryDeedIsInTheAuditLog(t *testing.T) {
	t.Parallel()
	w, log := auditWorld(t, settings{"RATE_LIMITS": "on", "LIMIT_TABS": "1"})
	const newPassword = "another horse battery"
	w.keep(newPassword)
	w.account(t, "alice")
	if r := log.expect("signup: alice from - at shell")[0]; !strings.HasPrefix(r.Browser, "scanlogin user, run by ") {
		t.Errorf("by %q", r.Browser)
	}
	who := w.person(true)

	b := home(t, w)
	stream := b.events(w.a)
	code := stream.code()
	w.scan(t, who, code.Ticket)
	stream.expect("bind-required")
	scan := log.expect("scan must_bind: nobody from - by WeChat in a login at B")[0]
	if scan.Place != "Kunming" || scan.Person != login.PersonOf(appID, who.OpenID) {
		t.Errorf("%+v", scan)
	}
	b.post(w.a, "/user/bind", form("username", "alice", "password", "wrong password")).want(t, http.StatusForbidden)
	log.expect("sign_in_failed bind: alice from 203.0.113.7 at A")
	b.post(w.a, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusOK)
	for _, r := range log.expect(
		"bind: alice from 203.0.113.7 by WeChat in a login at A",
		"login bind: alice from 203.0.113.7 by WeChat in a login at A") {
		if r.Login != scan.Login || r.Person != scan.Person || r.Browser != firefox || r.Place != "Kunming" || r.AccountID == 0 {
			t.Errorf("%+v", r)
		}
	}

	// The same login seen by who is too late.
	w.scan(t, w.person(true), code.Ticket)
	log.expect("scan used: nobody from - by WeChat at B")
	w.push(newBrowser(t, w), w.b, w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), "another ticket")).want(t, http.StatusOK)
	log.expect("scan stale: nobody from - by WeChat at B")

	stream = b.events(w.a) // from now on with a session
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	log.expect("scan logged_in: alice from - by WeChat in a login at B", "login scan: alice from 203.0.113.7 by WeChat in a login at B")

	desk := at(t, w, "2001:db8::7")
	desk.signIn(w.b, "alice", "wrong password").want(t, http.StatusUnauthorized)
	desk.signIn(w.b, "correct horse battery staple", "alice").want(t, http.StatusUnauthorized) // in the wrong fields
	desk.signIn(w.b, "alice", password).want(t, http.StatusSeeOther)
	log.expect("sign_in_failed login: alice from 2001:db8::7 at B", "sign_in_failed login: nobody from 2001:db8::7 at B",
		"login password: alice from 2001:db8::7 at B")

	desk.post(w.a, "/user/password", form("current", "wrong password", "password", newPassword)).want(t, http.StatusForbidden)
	log.expect("sign_in_failed password: alice from 2001:db8::7 at A")
	desk.post(w.a, "/user/password", form("current", password, "password", newPassword)).want(t, http.StatusSeeOther)
	log.expect("password_changed: alice from 2001:db8::7 at A", "revoke password_changed: alice from 2001:db8::7 at A")

	for range 3 {
		home(t, w).signIn(w.a, "alice", newPassword).want(t, http.StatusSeeOther)
		log.expect("login password: alice from 203.0.113.7 at A")
	}
	desk.post(w.b, "/user/sessions/revoke", form("id", otherSession(desk, w.a))).want(t, http.StatusSeeOther)
	log.expect("revoke: alice from 2001:db8::7 at B")
	desk.post(w.b, "/user/sessions/revoke", form("others", "true")).want(t, http.StatusSeeOther)
	log.expect("revoke others: alice from 2001:db8::7 x2 at B")
	desk.post(w.b, "/user/sessions/revoke", form("others", "true")).want(t, http.StatusSeeOther) // there are none
	desk.post(w.a, "/user/unbind", form()).want(t, http.StatusSeeOther)
	if r := log.expect("unbind: alice from 2001:db8::7 by WeChat at A")[0]; r.Person != scan.Person {
		t.Errorf("%+v", r)
	}
	desk.post(w.b, "/logout", form()).want(t, http.StatusSeeOther)
	log.expect("logout: alice from 2001:db8::7 at B")

	carol := signedUp(t, w, log)
	for _, r := range log.unfollowed(w, carol) {
		if r.Person != login.PersonOf(appID, carol.OpenID) {
			t.Errorf("%+v", r)
		}
	}

	w.tie(t, who, "alice")
	desk.signIn(w.a, "alice", newPassword).want(t, http.StatusSeeOther)
	log.expect("login password: alice from 2001:db8::7 at A")
	if r := w.command(t, password+"\n", "user", "passwd", "alice"); r.code != 0 {
		t.Errorf("user passwd: %+v", r)
	}
	log.expect("password_changed: alice from - at shell", "revoke password_changed: alice from - at shell")
	if r := w.command(t, "", "user", "unbind", "alice"); r.code != 0 {
		t.Errorf("user unbind: %+v", r)
	}
	log.expect("unbind: alice from - by WeChat at shell")

	forged := signed(time.Now())
	forged.Set("signature", strings.Repeat("0", 40))
	w.pushWith(desk, w.a, forged, w.pushXML(who.OpenID, "SCAN", "1", code.Ticket)).want(t, http.StatusForbidden)
	log.expect("forged bad_signature: nobody from 2001:db8::7 at A")
	desk.events(w.b).code()
	desk.events(w.b).rateLimited()
	log.expect("limited tabs: nobody from 2001:db8::7 at B")

	log.isWhole(w)
	w.auditIsHarmless(t)
}

// otherSession is the ID of one that isn't this browser's.
func otherSession(b *browser, i *instance) string {
	b.t.Helper()
	var list struct {
		Sessions []struct {
			ID      string `json:"id"`
			Current bool   `json:"current"`
		} `json:"sessions"`
	}
	a := b.get(i, "/user/sessions", "Accept", "application/json").want(b.t, http.StatusOK)
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		b.t.Fatal(err)
	}
	for _, s := range list.Sessions {
		if !s.Current {
			return s.ID
		}
	}
	b.t.Fatal("no other session")
	return ""
}

// signedUp is somebody who makes an account of their own by a scan.
func signedUp(t *testing.T, w *world, log *follower) wechatsim.User {
	t.Helper()
	who := w.person(true)
	b := home(t, w)
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("bind-required")
	b.post(w.b, "/user/signup", form("username", "carol", "password", password)).want(t, http.StatusOK)
	log.expect("scan must_bind: nobody from - by WeChat in a login at B",
		"signup: carol from 203.0.113.7 at B",
		"bind: carol from 203.0.113.7 by WeChat in a login at B",
		"login bind: carol from 203.0.113.7 by WeChat in a login at B")
	return who
}

func (f *follower) unfollowed(w *world, who wechatsim.User) []audit.Row {
	f.t.Helper()
	if d, err := w.sim.Unsubscribe(f.t.Context(), who.OpenID); err != nil || d.Failed {
		f.t.Errorf("unsubscribe: %+v, %v", d, err)
	}
	return f.expect("unfollow: carol from - by WeChat at B", "revoke unfollow: carol from - by WeChat at B",
		"unbind unfollow: carol from - by WeChat at B")
}

// isWhole checks that whoever followed has seen each row, once.
func (f *follower) isWhole(w *world) {
	f.t.Helper()
	var all []int64
	for _, r := range w.logged(f.t) {
		all = append(all, r.ID)
	}
	slices.Sort(all)
	slices.Sort(f.seen)
	if diff := cmp.Diff(all, f.seen); diff != "" {
		f.t.Errorf("rows by their ids, -all +seen:\n%s", diff)
	}
}

// auditIsHarmless checks that the log holds nothing that opens anything, and no openid.
func (w *world) auditIsHarmless(t *testing.T) {
	t.Helper()
	var all string
	w.connected(func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), "SELECT string_agg(a::text, chr(10)) FROM scanlogin.audit a").Scan(&all)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.secrets {
		if strings.Contains(all, s) {
			t.Errorf("the audit log holds a secret, a ticket or an openid: %q", s)
		}
	}
	if strings.Contains(all, "horse") {
		t.Error("the audit log holds a password that was typed into the wrong field")
	}
}

func TestConfirmsAreInTheAuditLog(t *testing.T) {
	t.Parallel()
	w, log := auditWorld(t, settings{"CONFIRM": "reply"})
	w.account(t, "alice")
	who := w.person(true)
	w.tie(t, who, "alice")
	log.expect("signup: alice from - at shell")
	const asked = "scan to_confirm: nobody from - by WeChat in a login at B"

	b := home(t, w)
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	number := stream.number()
	scan := log.expect(asked)[0]
	if scan.Browser != "Firefox, Linux" || scan.Place != "Kunming" {
		t.Errorf("%+v", scan)
	}
	w.phoneSays(t, who, another(number), "isn't the number")
	log.expect("wrong_confirm wrong_number: alice from - by WeChat in a login at B")
	w.phoneSays(t, who, number, "Logged in")
	stream.expect("success")
	if r := log.expect("confirm logged_in: alice from - by WeChat in a login at B")[0]; r.Login != scan.Login || r.Browser != scan.Browser || r.Place != scan.Place {
		t.Errorf("%+v", r)
	}

	stream = home(t, w).events(w.a)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("scanned")
	w.phoneSays(t, who, "0", "Declined")
	log.expect(asked, "decline declined: alice from - by WeChat in a login at B")

	stream = home(t, w).events(w.a)
	w.scan(t, who, stream.code().Ticket)
	number = stream.number()
	for range 3 {
		w.phoneSays(t, who, another(number), "")
	}
	stream.expect("declined")
	log.expect(asked, "wrong_confirm wrong_number: alice from - by WeChat in a login at B", "wrong_confirm wrong_number: alice from - by WeChat in a login at B",
		"wrong_confirm wrong_thrice: alice from - by WeChat in a login at B")
	log.isWhole(w)
	w.auditIsHarmless(t)
}

func TestCodesThatAreTypedAreInTheAuditLog(t *testing.T) {
	t.Parallel()
	w, log := auditWorld(t, settings{"CONFIRM": "code"})
	w.account(t, "alice")
	who := w.person(true)
	w.tie(t, who, "alice")
	log.expect("signup: alice from - at shell")
	for _, tries := range []int{1, 3} {
		b := home(t, w)
		stream := b.events(w.a)
		code := w.codeTo(t, w.scan(t, who, stream.code().Ticket))
		w.keep("," + code + ",") // as it would stand in a row
		stream.askedForCode()
		want := []string{"scan to_confirm: nobody from - by WeChat in a login at B"}
		for n := range tries {
			b.post(w.a, "/login/confirm", form("code", another(code))).want(t, http.StatusForbidden)
			what := map[bool]string{true: "wrong_thrice", false: "wrong_code"}[n == 2]
			want = append(want, "wrong_confirm "+what+": alice from 203.0.113.7 by WeChat in a login at A")
		}
		if tries < 3 {
			b.post(w.a, "/login/confirm", form("code", code)).want(t, http.StatusOK)
			want = append(want, "confirm logged_in: alice from 203.0.113.7 by WeChat in a login at A")
		}
		log.expect(want...)
	}
	log.isWhole(w)
	w.auditIsHarmless(t)
}

// Whoever is refused again and again can't fill the log, and is in it all the same.
func TestAFloodOfRefusalsIsAFewRows(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_CODES": "1/1h", "LIMIT_PASSWORDS": "1/1h", "LIMIT_SCANS": "1/1h"})
	w.account(t, "alice")
	const flood = 40
	at(t, w, "203.0.113.7").events(w.a).code()
	for range flood {
		at(t, w, "203.0.113.7").events(w.a).rateLimited()
	}
	guesser := at(t, w, "203.0.113.8")
	guesser.signIn(w.a, "alice", "wrong password").want(t, http.StatusUnauthorized)
	w.limitsPass(-time.Hour)
	for range flood {
		guesser.signIn(w.a, "alice", "wrong password").want(t, http.StatusTooManyRequests)
	}
	w.a.stop() // which writes what is left
	for _, c := range []struct{ address, detail, account string }{
		{"203.0.113.7", "codes", ""}, {"203.0.113.8", "passwords", "alice"},
	} {
		rows := w.logged(t, "--kind", "limited", "--address", c.address)
		times := int32(0)
		for _, r := range rows {
			times += r.Times
			if r.Detail != c.detail || r.Account != c.account {
				t.Errorf("%+v", r)
			}
		}
		if times != flood || len(rows) > 4 { // one at once, one at the end, and one for each minute that this took
			t.Errorf("%d refusals of %s are %d in %d rows", flood, c.detail, times, len(rows))
		}
	}
	if rows := w.logged(t, "--kind", "sign_in_failed"); len(rows) != 1 || rows[0].Account != "alice" {
		t.Errorf("%+v", rows)
	}
}

func TestAuditCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	who := w.boundPerson(t, "alice")
	w.account(t, "bob")
	b := newBrowser(t, w)
	b.header.Set("User-Agent", "odd\tbrowser")
	b.signIn(w.b, "bob", password).want(t, http.StatusSeeOther)
	person := login.PersonOf(appID, who.OpenID)
	everything := w.logged(t)
	if len(everything) != 6 {
		t.Fatalf("%+v", everything)
	}
	login := everything[1].Login
	for flags, want := range map[string]int{
		"--user=bob": 2, "--user=BOB --kind=login": 1, "--kind=bind": 1, "--login=" + login: 3, "--login=" + strings.ToUpper(login[:8]): 3,
		"--person=" + person: 3, "--openid=" + who.OpenID: 3, "--openid=another": 0, "--address=127.0.0.1": 3, "--address=127.0.0.0/8 --instance=B": 1,
		"--instance=A --kind=scan": -1, "--limit=2": 2, "--limit=0": 6, "--since=1h": 6, "--since=0s": 0, "--until=1h": 0,
		"--since=2020-01-01 --until=2020-01-02": 0, "--since=2020-01-01T00:00:00Z": 6,
	} {
		if rows := w.logged(t, strings.Fields(flags)...); len(rows) != want && want >= 0 {
			t.Errorf("%s: %d rows, want %d", flags, len(rows), want)
		}
	}
	if rows := w.logged(t, "--limit=1"); rows[0].ID != everything[5].ID {
		t.Error("the one row isn't the newest")
	}
	for _, r := range everything {
		if r.At.IsZero() || r.ID == 0 || r.Times != 1 || r.Instance == "" || r.Address != (netip.Addr{}) && r.Address.String() != "127.0.0.1" {
			t.Errorf("%+v", r)
		}
	}

	r := run(t, w.owned(), "", "audit", "--kind", "login")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if r.code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], "TIME ") ||
		!strings.Contains(lines[1], "login            bind           alice            "+person+" "+login[:8]) ||
		!strings.Contains(lines[2], "login            password       bob              -                -        127.0.0.1           1  B            odd") {
		t.Errorf("%d: %s%s", r.code, r.stdout, r.stderr)
	}
	for _, bad := range []string{
		"--kind=nothing", "--since=soon", "--until=later", "--address=here", "--login=xyz", "--limit=-1", "--follow --until=1h", "up", "--no-such-flag",
	} {
		if r := run(t, w.owned(), "", append([]string{"audit"}, strings.Fields(bad)...)...); r.code != 2 || r.stdout != "" || !oneLine(r.stderr) {
			t.Errorf("audit %s: %+v", bad, r)
		}
	}
	if r := w.command(t, "", "help", "audit"); r.code != 0 || !strings.Contains(r.stdout, "-follow") || !strings.Contains(r.stdout, "DATABASE_URL") || strings.Contains(r.stdout, "WECHAT") {
		t.Errorf("%+v", r)
	}
}

// An outage is waited out, and nothing is shown twice after it.
func TestWhoFollowsTheAuditLogWaitsOutAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	log := w.follow(t)
	log.outage = true
	w.account(t, "alice")
	log.next()
	w.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	w.account(t, "bob")
	if r := log.next(); r.Account != "bob" {
		t.Errorf("%+v", r)
	}
	log.isWhole(w)
}
