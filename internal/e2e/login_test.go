package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/wechatsim"
)

// story is what one test of a shared world needs.
type story struct {
	*testing.T
	*world
	ming wechatsim.User // bound to alice
}

// TestLogin tells the stories that don't disturb each other, all at once on one pair of
// instances. WeChat pushes to B, so a page on A always hears of its scan by NOTIFY.
func TestLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}, settings: settings{"ALLOWED_ORIGINS": "https://app.example.com"}})
	ming := w.boundPerson(t, "alice")
	w.account(t, "bob")
	for name, tell := range map[string]func(story){
		"a page on A hears of the callback on B":               pageOnACallbackOnB,
		"a bound user is logged in on every instance":          boundUser,
		"a first scan is bound and remembered":                 firstScan,
		"an openid in the bind request is ignored":             openidIgnored,
		"somebody without a scan can't bind":                   bindWithoutScan,
		"complete before the scan is not ready":                completeBeforeScan,
		"complete is done once":                                completeOnce,
		"another person is told that the code is used":         usedCode,
		"a repeat by the same person is answered as the first": sameReply,
		"an unknown ticket logs nobody in":                     unknownTicket,
		"a dropped stream resumes on the other instance":       resumeElsewhere,
		"two tabs on two instances are both told":              twoTabs,
		"a scanned login is told again to a new stream":        toldAgain,
		"a forgotten page gets 204":                            forgottenPage,
		"a stream is never silent for 15 s":                    heartbeat,
		"pages of other origins are refused":                   foreignPages,
		"next stays here or goes where it may":                 next,
		"a password logs in":                                   passwordLogin,
		"logout ends the session everywhere":                   logout,
		"unbind removes the tie and keeps the session":         unbind,
		"nobody without a session sees the user centre":        noSession,
		"WeChat is told whose URL this is":                     verifyURL,
		"bad callbacks are refused":                            badCallbacks,
		"other pushes are acknowledged":                        otherPushes,
		"errors are told in the form that is asked for":        errorForms,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(story{t, w, ming})
		})
	}
}

// shown opens a page on i and returns its stream and its code.
func (s story) shown(b *browser, i *instance) (*eventStream, qrCode) {
	s.Helper()
	stream := b.events(i)
	return stream, stream.code()
}

func pageOnACallbackOnB(s story) {
	b := newBrowser(s, s.world)
	stream := b.events(s.a)
	if r := stream.retry(); r < time.Second || r > 10*time.Second {
		s.Errorf("a browser whose connection breaks comes back after %v", r)
	}
	code := stream.code()
	if code.ExpiresIn != 180 {
		s.Errorf("a new code has %d s, want 180", code.ExpiresIn)
	}
	if d := s.scan(s, s.ming, code.Ticket); d.Tries != 1 {
		s.Errorf("%d tries", d.Tries)
	}
	if e := stream.expect("success"); e.data != `{"redirect":"/user"}` || e.id == "" {
		s.Errorf("success: %+v", e)
	}
	stream.end()
}

func boundUser(s story) {
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	if c := stream.response.Cookies(); len(c) != 1 || c[0].Name != loginCookie || !c[0].HttpOnly || c[0].SameSite != http.SameSiteLaxMode {
		s.Errorf("cookies of the stream: %v", c)
	}
	s.scan(s, s.ming, code.Ticket)
	stream.expect("success")
	done := b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusOK)
	if got := done.json(s, "redirect"); got != "/user" {
		s.Errorf("redirect %v", got)
	}
	if c := done.set[sessionCookie]; c == nil || !c.HttpOnly || c.Path != "/" || c.SameSite != http.SameSiteLaxMode {
		s.Errorf("session cookie %+v", c)
	}
	for _, i := range []*instance{s.a, s.b} {
		if page := b.get(i, "/user").want(s, http.StatusOK); !strings.Contains(page.body, "alice") {
			s.Error("the user centre doesn't name alice")
		}
		v := b.get(i, "/auth/verify").want(s, http.StatusOK)
		if v.header.Get("X-Auth-User") != "alice" || v.header.Get("X-Auth-User-Id") == "" {
			s.Errorf("X-Auth-User %q, X-Auth-User-Id %q", v.header.Get("X-Auth-User"), v.header.Get("X-Auth-User-Id"))
		}
		if to := b.get(i, "/").want(s, http.StatusSeeOther).header.Get("Location"); to != "/user" {
			s.Errorf("/ leads to %s", to)
		}
	}
}

func firstScan(s story) {
	who := s.person(false) // follows the account by this scan
	s.account(s, "first")
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	if d := s.scan(s, who, code.Ticket); d.Event != "subscribe" {
		s.Errorf("pushed %q", d.Event)
	}
	if e := stream.expect("bind-required"); e.data != `{"signup":false}` || e.id != "" {
		s.Errorf("bind-required: %+v", e)
	}
	b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusConflict)
	wrong := b.post(s.a, "/user/bind", jsonBody("username", "first", "password", "not it")).want(s, http.StatusForbidden)
	unknown := b.post(s.a, "/user/bind", jsonBody("username", "nobody", "password", "not it")).want(s, http.StatusForbidden)
	if wrong.json(s, "status") != false || wrong.json(s, "err") == "" || wrong.body != unknown.body {
		s.Errorf("wrong password %s, unknown user %s", wrong.body, unknown.body)
	}
	done := b.post(s.b, "/user/bind", form("username", "first", "password", password)).want(s, http.StatusOK)
	if done.json(s, "status") != true || done.json(s, "redirect") != "/user" || done.set[sessionCookie] == nil {
		s.Errorf("bound: %s, cookies %v", done.body, done.set)
	}
	stream.expect("success") // this tab and others follow
	b.get(s.a, "/user").want(s, http.StatusOK)

	again := newBrowser(s, s.world)
	stream, code = s.shown(again, s.b)
	s.scan(s, who, code.Ticket)
	stream.expect("success")
	again.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusOK)
	if got := again.get(s.b, "/auth/verify").header.Get("X-Auth-User"); got != "first" {
		s.Errorf("the next scan logs in %q", got)
	}
}

func openidIgnored(s story) {
	scanner, victim := s.person(true), s.person(true)
	s.account(s, "ignorant")
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	s.scan(s, scanner, code.Ticket)
	stream.expect("bind-required")
	b.post(s.a, "/user/bind?openid="+victim.OpenID,
		jsonBody("username", "ignorant", "password", password, "openid", victim.OpenID)).want(s, http.StatusOK)
	for who, want := range map[wechatsim.User]string{scanner: "success", victim: "bind-required"} {
		stream, code := s.shown(newBrowser(s, s.world), s.a)
		s.scan(s, who, code.Ticket)
		stream.expect(want)
	}
}

func bindWithoutScan(s story) {
	b := newBrowser(s, s.world)
	in := jsonBody("username", "alice", "password", password)
	b.post(s.a, "/user/bind", in).want(s, http.StatusConflict)
	_, code := s.shown(b, s.a)
	b.post(s.a, "/user/bind", in).want(s, http.StatusConflict)
	s.scan(s, s.ming, code.Ticket)
	if a := b.post(s.a, "/user/bind", in).want(s, http.StatusConflict); a.json(s, "status") != false {
		s.Error(a.body)
	}
}

func completeBeforeScan(s story) {
	b := newBrowser(s, s.world)
	_, code := s.shown(b, s.a)
	a := b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusConflict)
	if a.json(s, "error") != "not_ready" || len(a.set) > 0 {
		s.Errorf("%s, cookies %v", a.body, a.set)
	}
	s.scan(s, s.ming, code.Ticket)
	b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusOK)
}

func completeOnce(s story) {
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	s.scan(s, s.ming, code.Ticket)
	stream.expect("success")
	thief := newBrowser(s, s.world)
	thief.hold(loginCookie, b.cookie(loginCookie))
	b.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusOK)

	late := thief.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusGone)
	if late.json(s, "error") != "expired" || late.set[sessionCookie] != nil {
		s.Errorf("the login cookie alone, once more: %s, cookies %v", late.body, late.set)
	}
	second := b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusOK)
	if second.json(s, "redirect") != "/user" || second.set[sessionCookie] != nil {
		s.Errorf("a second tab: %s, cookies %v", second.body, second.set)
	}
}

func usedCode(s story) {
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	s.scan(s, s.ming, code.Ticket)
	if d := s.scan(s, s.person(true), code.Ticket); !strings.Contains(d.Reply, "Somebody else") {
		s.Errorf("before the end, another person is told %q", d.Reply)
	}
	stream.expect("success")
	b.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusOK)
	if d := s.scan(s, s.person(false), code.Ticket); !strings.Contains(d.Reply, "Somebody else") {
		s.Errorf("after the end, another person is told %q", d.Reply)
	}
	if got := b.get(s.a, "/auth/verify").header.Get("X-Auth-User"); got != "alice" {
		s.Errorf("logged in as %q", got)
	}
}

func sameReply(s story) {
	for _, who := range []wechatsim.User{s.ming, s.person(true)} {
		b := newBrowser(s, s.world)
		stream, code := s.shown(b, s.a)
		first := s.scan(s, who, code.Ticket)
		stream.next()
		again := s.scan(s, who, code.Ticket)
		if first.Reply == "" || first.Reply != again.Reply {
			s.Errorf("first %q, then %q", first.Reply, again.Reply)
		}
	}
}

func unknownTicket(s story) {
	b := newBrowser(s, s.world)
	_, code := s.shown(b, s.a)
	a := s.push(b, s.a, s.pushXML(s.ming.OpenID, "SCAN", fmt.Sprint(code.SceneID), "gQnotthisone")).want(s, http.StatusOK)
	if !strings.Contains(a.body, "expired") {
		s.Errorf("the phone is told %s", a.body)
	}
	b.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusConflict)
}

func resumeElsewhere(s story) {
	b := newBrowser(s, s.world)
	stream, first := s.shown(b, s.a)
	stream.close()
	var resumed qrCode
	eventually(s, "fewer seconds left", func() bool {
		stream := b.events(s.b)
		defer stream.close()
		resumed = stream.code()
		if resumed.Ticket != first.Ticket || resumed.SceneID != first.SceneID || resumed.Image != first.Image {
			s.Fatal("another code after a reconnect")
		}
		return resumed.ExpiresIn < first.ExpiresIn
	})
	if resumed.ExpiresIn < 150 {
		s.Errorf("%d s left", resumed.ExpiresIn)
	}
	stream = b.events(s.b)
	s.scan(s, s.ming, stream.code().Ticket)
	stream.expect("success")
}

func twoTabs(s story) {
	b := newBrowser(s, s.world)
	one, code := s.shown(b, s.a)
	two, same := s.shown(b, s.b)
	if code.Ticket != same.Ticket {
		s.Error("two tabs show two codes")
	}
	s.scan(s, s.ming, code.Ticket)
	one.expect("success")
	two.expect("success")
	for _, i := range []*instance{s.a, s.b} {
		b.post(i, "/login/complete", jsonBody()).want(s, http.StatusOK)
	}
}

func toldAgain(s story) {
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	stream.close()
	s.scan(s, s.ming, code.Ticket) // nobody listens
	for _, i := range []*instance{s.b, s.a} {
		stream := b.events(i)
		stream.expect("success")
		stream.end()
	}
	b.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusOK)

	bound := newBrowser(s, s.world)
	stream, code = s.shown(bound, s.a)
	stream.close()
	s.scan(s, s.person(true), code.Ticket)
	bound.events(s.b).expect("bind-required")
}

func forgottenPage(s story) {
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	s.scan(s, s.ming, code.Ticket)
	e := stream.expect("success")
	stream.end()
	stream = b.openEvents(s.b, "Last-Event-ID", e.id)
	if got := stream.response.StatusCode; got != http.StatusNoContent {
		s.Errorf("status %d, want 204", got)
	}
	if rest := stream.end(); len(rest) > 0 {
		s.Errorf("and then %v", rest)
	}
}

func heartbeat(s story) {
	stream, _ := s.shown(newBrowser(s, s.world), s.a)
	stream.comment()
}

func foreignPages(s story) {
	b := newBrowser(s, s.world)
	_, code := s.shown(b, s.a)
	s.scan(s, s.ming, code.Ticket)
	for _, foreign := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "", "Origin", "https://evil.example.com"},
		{"Sec-Fetch-Site", "", "Origin", "null"},
		{"Sec-Fetch-Site", "", "Origin", "https://app.example.com"}, // next may lead there, no more
	} {
		stream := b.openEvents(s.b, foreign...)
		if got := stream.response.StatusCode; got != http.StatusForbidden {
			s.Errorf("stream with %q: status %d", foreign, got)
		}
		stream.close()
		for _, path := range []string{"/login", "/login/complete", "/user/bind", "/user/unbind", "/logout", "/user/signup", "/user/sessions/revoke"} {
			a := b.post(s.b, path, form("username", "alice", "password", password), foreign...)
			if a.status != http.StatusForbidden || len(a.set) > 0 {
				s.Errorf("POST %s with %q: status %d, cookies %v", path, foreign, a.status, a.set)
			}
		}
	}
	b.post(s.a, "/login/complete", jsonBody(), "Sec-Fetch-Site", "", "Origin", s.settings["PUBLIC_URL"]).want(s, http.StatusOK)
}

func next(s story) {
	b := newBrowser(s, s.world)
	for asked, want := range map[string]string{
		"/orders?id=1&x=2":               "/orders?id=1&x=2",
		"https://app.example.com/a":      "https://app.example.com/a",
		"":                               "/user",
		"https://evil.example.com/":      "/user",
		"//evil.example.com/":            "/user",
		`/\evil.example.com/`:            "/user",
		"/\t/evil.example.com":           "/user",
		"javascript:alert(1)":            "/user",
		"https://app.example.com.evil/":  "/user",
		"https://app.example.com@evil/":  "/user",
		"http://app.example.com/":        "/user",
		"https:evil.example.com":         "/user",
		s.settings["PUBLIC_URL"] + "/me": s.settings["PUBLIC_URL"] + "/me",
	} {
		a := b.post(s.a, "/login", form("username", "bob", "password", password, "next", asked)).want(s, http.StatusSeeOther)
		if got := a.header.Get("Location"); got != want {
			s.Errorf("next %q leads to %q, want %q", asked, got, want)
		}
	}
	scan := newBrowser(s, s.world)
	stream, code := s.shown(scan, s.a)
	s.scan(s, s.ming, code.Ticket)
	stream.expect("success")
	if a := scan.post(s.a, "/login/complete", form("next", "//evil.example.com/")).want(s, http.StatusOK); a.json(s, "redirect") != "/user" {
		s.Error(a.body)
	}
	if a := scan.post(s.a, "/login/complete", jsonBody("next", "https://app.example.com/a")).want(s, http.StatusOK); a.json(s, "redirect") != "https://app.example.com/a" {
		s.Error(a.body)
	}
	page := scan.get(s.a, "/login?next=/orders").want(s, http.StatusOK)
	if !strings.Contains(page.body, `name="next" value="/orders"`) {
		s.Error("the page forgets next")
	}
	if page := scan.get(s.a, "/login?next=//evil.example.com/"); strings.Contains(page.body, "evil") {
		s.Error("the page keeps a foreign next")
	}
}

func passwordLogin(s story) {
	b := newBrowser(s, s.world)
	wrong := b.post(s.a, "/login", form("username", "alice", "password", "wrong password")).want(s, http.StatusUnauthorized)
	unknown := b.post(s.a, "/login", form("username", "nobody", "password", "wrong password")).want(s, http.StatusUnauthorized)
	if strings.ReplaceAll(wrong.body, "alice", "nobody") != unknown.body || !strings.Contains(wrong.body, "login-error") {
		s.Error("a wrong password and an unknown user can be told apart")
	}
	a := b.post(s.a, "/login", form("username", "alice", "password", password)).want(s, http.StatusSeeOther)
	if a.header.Get("Location") != "/user" || a.set[sessionCookie] == nil {
		s.Errorf("to %s, cookies %v", a.header.Get("Location"), a.set)
	}
	b.get(s.b, "/user").want(s, http.StatusOK)
}

func logout(s story) {
	b := newBrowser(s, s.world)
	b.post(s.a, "/login", form("username", "bob", "password", password)).want(s, http.StatusSeeOther)
	other := newBrowser(s, s.world)
	other.hold(sessionCookie, b.cookie(sessionCookie))
	other.get(s.b, "/auth/verify").want(s, http.StatusOK)
	if a := b.post(s.a, "/logout", content{}).want(s, http.StatusSeeOther); a.header.Get("Location") != "/login" {
		s.Errorf("to %s", a.header.Get("Location"))
	}
	other.get(s.b, "/auth/verify").want(s, http.StatusUnauthorized)
	other.get(s.a, "/auth/verify").want(s, http.StatusUnauthorized)
}

func unbind(s story) {
	who := s.boundPerson(s, "unbound")
	b := newBrowser(s, s.world)
	b.post(s.a, "/login", form("username", "unbound", "password", password)).want(s, http.StatusSeeOther)
	b.post(s.a, "/user/unbind", content{}).want(s, http.StatusSeeOther)
	b.get(s.b, "/user").want(s, http.StatusOK)
	stream, code := s.shown(newBrowser(s, s.world), s.a)
	s.scan(s, who, code.Ticket)
	stream.expect("bind-required")
}

func noSession(s story) {
	b := newBrowser(s, s.world)
	if to := b.get(s.a, "/user").want(s, http.StatusSeeOther).header.Get("Location"); to != "/login?next=/user" {
		s.Errorf("/user leads to %s", to)
	}
	if to := b.get(s.a, "/").want(s, http.StatusSeeOther).header.Get("Location"); to != "/login" {
		s.Errorf("/ leads to %s", to)
	}
	b.get(s.a, "/auth/verify").want(s, http.StatusUnauthorized)
	b.hold(sessionCookie, "nonsense")
	b.hold(loginCookie, "nonsense")
	b.get(s.a, "/auth/verify").want(s, http.StatusUnauthorized)
	s.shown(b, s.a)
}

func errorForms(s story) {
	b := newBrowser(s, s.world)
	a := b.get(s.a, "/nothing/here", "Accept", "application/json").want(s, http.StatusNotFound)
	if a.json(s, "error") == "" || a.json(s, "message") == "" {
		s.Error(a.body)
	}
	a = b.get(s.a, "/nothing/here", "Accept", "text/html", "Accept-Language", "zh-CN").want(s, http.StatusNotFound)
	if !strings.Contains(a.body, `<html lang="zh-CN">`) {
		s.Error("no page for a person")
	}
	b.get(s.a, "/metrics").want(s, http.StatusNotFound)
	b.get(s.a, "/readyz").want(s, http.StatusNotFound)
}

func TestSignup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true, pushTo: []int{1}})
	w.a.settings = settings{"SIGNUP": "on"} // and off at B
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	w.account(t, "alice")
	who := w.person(false)
	b := newBrowser(t, w)
	b.post(w.a, "/user/signup", form("username", "carol", "password", password)).want(t, http.StatusConflict) // nothing scanned
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	if e := stream.expect("bind-required"); e.data != `{"signup":true}` {
		t.Errorf("bind-required: %s", e.data)
	}
	b.post(w.b, "/user/signup", form("username", "carol", "password", password)).want(t, http.StatusNotFound)
	taken := b.post(w.a, "/user/signup", form("username", "alice", "password", password)).want(t, http.StatusConflict)
	if taken.json(t, "status") != false || taken.json(t, "err") == "" {
		t.Errorf("a taken name: %s", taken.body)
	}
	if a := b.post(w.a, "/user/signup", jsonBody("username", "carol", "password", "short")); a.status < 400 || a.status >= 500 || a.json(t, "status") != false {
		t.Errorf("a short password: status %d, %s", a.status, a.body)
	}
	done := b.post(w.a, "/user/signup", jsonBody("username", "carol", "password", password)).want(t, http.StatusOK)
	if done.json(t, "status") != true || done.json(t, "redirect") != "/user" || done.set[sessionCookie] == nil {
		t.Errorf("signed up: %s, cookies %v", done.body, done.set)
	}
	if got := b.get(w.b, "/auth/verify").header.Get("X-Auth-User"); got != "carol" {
		t.Errorf("X-Auth-User %q", got)
	}
	again := newBrowser(t, w)
	stream = again.events(w.b)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
	again.post(w.b, "/login", form("username", "carol", "password", password)).want(t, http.StatusSeeOther)
}
