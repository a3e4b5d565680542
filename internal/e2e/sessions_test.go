package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	onWindows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
	onIPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1"
)

// TestSessions tells the stories of sessions on one pair of instances, each with accounts
// of its own. The proxy that names places is in front of A alone.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	w.a.settings = settings{"TRUSTED_PROXIES": "127.0.0.1", "PLACE_HEADER": "X-City"}
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	for name, tell := range map[string]func(story){
		"the owner sees them":                                    sessionsAreSeen,
		"a revoked one is refused everywhere at once":            revokedEverywhere,
		"nobody else's can be revoked":                           revokedByStrangers,
		"a bad request revokes nothing":                          revokedByMistake,
		"all others are revoked":                                 othersRevoked,
		"revoking one's own is a logout":                         ownRevoked,
		"a revoked one is refused amid requests":                 revokedAmidRequests,
		"each login has a new token, and ends the one before":    tokensRotate,
		"a login as somebody else ends the session before":       loginAsSomebodyElse,
		"one that nobody uses ends":                              idleEnds,
		"passwd ends them all":                                   passwdEnds,
		"a change of the password keeps the one that asked":      passwordChanged,
		"a change of the password is refused where it has to be": passwordRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(story{T: t, world: w})
		})
	}
}

// signedIn is a browser with a session of an account.
func (s story) signedIn(name string, i *instance, header ...string) *browser {
	s.Helper()
	b := newBrowser(s, s.world)
	b.post(i, "/login", form("username", name, "password", password), header...).want(s, http.StatusSeeOther)
	return b
}

// seen is a session as its owner sees it.
type seen struct {
	ID, Browser, System, Place string
	CreatedAt                  time.Time `json:"created_at"`
	SeenAt                     time.Time `json:"seen_at"`
	Current                    bool
}

func (s story) sessions(b *browser, i *instance) []seen {
	s.Helper()
	a := b.get(i, "/user/sessions", "Accept", "application/json").want(s, http.StatusOK)
	var v struct{ Sessions []seen }
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		s.Fatalf("%v: %s", err, a.body)
	}
	return v.Sessions
}

// current is the session that this browser has.
func (s story) current(b *browser) seen {
	s.Helper()
	for _, one := range s.sessions(b, s.a) {
		if one.Current {
			return one
		}
	}
	s.Fatal("no session is the current one")
	return seen{}
}

// in checks on every instance whether the browser is signed in.
func (s story) in(what string, b *browser, want bool) {
	s.Helper()
	for _, i := range []*instance{s.a, s.b} {
		if a := b.get(i, "/auth/verify"); (a.status == http.StatusOK) != want || !want && a.status != http.StatusUnauthorized {
			s.Errorf("%s, on %s: status %d, want it signed in: %v", what, i.name, a.status, want)
		}
	}
}

func sessionsAreSeen(s story) {
	who := s.boundPerson(s, "seen")
	s.account(s, "unseen")
	s.signedIn("unseen", s.a)
	stranger := newBrowser(s, s.world)
	if a := stranger.get(s.a, "/user/sessions", "Accept", "application/json").want(s, http.StatusUnauthorized); a.json(s, "error") != "unauthenticated" {
		s.Error(a.body)
	}
	if to := stranger.get(s.a, "/user/sessions").want(s, http.StatusSeeOther).header.Get("Location"); to != "/login?next=/user/sessions" {
		s.Errorf("somebody without a session is led to %s", to)
	}

	s.signedIn("seen", s.b, "User-Agent", onIPhone, "X-City", "nowhere") // B trusts nobody
	s.signedIn("seen", s.a, "User-Agent", "")
	b := newBrowser(s, s.world)
	b.header.Set("User-Agent", onWindows)
	b.header.Set("X-City", "上海")
	stream, code := s.shown(b, s.a)
	s.scan(s, who, code.Ticket)
	stream.expect("success")
	b.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusOK)

	list := s.sessions(b, s.b)
	if len(list) != 4 { // and the one of the bind
		s.Fatalf("%d sessions: %+v", len(list), list)
	}
	for n, want := range []seen{
		{Browser: "Chrome", System: "Windows", Place: "上海", Current: true},
		{},
		{Browser: "Safari", System: "iOS"},
	} {
		got := list[n]
		if n > 0 && got.CreatedAt.After(list[n-1].CreatedAt) {
			s.Error("the newest doesn't come first")
		}
		if since := time.Since(got.SeenAt); got.SeenAt.Before(got.CreatedAt) || since > time.Minute || since < -time.Minute || len(got.ID) != 32 {
			s.Errorf("%+v", got)
		}
		got.ID, got.CreatedAt, got.SeenAt = "", time.Time{}, time.Time{}
		if got != want {
			s.Errorf("session %d is %+v, want %+v", n, got, want)
		}
	}
	for language, words := range map[string][]string{
		"en":    {"Chrome · Windows", "上海", "Unknown browser", "This browser", "Sign out everywhere else"},
		"zh-CN": {"Chrome · Windows", "上海", "未知浏览器", "本设备", "退出所有其他设备"},
	} {
		page := b.get(s.b, "/user/sessions", "Accept-Language", language).want(s, http.StatusOK)
		for _, w := range append(words, list[1].ID) {
			if !strings.Contains(page.body, w) {
				s.Errorf("the page in %s lacks %q", language, w)
			}
		}
		if strings.Contains(page.body, b.cookie(sessionCookie)) || strings.Contains(page.body, who.OpenID) {
			s.Error("the page holds a secret")
		}
	}
	if page := b.get(s.b, "/user"); !strings.Contains(page.body, `href="/user/sessions"`) {
		s.Error("the user centre doesn't lead there")
	}
}

func revokedEverywhere(s story) {
	s.account(s, "revoking")
	here, there, other := s.signedIn("revoking", s.a), s.signedIn("revoking", s.b), s.signedIn("revoking", s.b)
	a := here.post(s.a, "/user/sessions/revoke", jsonBody("id", s.current(there).ID), "Accept", "application/json").want(s, http.StatusOK)
	there.get(s.b, "/auth/verify").want(s, http.StatusUnauthorized) // at once
	if a.json(s, "status") != true || a.json(s, "revoked") != 1.0 || len(a.set) > 0 {
		s.Errorf("%s, cookies %v", a.body, a.set)
	}
	s.in("the revoked one", there, false)
	if to := there.get(s.b, "/user").want(s, http.StatusSeeOther).header.Get("Location"); to != "/login?next=/user" {
		s.Errorf("led to %s", to)
	}
	there.post(s.b, "/user/sessions/revoke", form("others", "true")).want(s, http.StatusUnauthorized)
	s.in("the one that revoked", here, true)
	s.in("the one beside it", other, true)
	form := here.post(s.b, "/user/sessions/revoke", form("id", s.current(other).ID)).want(s, http.StatusSeeOther)
	if to := form.header.Get("Location"); to != "/user/sessions" {
		s.Errorf("a form leads to %s", to)
	}
	s.in("revoked by a form", other, false)
}

func revokedByStrangers(s story) {
	s.account(s, "owner")
	s.account(s, "stranger")
	owner, stranger := s.signedIn("owner", s.a), s.signedIn("stranger", s.a)
	id := s.current(owner).ID
	for _, i := range []*instance{s.a, s.b} {
		a := stranger.post(i, "/user/sessions/revoke", jsonBody("id", id), "Accept", "application/json").want(s, http.StatusNotFound)
		if a.json(s, "error") != "no_such_session" {
			s.Error(a.body)
		}
		stranger.post(i, "/user/sessions/revoke", form("id", id), "Accept", "text/html").want(s, http.StatusNotFound)
		newBrowser(s, s.world).post(i, "/user/sessions/revoke", form("id", id)).want(s, http.StatusUnauthorized)
		owner.post(i, "/user/sessions/revoke", form("others", "true"), "Sec-Fetch-Site", "cross-site").want(s, http.StatusForbidden)
	}
	stranger.post(s.a, "/user/sessions/revoke", form("others", "true")).want(s, http.StatusSeeOther)
	s.in("the owner", owner, true)
	s.in("the stranger", stranger, true)
}

func revokedByMistake(s story) {
	s.account(s, "careless")
	b, other := s.signedIn("careless", s.a), s.signedIn("careless", s.a)
	id := s.current(other).ID
	for _, body := range []content{
		{},
		form("x", "y"), form("id", ""), form("id", "nonsense"), form("others", "false"), form("others", "please"), form("id", id, "others", "true"),
		jsonBody(), jsonBody("others", "true"), jsonBody("id", id+"0"),
		{"application/json", `{"id":`},
		{"application/json", `{"id":7}`},
		{"application/json", `[]`},
	} {
		if a := b.post(s.b, "/user/sessions/revoke", body, "Accept", "application/json"); a.status != http.StatusBadRequest || a.json(s, "error") != "bad_request" {
			s.Errorf("%s: status %d, %s", body.text, a.status, a.body)
		}
	}
	b.get(s.a, "/user/sessions/revoke").want(s, http.StatusMethodNotAllowed)
	s.in("after all that", b, true)
	s.in("after all that, the other", other, true)
	if n := len(s.sessions(b, s.b)); n != 2 {
		s.Errorf("%d sessions", n)
	}
}

func othersRevoked(s story) {
	s.account(s, "alone")
	s.account(s, "bystander")
	bystander := s.signedIn("bystander", s.b)
	here, others := s.signedIn("alone", s.a), []*browser{s.signedIn("alone", s.a), s.signedIn("alone", s.b)}
	a := here.post(s.b, "/user/sessions/revoke", content{"application/json", `{"others":true}`}).want(s, http.StatusOK)
	if a.json(s, "status") != true || a.json(s, "revoked") != 2.0 {
		s.Error(a.body)
	}
	for _, b := range others {
		s.in("one of the others", b, false)
	}
	s.in("this one", here, true)
	s.in("somebody else's", bystander, true)
	if a := here.post(s.a, "/user/sessions/revoke", form("others", "true"), "Accept", "application/json").want(s, http.StatusOK); a.json(s, "revoked") != 0.0 {
		s.Error(a.body)
	}
}

func ownRevoked(s story) {
	s.account(s, "leaving")
	for _, accept := range []string{"", "application/json"} {
		b := s.signedIn("leaving", s.a)
		a := b.post(s.b, "/user/sessions/revoke", form("id", s.current(b).ID), "Accept", accept)
		switch {
		case accept == "" && (a.status != http.StatusSeeOther || a.header.Get("Location") != "/login"):
			s.Errorf("status %d, to %s", a.status, a.header.Get("Location"))
		case accept != "" && (a.status != http.StatusOK || a.json(s, "revoked") != 1.0):
			s.Errorf("status %d: %s", a.status, a.body)
		case a.set[sessionCookie] == nil || a.set[sessionCookie].MaxAge >= 0:
			s.Errorf("cookies %v", a.set)
		}
		s.in("who has left", b, false)
	}
}

// Whoever is told that a session is revoked can rely on it, however busy it is.
func revokedAmidRequests(s story) {
	s.account(s, "busy")
	here, there := s.signedIn("busy", s.a), s.signedIn("busy", s.b)
	id := s.current(there).ID
	var revoked atomic.Bool
	var started, done sync.WaitGroup
	for n := range 8 {
		i := []*instance{s.a, s.b}[n%2]
		b := newBrowser(s, s.world)
		b.hold(sessionCookie, there.cookie(sessionCookie))
		started.Add(1)
		done.Go(func() {
			var once sync.Once
			for {
				over := revoked.Load()
				status := b.get(i, "/auth/verify").status
				once.Do(started.Done)
				if status == http.StatusOK && over || status != http.StatusOK && status != http.StatusUnauthorized {
					s.Errorf("status %d on %s, after it was revoked: %v", status, i.name, over)
				}
				if over || status != http.StatusOK {
					return
				}
			}
		})
	}
	started.Wait()
	here.post(s.a, "/user/sessions/revoke", form("id", id)).want(s, http.StatusSeeOther)
	revoked.Store(true)
	done.Wait()
	s.in("the one that revoked", here, true)
}

func tokensRotate(s story) {
	who := s.boundPerson(s, "rotating")
	b := s.signedIn("rotating", s.a)
	thief := newBrowser(s, s.world)
	replaced := func(what string, login func()) {
		s.Helper()
		before := b.cookie(sessionCookie)
		sessions := len(s.sessions(b, s.a))
		login()
		thief.hold(sessionCookie, before)
		if b.cookie(sessionCookie) == before {
			s.Errorf("%s: the token stays", what)
		}
		s.in(what+": the token before", thief, false)
		s.in(what+": the new token", b, true)
		if n := len(s.sessions(b, s.a)); n != sessions {
			s.Errorf("%s: %d sessions, were %d", what, n, sessions)
		}
	}
	replaced("by password", func() {
		b.post(s.b, "/login", form("username", "rotating", "password", password)).want(s, http.StatusSeeOther)
	})
	replaced("by scan", func() {
		stream, code := s.shown(b, s.a)
		s.scan(s, who, code.Ticket)
		stream.expect("success")
		b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusOK)
	})
	replaced("by bind", func() {
		stream, code := s.shown(b, s.a)
		s.scan(s, s.person(true), code.Ticket)
		stream.expect("bind-required")
		b.post(s.b, "/user/bind", form("username", "rotating", "password", "not it")).want(s, http.StatusForbidden)
		s.in("while the bind fails", b, true)
		b.post(s.b, "/user/bind", form("username", "rotating", "password", password)).want(s, http.StatusOK)
	})
	// A second tab makes none.
	before := b.cookie(sessionCookie)
	if a := b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusOK); len(a.set) > 0 || b.cookie(sessionCookie) != before {
		s.Errorf("a second tab was given %v", a.set)
	}
	// What fails ends nothing.
	b.post(s.a, "/login", form("username", "rotating", "password", "not it")).want(s, http.StatusUnauthorized)
	s.in("after a login that failed", b, true)
}

func loginAsSomebodyElse(s story) {
	s.account(s, "before")
	s.account(s, "after")
	b := s.signedIn("before", s.a)
	old := newBrowser(s, s.world)
	old.hold(sessionCookie, b.cookie(sessionCookie))
	b.post(s.b, "/login", form("username", "after", "password", password)).want(s, http.StatusSeeOther)
	s.in("the session before", old, false)
	if user := b.get(s.a, "/auth/verify").header.Get("X-Auth-User"); user != "after" {
		s.Errorf("signed in as %s", user)
	}
}

func idleEnds(s story) {
	s.account(s, "idle")
	unused, used := s.signedIn("idle", s.a), s.signedIn("idle", s.a)
	age := func(b *browser, by string) {
		s.Helper()
		s.sql(fmt.Sprintf("UPDATE scanlogin.web_session SET seen_at = now() - interval '%s' WHERE id = '%s'", by, s.current(b).ID))
	}
	age(unused, "167 hours 59 minutes")
	s.in("just before its time", unused, true) // and it is seen by that
	if since := time.Since(s.current(unused).SeenAt); since > time.Minute {
		s.Errorf("seen %v ago", since)
	}
	age(unused, "168 hours")
	s.in("after its time", unused, false)
	unused.get(s.b, "/user/sessions", "Accept", "application/json").want(s, http.StatusUnauthorized)
	if list := s.sessions(used, s.b); len(list) != 1 {
		s.Errorf("listed: %+v", list)
	}
	s.in("the one that is used", used, true)
}

func passwdEnds(s story) {
	s.account(s, "forgetful")
	s.account(s, "mindful")
	b, other := s.signedIn("forgetful", s.a), s.signedIn("mindful", s.a)
	const changed = "set by an administrator"
	s.keep(changed)
	if r := s.command(s, changed+"\n", "user", "passwd", "forgetful"); r.code != 0 {
		s.Errorf("%+v", r)
	}
	s.in("of the old password", b, false)
	s.in("somebody else's", other, true)
	b.post(s.a, "/login", form("username", "forgetful", "password", changed)).want(s, http.StatusSeeOther)
}

func passwordChanged(s story) {
	s.account(s, "changing")
	here, there := s.signedIn("changing", s.a), s.signedIn("changing", s.b)
	for n, next := range []string{"the second password", "the third password"} {
		s.keep(next)
		current := []string{password, "the second password"}[n]
		old, id := newBrowser(s, s.world), s.current(here).ID
		old.hold(sessionCookie, here.cookie(sessionCookie))
		if n == 0 {
			a := here.post(s.a, "/user/password", jsonBody("current", current, "password", next)).want(s, http.StatusOK)
			if a.json(s, "status") != true || a.json(s, "revoked") != 1.0 || a.set[sessionCookie] == nil {
				s.Errorf("%s, cookies %v", a.body, a.set)
			}
		} else {
			a := here.post(s.b, "/user/password", form("current", current, "password", next)).want(s, http.StatusSeeOther)
			if to := a.header.Get("Location"); to != "/user#password-changed" {
				s.Errorf("a form leads to %s", to)
			}
		}
		s.in("the one that asked", here, true)
		s.in("the other", there, false)
		s.in("the token before", old, false)
		if s.current(here).ID != id {
			s.Error("it has become another session")
		}
		newBrowser(s, s.world).post(s.b, "/login", form("username", "changing", "password", current)).want(s, http.StatusUnauthorized)
		there = newBrowser(s, s.world)
		there.post(s.b, "/login", form("username", "changing", "password", next)).want(s, http.StatusSeeOther)
	}
}

func passwordRefused(s story) {
	s.account(s, "refused")
	b, other := s.signedIn("refused", s.a), s.signedIn("refused", s.a)
	const next, rule = "another long password", "A password has at least 8 characters, and is neither a common one nor a date nor close to the name."
	s.keep(next)
	for _, c := range []struct {
		current, next, code, text string
		status                    int
	}{
		{"not it, surely", next, "wrong_password", "The current password is wrong.", http.StatusForbidden},
		{"", next, "wrong_password", "The current password is wrong.", http.StatusForbidden},
		{password, "short", "invalid_password", rule, http.StatusBadRequest},
		{password, "", "invalid_password", rule, http.StatusBadRequest},
		{password, "woaini1314", "invalid_password", rule, http.StatusBadRequest},
	} {
		a := b.post(s.b, "/user/password", jsonBody("current", c.current, "password", c.next)).want(s, c.status)
		if a.json(s, "error") != c.code || len(a.set) > 0 {
			s.Errorf("%s, cookies %v", a.body, a.set)
		}
		page := b.post(s.b, "/user/password", form("current", c.current, "password", c.next), "Accept", "text/html").want(s, c.status)
		if !strings.Contains(page.body, `id="password-error"`) || !strings.Contains(page.body, c.text) || strings.Contains(page.body, next) {
			s.Errorf("the page for %s lacks what is wrong", c.code)
		}
	}
	b.post(s.a, "/user/password", content{"application/json", `{"current":`}).want(s, http.StatusBadRequest)
	b.post(s.a, "/user/password", form("current", password, "password", next), "Sec-Fetch-Site", "cross-site").want(s, http.StatusForbidden)
	newBrowser(s, s.world).post(s.a, "/user/password", form("current", password, "password", next)).want(s, http.StatusUnauthorized)
	s.in("after all that", b, true)
	s.in("after all that, the other", other, true)
	b.post(s.a, "/login", form("username", "refused", "password", password)).want(s, http.StatusSeeOther)
}

// SESSION_IDLE is a setting, and time passes by itself.
func TestASessionEndsWhenNobodyUsesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SESSION_IDLE": "3s"}})
	w.account(t, "alice")
	b := newBrowser(t, w)
	b.post(w.a, "/login", form("username", "alice", "password", password)).want(t, http.StatusSeeOther)
	used := newBrowser(t, w)
	used.post(w.a, "/login", form("username", "alice", "password", password)).want(t, http.StatusSeeOther)
	eventually(t, "the end of the session that nobody uses", func() bool {
		used.get(w.b, "/auth/verify").want(t, http.StatusOK)
		return w.count("SELECT count(*) FROM scanlogin.web_session WHERE seen_at > now() - interval '3 s'") == 1
	})
	b.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)
	used.get(w.a, "/auth/verify").want(t, http.StatusOK)
}

// sessionsInABrowser lists and revokes them as people do.
func sessionsInABrowser(t *testing.T, w *world, in window) {
	w.account(t, "visitor")
	elsewhere := newBrowser(t, w)
	elsewhere.header.Set("User-Agent", onIPhone)
	login := form("username", "visitor", "password", password)
	elsewhere.post(w.a, "/login", login).want(t, http.StatusSeeOther)
	in.width = 360
	page := in.open(t, w.front.url("/login"))
	page.fill("#username", "visitor")
	page.fill("#password", password)
	page.key(kb.Enter)
	page.awaitPath("/user")
	page.press("#sessions")
	page.awaitPath("/user/sessions")
	page.awaitFit("the sessions")
	page.awaitText(`[data-current="true"] h2`, "Chrome")
	page.awaitText(`[data-current="false"] h2`, "Safari · iOS")
	page.press(`[data-current="false"] button`)
	page.await(`location.pathname === '/user/sessions' && document.querySelectorAll('.session').length === 1 && !document.querySelector('summary')`)
	elsewhere.get(w.b, "/auth/verify").want(t, http.StatusUnauthorized)

	elsewhere.post(w.b, "/login", login).want(t, http.StatusSeeOther)
	page.do(chromedp.Reload())
	page.awaitText("summary", "Sign out everywhere else")
	page.press("summary")
	page.awaitFit("the question before all others are signed out")
	page.press("#revoke-others button")
	page.await(`location.pathname === '/user/sessions' && document.querySelectorAll('.session').length === 1`)
	elsewhere.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)

	elsewhere.post(w.b, "/login", login).want(t, http.StatusSeeOther)
	page.navigate(w.front.url("/user"))
	page.expectError(http.StatusForbidden)
	page.press("#password summary")
	page.fill("#current", "not the password")
	page.fill("#new", "a new long password")
	page.awaitFit("the form for another password")
	page.press("#password-form button")
	page.awaitText("#password-error", "The current password is wrong.")
	page.fill("#current", password)
	page.fill("#new", "a new long password")
	page.press("#password-form button")
	page.awaitPath("/user")
	page.awaitText("#password-changed", "Your password is changed.")
	page.awaitFit("the word that it is changed")
	elsewhere.get(w.a, "/auth/verify").want(t, http.StatusUnauthorized)
	page.navigate(w.front.url("/user/sessions"))
	page.press(`[data-current="true"] button`)
	page.awaitPath("/login")
	page.awaitState("waiting")
}
