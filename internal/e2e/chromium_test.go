package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"scanlogin/internal/e2e/chromium"
)

// TestChromium drives the pages as people do, in one browser with a window for each test.
func TestChromium(t *testing.T) {
	t.Parallel()
	browser, stop, err := chromium.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w := newWorld(t, options{})
	ming := w.boundPerson(t, "alice")

	tests := map[string]func(*testing.T, window){
		"a scan leads to the user centre": func(t *testing.T, in window) {
			page := in.open(t, w.front.url("/login"))
			w.scan(t, ming, page.ticket())
			page.awaitPath("/user")
			page.awaitText("#account-name", "alice")
		},
		"a scan leads to where the person came from": func(t *testing.T, in window) {
			page := in.open(t, w.front.url("/login?next=/auth/verify"))
			w.scan(t, ming, page.ticket())
			page.awaitPath("/auth/verify")
		},
		"a first scan is bound": func(t *testing.T, in window) {
			w.account(t, "first")
			page := in.open(t, w.front.url("/login"))
			w.scan(t, w.person(false), page.ticket())
			page.awaitState("bind")
			page.expectError(http.StatusForbidden)
			page.fill("#bind-username", "first")
			page.fill("#bind-password", "not the password")
			page.press("#bind-form .wide")
			page.awaitText("#bind-error", "Wrong username or password.")
			page.fill("#bind-password", password)
			page.key(kb.Enter)
			page.awaitPath("/user")
			page.await(`document.getElementById('wechat-state').dataset.bound === 'true'`)
		},
		"two tabs share a login": func(t *testing.T, in window) {
			one := in.open(t, w.front.url("/login"))
			two := in.open(t, w.front.url("/login"))
			if one.ticket() != two.ticket() {
				t.Error("two tabs show two codes")
			}
			// Whoever comes second may do so before the cookie is there, and tries again.
			one.expectError(http.StatusGone)
			two.expectError(http.StatusGone)
			w.scan(t, ming, one.ticket())
			one.awaitPath("/user")
			two.awaitPath("/user")
		},
		"a reload keeps the code": func(t *testing.T, in window) {
			page := in.open(t, w.front.url("/login"))
			before := page.ticket()
			page.do(chromedp.Reload())
			page.awaitState("waiting")
			if page.ticket() != before {
				t.Error("another code after a reload")
			}
			w.scan(t, ming, before)
			page.awaitPath("/user")
		},
		"a password logs in, without its mistakes": func(t *testing.T, in window) {
			page := in.open(t, w.front.url("/login?next=/user"))
			page.expectError(http.StatusUnauthorized)
			page.fill("#username", "alice")
			page.fill("#password", "not the password")
			page.press("#login-form .wide")
			page.awaitText("#login-error", "Wrong username or password.")
			page.await(`document.getElementById('username').value === 'alice' && document.activeElement.id === 'password'`)
			page.fill("#password", password)
			page.key(kb.Enter)
			page.awaitPath("/user")
			page.press("#logout button")
			page.awaitPath("/login")
			page.awaitState("waiting")
		},
		"what was done to the account is there until it is read": func(t *testing.T, in window) {
			w.account(t, "reader")
			page := in.open(t, w.front.url("/login?next=/user"))
			page.fill("#username", "reader")
			page.fill("#password", password)
			page.key(kb.Enter)
			page.awaitPath("/user")
			page.press("#password summary")
			page.fill("#current", password)
			page.fill("#new", "battery staple")
			page.press("#password-form .button")
			page.awaitText("#notices-title", "Your account was changed")
			page.await(`document.getElementById('notices').textContent.includes('The password was changed')`)
			page.do(chromedp.Reload())
			page.press("#notices-seen button")
			page.await(`document.getElementById('notices') === null && document.getElementById('account-name') !== null`)
		},
		"a lost connection keeps the code": func(t *testing.T, in window) {
			front := newFront(t, w.a.addr)
			page := in.open(t, "http://"+front.addr()+"/login")
			before := page.ticket()
			page.expectError(0)
			front.route()
			page.await(`document.getElementById('panel').dataset.connection === 'lost'`)
			page.await(`!document.getElementById('connection').hidden && document.getElementById('connection').textContent !== ''`)
			page.awaitState("waiting")
			front.route(w.b.addr)
			page.await(`document.getElementById('panel').dataset.connection === 'ok' && document.getElementById('connection').hidden`)
			page.awaitState("waiting")
			if page.ticket() != before {
				t.Error("another code after the connection was lost")
			}
			w.scan(t, ming, before)
			page.await(`location.pathname === '/user' || document.getElementById('panel').dataset.state === 'success'`)
		},
		"Chinese": func(t *testing.T, in window) {
			in.language = "zh-CN,zh;q=0.9,en;q=0.8"
			page := in.open(t, w.front.url("/login"))
			page.await(`document.documentElement.lang === 'zh-CN'`)
			page.awaitText("#panel-title", "微信")
			w.scan(t, w.person(true), page.ticket())
			page.awaitState("bind")
			page.awaitText("#bind-title", "绑定")
		},
		"English": func(t *testing.T, in window) {
			in.language = "en-GB,en;q=0.9"
			page := in.open(t, w.front.url("/login"))
			page.await(`document.documentElement.lang === 'en'`)
			page.awaitText("#panel-title", "WeChat")
		},
		"a narrow phone in Chinese": func(t *testing.T, in window) { narrowPhone(t, w, in, "zh-CN") },
		"a narrow phone in English": func(t *testing.T, in window) { narrowPhone(t, w, in, "en") },
		"sessions on a phone":       func(t *testing.T, in window) { sessionsInABrowser(t, w, in) },
		"a new code by keyboard":    newCodeByKeyboard,
		"a busy site recovers":      busySite,
		"a new account":             newAccount,
		"a member who is gone":      goneInABrowser,
		"a restart goes unnoticed":  restartGoesUnnoticed,
	}
	maps.Copy(tests, confirmInChromium())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, window{ctx: browser, language: "en"}.another(t))
		})
	}
}

// narrowPhone looks for what sticks out at 360 px in every state of the pages.
func narrowPhone(t *testing.T, w *world, in window, language string) {
	in.language, in.width = language, 360
	name := "narrow-" + strings.ToLower(language)
	w.account(t, name)
	page := in.open(t, w.front.url("/login"))
	page.awaitFit("the code")
	w.scan(t, w.person(true), page.ticket())
	page.awaitState("bind")
	page.awaitFit("the form to bind")
	page.fill("#bind-username", name)
	page.fill("#bind-password", password)
	page.key(kb.Enter)
	page.awaitPath("/user")
	page.awaitFit("the user centre")
	page.do(chromedp.Click(chromedp.CSS("summary")))
	page.awaitFit("the question before unbinding")
	page.expectError(http.StatusNotFound)
	page.navigate(w.front.url("/nothing/here"))
	page.awaitFit("an error")
}

func newAccount(t *testing.T, in window) {
	w := newWorld(t, options{settings: settings{"SIGNUP": "on"}})
	w.account(t, "alice")
	page := in.open(t, w.front.url("/login"))
	w.scan(t, w.person(false), page.ticket())
	page.awaitState("bind")
	page.press("#bind-mode label:nth-of-type(2)")
	page.expectError(http.StatusConflict)
	page.fill("#bind-username", "alice")
	page.fill("#bind-password", password)
	page.key(kb.Enter)
	page.awaitText("#bind-error", "taken")
	page.fill("#bind-username", "carol")
	page.key(kb.Enter)
	page.awaitPath("/user")
	page.awaitText("#account-name", "carol")
}

func newCodeByKeyboard(t *testing.T, in window) {
	w := newWorld(t, options{settings: settings{"SCENE_TTL": "3s"}})
	page := in.open(t, w.front.url("/login"))
	old := page.ticket()
	page.awaitState("expired")
	for range 20 {
		page.key(kb.Tab)
		if page.is(`document.activeElement.id === 'renew'`) {
			break
		}
	}
	page.key(kb.Enter)
	page.awaitState("waiting")
	if page.ticket() == old {
		t.Error("the new code is the old one")
	}
	w.scan(t, w.person(true), page.ticket())
	page.awaitState("bind")
}

func busySite(t *testing.T, in window) {
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_REST": "0s", "SCENE_GRACE": "1s"}})
	held := newBrowser(t, w).events(w.a)
	held.code()
	page := in.openIn(t, w.front.url("/login"), "unavailable")
	page.await(`document.querySelector('[data-reason="pool_exhausted"]').checkVisibility()`)
	held.close()
	page.awaitState("waiting")
	w.scan(t, w.person(true), page.ticket())
	page.awaitState("bind")
}

func restartGoesUnnoticed(t *testing.T, in window) {
	w := newWorld(t, options{})
	who := w.boundPerson(t, "alice")
	w.front.route(w.a.addr)
	page := in.open(t, w.front.url("/login"))
	before := page.ticket()
	page.expectError(0)
	streams := page.streamsOpened()
	w.front.prefer(w.b.addr)
	w.a.stop()
	eventually(t, "the page is back", func() bool { return page.streamsOpened() > streams })
	page.awaitState("waiting")
	if page.ticket() != before {
		t.Error("another code after a restart")
	}
	w.scan(t, who, before)
	page.awaitPath("/user")
}

// window is a browser window of its own; its tabs share cookies.
type window struct {
	ctx      context.Context // chromedp keeps the browser in it
	language string
	width    int64
	root     string // what holds the panel, in JavaScript; empty: the document
}

// tab is a page in a tab, with all that went wrong in it.
type tab struct {
	t   testing.TB
	ctx context.Context // as above

	root string // as above

	mu       sync.Mutex
	problems []string
	allowed  []string
	code     string // the ticket that the stream brought last
	scanned  string // what it said of a scan last
	streams  int
}

// another is one like it that shares nothing with it.
func (in window) another(t testing.TB) window {
	t.Helper()
	ctx, cancel := chromedp.NewContext(in.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // now it exists, for the tabs to share
		t.Fatal(err)
	}
	in.ctx = ctx
	return in
}

// open opens a login page and waits for its code.
func (in window) open(t testing.TB, url string) *tab {
	t.Helper()
	return in.openIn(t, url, "waiting")
}

func (in window) openIn(t testing.TB, url, state string) *tab {
	t.Helper()
	p := in.at(t, url)
	p.awaitState(state)
	return p
}

// at opens any page.
func (in window) at(t testing.TB, url string) *tab {
	t.Helper()
	p := in.tab(t)
	p.navigate(url)
	return p
}

// tab is an empty one.
func (in window) tab(t testing.TB) *tab {
	t.Helper()
	p := &tab{t: t, root: cmp.Or(in.root, "document")}
	ctx, cancel := chromedp.NewContext(in.ctx, chromedp.WithListener(p.hear))
	p.ctx = ctx
	t.Cleanup(cancel)
	t.Cleanup(p.report)
	p.call(func() error {
		_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
		return err
	})
	p.call(func() error {
		_, err := chromedp.Call(ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{
			Headers: network.Headers{"Accept-Language": in.language},
		})
		return err
	})
	if in.width > 0 {
		p.do(chromedp.EmulateViewport(in.width, 640, chromedp.EmulateMobile, chromedp.EmulateTouch))
	}
	return p
}

func (p *tab) call(f func() error) {
	p.t.Helper()
	if err := f(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 2*patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) navigate(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
}

// hear takes in what happens in the page.
func (p *tab) hear(e any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := e.(type) {
	case *network.EventEventSourceMessageReceived:
		var code qrCode
		if e.EventName == "qr" && json.Unmarshal([]byte(e.Data), &code) == nil {
			p.code = code.Ticket
			p.streams++
		}
		if e.EventName == "scanned" {
			p.scanned = e.Data
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventConsoleAPICalled:
		p.problems = append(p.problems, fmt.Sprintf("console.%s", e.Type))
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	}
}

// expectError allows the console to say that a request was answered with this status; 0:
// that it was not answered at all.
func (p *tab) expectError(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if status == 0 {
		p.allowed = append(p.allowed, "net::ERR_")
		return
	}
	p.allowed = append(p.allowed, fmt.Sprintf("a status of %d ", status))
}

// expectRefusal allows the console to say that the page may not read an answer.
func (p *tab) expectRefusal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, "blocked by CORS policy", "net::ERR_FAILED", "a status of 403 ")
}

// report fails the test for what the console shows: errors of the script, violations of
// the Content-Security-Policy, requests that failed unexpectedly.
func (p *tab) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		if !slices.ContainsFunc(p.allowed, func(a string) bool { return strings.Contains(problem, a) }) {
			p.t.Errorf("in the page: %s", problem)
		}
	}
}

// ticket is that of the code the page shows.
func (p *tab) ticket() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}

func (p *tab) streamsOpened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams
}

// is evaluates a condition in the page; false also while the page is being exchanged.
func (p *tab) is(condition string) bool {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition))
	return err == nil && ok
}

func (p *tab) await(condition string) {
	p.t.Helper()
	p.awaitAs(condition, condition)
}

func (p *tab) awaitAs(what, condition string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			html, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`location.pathname + ' ' + document.body.innerText`))
			p.t.Logf("the page: %s", html)
		}
	}()
	eventually(p.t, what, func() bool { return p.is(condition) })
}

func (p *tab) awaitState(state string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`%s.getElementById('panel').dataset.state === '%s'`, p.root, state))
}

func (p *tab) awaitPath(path string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`location.pathname === '%s' && document.readyState === 'complete'`, path))
}

// awaitText waits until somebody can read the text there.
func (p *tab) awaitText(selector, text string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`%s.checkVisibility() && %[1]s.textContent.includes('%[2]s')`, p.find(selector), text))
}

// awaitFit waits until nothing sticks out to the right.
func (p *tab) awaitFit(what string) {
	p.t.Helper()
	p.awaitAs("no horizontal scrolling: "+what, `document.readyState === 'complete' && document.documentElement.scrollWidth <= document.documentElement.clientWidth`)
}

// fill types into a field. It doesn't use SendKeys, which reads the field's attributes while
// the page may be changing them.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	field := p.find(selector)
	p.do(chromedp.Clear(field), chromedp.Focus(field), chromedp.KeyEvent(text))
}

func (p *tab) press(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(p.find(selector)))
}

// find is the element, also inside a shadow root, where CSS alone doesn't get.
func (p *tab) find(selector string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf("%s.querySelector(`%s`)", p.root, selector))
}

func (p *tab) key(key string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(key))
}
