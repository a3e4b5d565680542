package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"scanlogin/internal/wechatsim"
)

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

// confirming is a world where a scan has to be confirmed, with somebody whose account is alice.
func confirming(t *testing.T, how string, also settings) (*world, wechatsim.User) {
	t.Helper()
	s := settings{"CONFIRM": how}
	maps.Copy(s, also)
	w := newWorld(t, options{settings: s})
	w.account(t, "alice")
	who := w.person(true)
	w.tie(t, who, "alice")
	return w, who
}

// tie binds a WeChat user as somebody does who has bound it long ago.
func (w *world) tie(t testing.TB, who wechatsim.User, account string) {
	t.Helper()
	w.sql(fmt.Sprintf("INSERT INTO scanlogin.wechat_identity (appid, openid, account_id) SELECT '%s', '%s', id FROM scanlogin.account WHERE name = '%s'",
		appID, who.OpenID, account))
}

// number expects the event of a scan that is to be answered with a number.
func (s *eventStream) number() string {
	s.t.Helper()
	return s.numberIn(s.expect("scanned"))
}

func (s *eventStream) numberIn(e event) string {
	s.t.Helper()
	found := regexp.MustCompile(`^{"confirm":"reply","number":"([1-9][0-9])"}$`).FindStringSubmatch(e.data)
	if found == nil {
		s.t.Fatalf("scanned: %s", e.data)
	}
	return found[1]
}

// askedForCode expects the event of a scan whose code is to be typed.
func (s *eventStream) askedForCode() {
	s.t.Helper()
	if e := s.expect("scanned"); e.data != `{"confirm":"code"}` {
		s.t.Fatalf("scanned: %s", e.data)
	}
}

// codeTo is the code that a phone was sent.
func (w *world) codeTo(t testing.TB, d wechatsim.Delivery) string {
	t.Helper()
	found := regexp.MustCompile(`\b[0-9]{6}\b`).FindString(d.Reply)
	if found == "" {
		t.Fatalf("no code in %q", d.Reply)
	}
	return found
}

// another is a number that is not the one.
func another(number string) string {
	n, _ := strconv.Atoi(number)
	return fmt.Sprintf("%0*d", len(number), (n+1)%100+10)
}

func (w *world) phoneSays(t testing.TB, who wechatsim.User, text, want string) {
	t.Helper()
	if d := w.say(t, who, text); d.Failed || !strings.Contains(d.Reply, want) {
		t.Errorf("%q is answered %q, failed %v, want %q", text, d.Reply, d.Failed, want)
	}
}

func TestConfirmByReply(t *testing.T) {
	t.Parallel()
	w, who := confirming(t, "reply", settings{"TRUSTED_PROXIES": "127.0.0.1", "PLACE_HEADER": "X-City", "PUBLIC_URL": "http://login.example.com"})
	b := newBrowser(t, w)
	b.header.Set("User-Agent", firefox)
	b.header.Set("X-City", "Kunming")
	stream := b.events(w.a)
	code := stream.code()
	d := w.scan(t, who, code.Ticket)
	number := stream.number()
	for _, want := range []string{"login.example.com", "Firefox, Linux, Kunming", "0"} {
		if !strings.Contains(d.Reply, want) {
			t.Errorf("the phone isn't told %q: %q", want, d.Reply)
		}
	}
	if strings.Contains(regexp.MustCompile(`\d\d:\d\d`).ReplaceAllString(d.Reply, ""), number) {
		t.Errorf("the phone is told the number: %q", d.Reply)
	}

	// Nothing but the answer counts, and whoever reconnects is told the same.
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusConflict)
	b.post(w.b, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusConflict)
	b.post(w.b, "/login/confirm", jsonBody("code", number)).want(t, http.StatusConflict)
	other := b.events(w.b)
	if again := other.number(); again != number {
		t.Errorf("the other instance says %s, not %s", again, number)
	}
	if again := w.scan(t, who, code.Ticket); again.Reply != d.Reply {
		t.Errorf("scanning again is answered %q, not %q", again.Reply, d.Reply)
	}
	if stranger := w.scan(t, w.person(true), code.Ticket); !strings.Contains(stranger.Reply, "Somebody else") {
		t.Errorf("another person is told %q", stranger.Reply)
	}
	w.phoneSays(t, who, "是我", "two digits")
	w.phoneSays(t, who, another(number), "isn't the number")
	w.phoneSays(t, w.person(true), number, "") // who is asked nothing
	w.phoneSays(t, who, " "+number+"。", "Logged in to login.example.com")
	stream.expect("success")
	other.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	if got := b.get(w.a, "/auth/verify").header.Get("X-Auth-User"); got != "alice" {
		t.Errorf("logged in as %q", got)
	}
}

func TestConfirmOfSomebodyNew(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"reply", "code"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w, _ := confirming(t, how, nil)
			who := w.person(false) // follows by the scan
			b := newBrowser(t, w)
			stream := b.events(w.a)
			d := w.scan(t, who, stream.code().Ticket)
			if how == "reply" {
				w.phoneSays(t, who, stream.number(), "link your account")
			} else {
				stream.askedForCode()
				b.post(w.b, "/login/confirm", form("code", w.codeTo(t, d))).want(t, http.StatusOK)
			}
			stream.expect("bind-required")
			b.post(w.b, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusOK)
		})
	}
}

func TestDecline(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"reply", "code"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w, who := confirming(t, how, nil)
			for _, no := range []string{"0", "不是我", "No"} {
				b := newBrowser(t, w)
				stream := b.events(w.a)
				d := w.scan(t, who, stream.code().Ticket)
				stream.expect("scanned")
				w.phoneSays(t, who, no, "Declined")
				e := stream.expect("declined")
				if e.data != "{}" || e.id == "" {
					t.Errorf("%+v", e)
				}
				stream.end()
				if r := b.openEvents(w.b, "Last-Event-ID", e.id); r.response.StatusCode != http.StatusNoContent {
					t.Errorf("a browser that reconnects by itself gets %d", r.response.StatusCode)
				}
				b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusGone)
				code := "000000"
				if how == "code" {
					code = w.codeTo(t, d)
				}
				b.post(w.b, "/login/confirm", jsonBody("code", code)).want(t, http.StatusGone)
				b.events(w.b).code() // a new page begins anew
				w.phoneSays(t, who, no, "")
			}
		})
	}
}

func TestThreeWrongNumbers(t *testing.T) {
	t.Parallel()
	w, who := confirming(t, "reply", nil)
	stream := newBrowser(t, w).events(w.a)
	w.scan(t, who, stream.code().Ticket)
	number := stream.number()
	w.phoneSays(t, who, another(number), "isn't the number")
	w.phoneSays(t, who, another(number), "isn't the number")
	w.phoneSays(t, who, another(number), "cancelled")
	stream.expect("declined")
	w.phoneSays(t, who, number, "")
}

func TestConfirmByCode(t *testing.T) {
	t.Parallel()
	w, who := confirming(t, "code", nil)
	b, wrong := newBrowser(t, w), newBrowser(t, w)
	stream := b.events(w.a)
	wrongStream := wrong.events(w.b)
	wrongStream.code()
	d := w.scan(t, who, stream.code().Ticket)
	stream.askedForCode()
	code := w.codeTo(t, d)
	w.keep("code " + code)

	// Typed in the wrong browser it is nobody's code, however often.
	for range 4 {
		if a := wrong.post(w.a, "/login/confirm", jsonBody("code", code)).want(t, http.StatusConflict); a.json(t, "status") != false {
			t.Errorf("the wrong browser is told %s", a.body)
		}
	}
	newBrowser(t, w).post(w.a, "/login/confirm", jsonBody("code", code)).want(t, http.StatusConflict)
	b.post(w.a, "/login/confirm", jsonBody()).want(t, http.StatusBadRequest)
	a := b.post(w.b, "/login/confirm", jsonBody("code", "x")).want(t, http.StatusForbidden)
	if a.json(t, "status") != false || a.json(t, "tries_left") != 2.0 {
		t.Errorf("a wrong code is answered %s", a.body)
	}
	w.phoneSays(t, who, code, "") // the chat is not where it is asked for
	if a := b.post(w.b, "/login/confirm", jsonBody("code", code)).want(t, http.StatusOK); strings.TrimSpace(a.body) != `{"status":true}` {
		t.Errorf("the right code is answered %s", a.body)
	}
	stream.expect("success")
	b.post(w.b, "/login/confirm", jsonBody("code", code)).want(t, http.StatusConflict)
	b.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
	b.post(w.b, "/login/confirm", jsonBody("code", code)).want(t, http.StatusConflict) // its key is gone
	if got := wrong.get(w.a, "/auth/verify"); got.status != http.StatusUnauthorized {
		t.Errorf("the wrong browser is logged in: %d", got.status)
	}
}

func TestThreeWrongCodesHoweverManyAtOnce(t *testing.T) {
	t.Parallel()
	w, who := confirming(t, "code", nil)
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := w.codeTo(t, w.scan(t, who, stream.code().Ticket))
	stream.askedForCode()
	var tries sync.WaitGroup
	var refused, gone, others atomic.Int32
	for n := range 12 {
		tries.Go(func() {
			switch b.post([]*instance{w.a, w.b}[n%2], "/login/confirm", jsonBody("code", "wrong"+strconv.Itoa(n))).status {
			case http.StatusForbidden:
				refused.Add(1)
			case http.StatusGone:
				gone.Add(1)
			default:
				others.Add(1)
			}
		})
	}
	tries.Wait()
	if refused.Load() != 3 || others.Load() != 0 {
		t.Errorf("%d tries counted, %d came too late, %d were answered otherwise", refused.Load(), gone.Load(), others.Load())
	}
	stream.expect("declined")
	b.post(w.a, "/login/confirm", jsonBody("code", code)).want(t, http.StatusGone)
}

// WeChat repeats what it got no answer to, to any instance.
func TestRepeatedAnswersCountOnce(t *testing.T) {
	t.Parallel()
	w, who := confirming(t, "reply", nil)
	b := newBrowser(t, w)
	stream := b.events(w.a)
	w.scan(t, who, stream.code().Ticket)
	number := stream.number()
	for _, text := range []string{another(number), number} {
		f := w.sim.Faults()
		f.Duplicates, f.LoseReplies = 1, 1
		w.sim.SetFaults(f)
		d := w.say(t, who, text)
		if d.Failed || d.Again == nil || d.Again.Reply != d.Reply || d.Tries+d.Again.Tries != 3 {
			t.Errorf("%+v, again %+v", d, d.Again)
		}
	}
	stream.expect("success")
	if n := w.count("SELECT count(*) FROM scanlogin.confirmation"); n != 0 {
		t.Errorf("%d questions are left", n)
	}
}

// What is no answer goes on as ever, and an answer is nobody else's.
func TestOnlyAnswersAreKeptFromForwarding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true, settings: settings{"CONFIRM": "reply"}})
	r := newReceiver(w, "")
	w.settings["WECHAT_FORWARD_URL"] = r.url
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	who := w.person(true)
	for _, text := range []string{"42", "0", "你好"} {
		w.phoneSays(t, who, text, "you said "+text)
	}
	stream := newBrowser(t, w).events(w.a)
	w.scan(t, who, stream.code().Ticket)
	number := stream.number()
	w.phoneSays(t, who, "你好", "isn't the number")
	w.phoneSays(t, w.person(true), number, "you said "+number)
	w.phoneSays(t, who, number, "link your account")
	w.phoneSays(t, who, number, "you said "+number)
	if n := len(r.got()); n != 5 {
		t.Errorf("%d messages were forwarded, want 5", n)
	}
}

func TestStartSaysWhatAScanDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	for how, want := range map[string]string{"off": "without a question", "reply": "answer in the chat", "code": "is sent a code"} {
		w.a.settings["CONFIRM"] = how
		w.a.start()
		w.a.awaitReady()
		w.a.stop()
		if !strings.Contains(w.a.log.String(), want) {
			t.Errorf("with CONFIRM=%s nothing says %q", how, want)
		}
	}
}

// confirmInChromium is what people see of it, by name.
func confirmInChromium() map[string]func(*testing.T, window) {
	return map[string]func(*testing.T, window){
		"a number is answered with": func(t *testing.T, in window) {
			w, who := confirming(t, "reply", nil)
			page := in.open(t, w.front.url("/login"))
			w.scan(t, who, page.ticket())
			page.awaitState("scanned-reply")
			page.await(`!document.getElementById('qr').checkVisibility()`)
			page.awaitText("#status", "Answer in WeChat with "+page.number())
			w.phoneSays(t, who, another(page.number()), "isn't the number")
			page.do(chromedp.Reload())
			page.awaitState("scanned-reply")
			w.phoneSays(t, who, page.number(), "Logged in")
			page.awaitPath("/user")
			page.awaitText("#account-name", "alice")
		},
		"a code is typed, at last": func(t *testing.T, in window) {
			w, who := confirming(t, "code", nil)
			page := in.open(t, w.front.url("/login"))
			code := w.codeTo(t, w.scan(t, who, page.ticket()))
			page.awaitState("scanned-code")
			page.await(`document.activeElement.id === 'code' && !document.getElementById('qr').checkVisibility()`)
			page.fill("#code", "12")
			page.key(kb.Enter)
			page.awaitText("#code-error", "six digits")
			page.expectError(http.StatusForbidden)
			page.fill("#code", another(code))
			page.key(kb.Enter)
			page.awaitText("#code-error", "Tries left: 2")
			page.fill("#code", code)
			page.press("#code-form .wide")
			page.awaitPath("/user")
			page.awaitText("#account-name", "alice")
		},
		"a code of somebody new leads to the bind form": func(t *testing.T, in window) {
			w, _ := confirming(t, "code", nil)
			page := in.open(t, w.front.url("/login"))
			code := w.codeTo(t, w.scan(t, w.person(false), page.ticket()))
			page.awaitState("scanned-code")
			page.fill("#code", code)
			page.key(kb.Enter)
			page.awaitState("bind")
		},
		"a code typed in the wrong browser": func(t *testing.T, in window) {
			w, who := confirming(t, "code", nil)
			right := newBrowser(t, w)
			stream := right.events(w.a)
			page := in.open(t, w.front.url("/login"))
			stranger := w.person(true)
			code := w.codeTo(t, w.scan(t, who, stream.code().Ticket))
			stream.askedForCode()
			w.scan(t, stranger, page.ticket())
			page.awaitState("scanned-code")
			page.expectError(http.StatusForbidden)
			for left := 2; left > 0; left-- {
				page.fill("#code", code)
				page.key(kb.Enter)
				page.awaitText("#code-error", fmt.Sprint("Tries left: ", left))
			}
			page.fill("#code", code)
			page.key(kb.Enter)
			page.awaitState("declined")
			right.post(w.b, "/login/confirm", jsonBody("code", code)).want(t, http.StatusOK)
			stream.expect("success")
		},
		"a scan is declined": func(t *testing.T, in window) {
			w, who := confirming(t, "reply", nil)
			page := in.open(t, w.front.url("/login"))
			before := page.ticket()
			w.scan(t, who, before)
			page.awaitState("scanned-reply")
			w.phoneSays(t, who, "不是我", "Declined")
			page.awaitState("declined")
			page.awaitText("#status", "wasn’t confirmed")
			page.press("#renew")
			page.awaitState("waiting")
			if page.ticket() == before {
				t.Error("the new code is the old one")
			}
		},
		"a number on a narrow phone in Chinese": func(t *testing.T, in window) { narrowConfirm(t, in, "reply", "zh-CN") },
		"a number on a narrow phone in English": func(t *testing.T, in window) { narrowConfirm(t, in, "reply", "en") },
		"a code on a narrow phone in Chinese":   func(t *testing.T, in window) { narrowConfirm(t, in, "code", "zh-CN") },
		"a code on a narrow phone in English":   func(t *testing.T, in window) { narrowConfirm(t, in, "code", "en") },
	}
}

func narrowConfirm(t *testing.T, in window, how, language string) {
	in.language, in.width = language, 360
	w, who := confirming(t, how, nil)
	page := in.open(t, w.front.url("/login"))
	w.scan(t, who, page.ticket())
	page.awaitState("scanned-" + how)
	page.awaitFit("what to do after the scan")
	w.phoneSays(t, who, "0", "Declined")
	page.awaitState("declined")
	page.awaitFit("a scan that was declined")
}

// number is the one that the page shows.
func (p *tab) number() string {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var scanned struct{ Number string }
	if err := json.Unmarshal([]byte(p.scanned), &scanned); err != nil || scanned.Number == "" {
		p.t.Fatalf("no number in %q", p.scanned)
	}
	return scanned.Number
}
