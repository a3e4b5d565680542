package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"scanlogin/internal/wechatsim"
)

// TestTheOwnerIsTold tells what the owner of an account hears when somebody binds it, unbinds
// it or changes its password, on one pair of instances.
func TestTheOwnerIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"TRUSTED_PROXIES": "127.0.0.1", "PLACE_HEADER": "X-City"}})
	for name, tell := range map[string]func(story){
		"the phone is told of a bind":                     bindIsTold,
		"of an unbind":                                    unbindIsTold,
		"of another password":                             passwordIsTold,
		"of what the shell does":                          shellIsTold,
		"the user centre tells what WeChat won't":         pageTells,
		"the user centre tells where not all phones were": pageTellsAll,
		"the user centre tells only the owner":            pageTellsTheOwner,
		"the first bind needs the password":               firstBindNeedsThePassword,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(story{T: t, world: w})
		})
	}
}

// messages are what the account has written to a phone by itself.
func (w *world) messages(t testing.TB, who wechatsim.User) (texts []string) {
	t.Helper()
	lines, err := w.sim.Messages(who.OpenID)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if line.Kind == wechatsim.Sent {
			texts = append(texts, line.Text)
		}
	}
	return texts
}

// told waits for the newest message to a phone that says want.
func (s story) told(who wechatsim.User, want ...string) {
	s.Helper()
	eventually(s, "a message to the phone that says "+want[0], func() bool {
		all := s.messages(s, who)
		return len(all) > 0 && strings.Contains(all[len(all)-1], want[0])
	})
	all := s.messages(s, who)
	for _, w := range want[1:] {
		if text := all[len(all)-1]; !strings.Contains(text, w) {
			s.Errorf("the phone is told %q, without %q", text, w)
		}
	}
}

// unread is how many notices of an account there are.
func (w *world) unread(account string) int {
	return w.count("SELECT count(*) FROM scanlogin.notice n JOIN scanlogin.account a ON a.id = n.account_id WHERE a.name = '" + account + "'")
}

// settled waits until nothing is being told to phones of an account any more.
func (s story) settled(account string) {
	s.Helper()
	eventually(s, "an end of telling", func() bool {
		return s.count("SELECT count(*) FROM scanlogin.notice n JOIN scanlogin.account a ON a.id = n.account_id WHERE openids <> '{}' AND a.name = '"+account+"'") == 0
	})
}

// bindsFrom is a browser that binds somebody's phone to an account.
func (s story) bindsFrom(who wechatsim.User, name string, i *instance) *browser {
	s.Helper()
	b := newBrowser(s, s.world)
	b.header.Set("User-Agent", onWindows)
	b.header.Set("X-City", "昆明")
	stream, code := s.shown(b, i)
	s.scan(s, who, code.Ticket)
	stream.expect("bind-required")
	b.post(i, "/user/bind", form("username", name, "password", password)).want(s, http.StatusOK)
	return b
}

var noticeID = regexp.MustCompile(`name="id" value="([0-9]+)"`)

// shownNotices are the ids and the page.
func (s story) shownNotices(b *browser, i *instance) (ids []string, page string) {
	s.Helper()
	page = b.get(i, "/user", "Accept", "text/html", "Accept-Language", "en").want(s, http.StatusOK).body
	for _, found := range noticeID.FindAllStringSubmatch(page, -1) {
		ids = append(ids, found[1])
	}
	return ids, page
}

func bindIsTold(s story) {
	s.account(s, "bound")
	first, second := s.person(true), s.person(false)
	b := s.bindsFrom(first, "bound", s.a)
	s.told(first, "绑定到您在", "At ", "linked to your account at 127.0.0.1 (Chrome, Windows, 昆明)")
	s.say(s, first, "hi") // which allows a message for 48 h
	s.bindsFrom(second, "bound", s.b)
	s.told(second, "linked to your account")
	eventually(s, "the phone of before hears of it, too", func() bool { return len(s.messages(s, first)) == 2 })
	s.settled("bound")
	if ids, _ := s.shownNotices(b, s.b); len(ids) != 0 || s.unread("bound") != 0 {
		s.Errorf("what phones were told is shown, too: %v", ids)
	}
}

func unbindIsTold(s story) {
	s.account(s, "unbound")
	who := s.person(true)
	b := s.bindsFrom(who, "unbound", s.a)
	s.told(who, "linked")
	b.post(s.b, "/user/unbind", form()).want(s, http.StatusSeeOther)
	s.told(who, "unlinked from your account", "(Chrome, Windows, 昆明)")
	b.post(s.a, "/user/unbind", form()).want(s, http.StatusSeeOther)
	s.settled("unbound")
	if n := s.unread("unbound"); n != 0 || len(s.messages(s, who)) != 2 {
		s.Errorf("%d left, told %q", n, s.messages(s, who))
	}
}

func passwordIsTold(s story) {
	s.account(s, "changed")
	who := s.person(true)
	b := s.bindsFrom(who, "changed", s.b)
	s.told(who, "linked")
	b.post(s.a, "/user/password", jsonBody("current", "wrong", "password", "another horse")).want(s, http.StatusForbidden)
	b.post(s.a, "/user/password", jsonBody("current", password, "password", "another horse")).want(s, http.StatusOK)
	s.told(who, "password of your account", "(Chrome, Windows, 昆明)")
	s.settled("changed")
	if n := s.unread("changed"); n != 0 || len(s.messages(s, who)) != 2 {
		s.Errorf("%d left, told %q", n, s.messages(s, who))
	}
}

func shellIsTold(s story) {
	s.account(s, "shell")
	who := s.person(true)
	s.tie(s, who, "shell")
	s.say(s, who, "hi")
	if r := s.command(s, "another horse\n", "user", "passwd", "shell"); r.code != 0 {
		s.Fatal(r.stderr)
	}
	s.told(who, "password of your account", "(?)")
	if r := s.command(s, "", "user", "unbind", "shell"); r.code != 0 {
		s.Fatal(r.stderr)
	}
	s.told(who, "unlinked")
}

// pageTells: nobody's GET makes it vanish, on either instance, and what is confirmed is gone
// from both.
func pageTells(s story) {
	s.account(s, "page")
	who := s.person(true)
	s.tie(s, who, "page") // long ago
	b := s.signedIn("page", s.a)
	b.header.Set("User-Agent", onIPhone)
	b.header.Set("X-City", "<昆明>")
	b.post(s.a, "/user/unbind", form()).want(s, http.StatusSeeOther)
	s.settled("page")
	var ids []string
	for _, i := range []*instance{s.b, s.a, s.b} {
		b.get(i, "/user", "Accept", "application/json", "Sec-Purpose", "prefetch").want(s, http.StatusOK)
		found, page := s.shownNotices(b, i)
		if len(found) != 1 || !strings.Contains(page, "WeChat was unlinked") || !strings.Contains(page, "Safari · iOS · &lt;昆明&gt;") {
			s.Fatalf("on %s: %v, %s", i.name, found, page)
		}
		ids = found
	}
	if zh := b.get(s.a, "/user", "Accept", "text/html", "Accept-Language", "zh-CN").body; !strings.Contains(zh, "解除了微信绑定") {
		s.Error("no Chinese in it")
	}
	if len(s.messages(s, who)) != 0 {
		s.Error("a phone was told that can't be")
	}
	b.post(s.a, "/user/notices", form("id", ids[0]), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").want(s, http.StatusForbidden)
	for _, bad := range []content{form(), form("id", "x"), jsonBody("id", "1"), jsonBody(), {"application/json", `{"id":[1.5]}`}} {
		b.post(s.a, "/user/notices", bad).want(s, http.StatusBadRequest)
	}
	if found, _ := s.shownNotices(b, s.b); len(found) != 1 {
		s.Error("what was refused removes it")
	}
	if to := b.post(s.a, "/user/notices", form("id", ids[0])).want(s, http.StatusSeeOther).header.Get("Location"); to != "/user" {
		s.Errorf("led to %s", to)
	}
	if found, page := s.shownNotices(b, s.b); len(found) != 0 || strings.Contains(page, "notices") {
		s.Error("it is shown once more")
	}
	again := content{"application/json", fmt.Sprintf(`{"id":[%s]}`, ids[0])}
	if a := b.post(s.b, "/user/notices", again).want(s, http.StatusOK); a.json(s, "seen") != 0.0 || a.json(s, "status") != true {
		s.Error(a.body)
	}
}

// The owner's phone may be the one that couldn't be told.
func pageTellsAll(s story) {
	s.account(s, "both")
	owner, other := s.person(true), s.person(true)
	s.tie(s, owner, "both")
	b := s.bindsFrom(other, "both", s.a)
	s.told(other, "linked")
	s.settled("both")
	if ids, page := s.shownNotices(b, s.b); len(ids) != 1 || !strings.Contains(page, "A WeChat was linked") {
		s.Errorf("shown: %v", ids)
	}
	if n := s.count("SELECT count(*) FROM scanlogin.notice WHERE openids <> '{}' AND '" + owner.OpenID + "' = ANY (openids)"); n != 0 {
		s.Error("an openid is kept that is of no more use")
	}
}

func pageTellsTheOwner(s story) {
	s.account(s, "mine")
	s.account(s, "theirs")
	b, thief := s.signedIn("mine", s.a), s.signedIn("theirs", s.b)
	b.post(s.b, "/user/password", jsonBody("current", password, "password", "another horse")).want(s, http.StatusOK)
	ids, page := s.shownNotices(b, s.a)
	if len(ids) != 1 || !strings.Contains(page, "The password was changed") {
		s.Fatalf("%v: %s", ids, page)
	}
	if found, _ := s.shownNotices(thief, s.a); len(found) != 0 {
		s.Error("shown to somebody else")
	}
	if a := thief.post(s.a, "/user/notices", content{"application/json", "{\"id\":[" + ids[0] + "]}"}).want(s, http.StatusOK); a.json(s, "seen") != 0.0 {
		s.Error(a.body)
	}
	newBrowser(s, s.world).post(s.a, "/user/notices", form("id", ids[0])).want(s, http.StatusUnauthorized)
	if n := s.unread("mine"); n != 1 {
		s.Errorf("%d left", n)
	}
}

// Neither a session of the account nor that of another does for it.
func firstBindNeedsThePassword(s story) {
	s.account(s, "never")
	b := s.signedIn("never", s.a)
	stream, code := s.shown(b, s.a)
	who := s.person(true)
	s.scan(s, who, code.Ticket)
	stream.expect("bind-required")
	b.post(s.b, "/login/complete", jsonBody()).want(s, http.StatusConflict)
	for _, body := range []content{form(), form("username", "never"), form("username", "never", "password", ""), form("username", "never", "password", "wrong")} {
		b.post(s.b, "/user/bind", body).want(s, http.StatusForbidden)
	}
	if n := s.count("SELECT count(*) FROM scanlogin.wechat_identity WHERE openid = '" + who.OpenID + "'"); n != 0 || s.unread("never") != 0 {
		s.Errorf("%d ties, %d notices", n, s.unread("never"))
	}
	b.post(s.a, "/user/bind", form("username", "never", "password", password)).want(s, http.StatusOK)
	s.told(who, "linked")
}

// A crash between the change and the message loses nothing: until another instance has told
// the phone the user centre tells.
func TestACrashBeforeThePhoneIsToldLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	who := w.boundPerson(t, "crash")
	story := story{T: t, world: w}
	story.told(who, "linked")
	b := story.signedIn("crash", w.a)
	w.sim.SetFaults(wechatsim.Faults{APILatency: patience}) // A waits for WeChat until it dies
	b.post(w.a, "/user/unbind", form()).want(t, http.StatusSeeOther)
	eventually(t, "an instance tells", func() bool {
		return w.count("SELECT count(*) FROM scanlogin.notice WHERE telling_until > now()") == 1
	})
	w.a.kill()
	eventually(t, "the user centre tells", func() bool {
		ids, page := story.shownNotices(b, w.b)
		return len(ids) == 1 && strings.Contains(page, "WeChat was unlinked")
	})
	w.sim.SetFaults(wechatsim.Faults{})
	w.sql("UPDATE scanlogin.notice SET telling_until = now()") // its turn is over, or was B's
	w.say(t, who, "hi")
	w.a.restart(nil)
	eventually(t, "the phone is told, or the page has it for good", func() bool {
		return w.count("SELECT count(*) FROM scanlogin.notice WHERE openids <> '{}'") == 0
	})
	told := len(w.messages(t, who)) == 2
	if left := w.unread("crash") == 1; told == left {
		t.Errorf("told %v, left to the page %v", told, left)
	}
}
