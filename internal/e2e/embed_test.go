package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"scanlogin/internal/e2e/chromium"
)

// The hosts of docs/embed.md, and some that nobody allows.
const (
	loginHost  = "login.example.com"
	teamHost   = "www.example.com"   // allowed, of the same site
	shopHost   = "shop.example.net"  // allowed, of another
	sisterHost = "other.example.com" // of the same site, but not allowed
	evilHost   = "evil.example"      // neither
)

// sites are web sites by https that one browser alone finds: scanlogin behind a proxy, and
// those of others, which all serve what docs/embed.md tells them to.
type sites struct {
	world *world
	doc   string
	addr  string
	https *httptest.Server
}

func newSites(t *testing.T, also settings) *sites {
	t.Helper()
	doc, err := os.ReadFile("../../docs/embed.md")
	if err != nil {
		t.Fatal(err)
	}
	s := settings{"TRUSTED_PROXIES": "127.0.0.1"}
	for line := range strings.Lines(block(t, string(doc), "sh")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		s[name] = value
	}
	s["ALLOWED_ORIGINS"] += ",https://" + shopHost
	maps.Copy(s, also)
	sites := &sites{world: newWorld(t, options{settings: s}), doc: string(doc)}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetXForwarded()
		r.SetURL(&url.URL{Scheme: "http", Host: sites.world.front.addr()})
		r.Out.Host = r.In.Host
	}}
	sites.https = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == loginHost {
			proxy.ServeHTTP(w, r)
			return
		}
		sites.team(w, r)
	}))
	sites.https.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // what the browser asks for its own ends, by http
	sites.https.StartTLS()
	t.Cleanup(sites.https.Close)
	sites.addr = sites.https.Listener.Addr().String()
	return sites
}

// block is the first piece of code in that language in a document.
func block(t testing.TB, doc, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)\n```" + language + "\n(.*?)\n```").FindStringSubmatch(doc)
	if found == nil {
		t.Fatalf("no block of %q", language)
	}
	return found[1]
}

// team is a server of somebody who embeds the element.
func (s *sites) team(w http.ResponseWriter, r *http.Request) {
	_, policy, _ := strings.Cut(block(s.world.t, s.doc, "http"), ": ")
	policy += "; require-trusted-types-for 'script'; trusted-types scan-login"
	switch r.URL.Path {
	case "/login", "/login/stay":
		page := block(s.world.t, s.doc, "html")
		if r.URL.Path == "/login/stay" {
			page = strings.Replace(page, "<h1>", `<script type="module" src="/stay.js"></script><h1>`, 1)
		}
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	case "/stay.js":
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write([]byte(block(s.world.t, s.doc, "js")))
	case "/frame":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<iframe src="https://` + teamHost + `/login"></iframe>`))
	case "/me", "/account":
		_, _ = w.Write([]byte(s.visitor(r)))
	default:
		w.WriteHeader(http.StatusNoContent) // an icon
	}
}

// visitor asks scanlogin who that is, as a proxy does.
func (s *sites) visitor(r *http.Request) string {
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, s.world.front.url("/auth/verify"), http.NoBody)
	if err != nil {
		return err.Error()
	}
	ask.Header["Cookie"] = r.Header["Cookie"]
	resp, err := http.DefaultClient.Do(ask)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "nobody"
	}
	return resp.Header.Get("X-Auth-User")
}

// browse is a browser that finds every host here.
func (s *sites) browse(t *testing.T) window {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	browser, stop, err := chromium.Start(context.WithoutCancel(t.Context()),
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1:"+port), chromedp.IgnoreCertErrors)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return window{ctx: browser, language: "en", root: `document.querySelector('scan-login')?.shadowRoot`}
}

// listen notes what the element fires from now on.
func (p *tab) listen() {
	p.t.Helper()
	p.run(`window.heard = [];
		for (const name of ['qr', 'scanned', 'bind-required', 'success', 'expired', 'declined', 'error'])
			document.addEventListener('scan-login:' + name, (event) => heard.push(name + ' ' + JSON.stringify(event.detail)))`)
}

func (p *tab) awaitHeard(event string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`heard.some((event) => event.startsWith('%s'))`, event))
}

// run runs JavaScript to its end.
func (p *tab) run(script string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](`(async () => {`+script+`})()`, chromedp.EvalAwaitPromise))
}

func (p *tab) awaitAddress(address string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`location.href === '%s' && document.readyState === 'complete'`, address))
}

func TestEmbeddedPanel(t *testing.T) {
	t.Parallel()
	s := newSites(t, nil)
	w := s.world
	in := s.browse(t)
	w.account(t, "alice")
	who := w.person(false)

	// Somebody new binds, and comes to where the page wants them, known to its server.
	page := in.open(t, "https://"+teamHost+"/login")
	page.listen()
	w.scan(t, who, page.ticket())
	page.awaitState("bind")
	page.awaitHeard(`bind-required {"signup":false}`)
	page.expectError(http.StatusForbidden)
	page.fill("#bind-username", "alice")
	page.fill("#bind-password", "not the password")
	page.press("#bind-form .wide")
	page.awaitText("#bind-error", "Wrong username or password.")
	page.fill("#bind-password", password)
	page.key(kb.Enter)
	page.awaitAddress("https://" + teamHost + "/account")
	page.await(`document.body.innerText === 'alice'`)

	// From now on a scan is enough, also for a page that stays.
	page = in.open(t, "https://"+teamHost+"/login/stay")
	page.listen()
	w.scan(t, who, page.ticket())
	page.awaitHeard(fmt.Sprintf(`success {"redirect":"https://%s/account"}`, teamHost))
	page.await(`document.querySelector('h1').textContent === 'Hello, alice'`)
	page.awaitState("success")
	if !page.is(`location.pathname === '/login/stay'`) {
		t.Error("the page was left although it prevented that")
	}

	// A page may send JSON, about which browsers ask first; and nothing that isn't the element's.
	page.expectRefusal()
	page.expectError(http.StatusConflict)
	page.run(fmt.Sprintf(`
		const send = (path) => fetch('https://%s' + path, { method: 'POST', credentials: 'include', headers: { 'Content-Type': 'application/json' }, body: '{}' })
			.then((answer) => answer.status, () => 'refused');
		window.answers = [];
		for (const path of ['/login/complete', '/login/confirm', '/logout', '/user/unbind', '/user/password', '/user/sessions/revoke', '/login'])
			answers.push(path + ' ' + await send(path));
		answers.push('/auth/verify ' + await fetch('https://%[1]s/auth/verify', { credentials: 'include' }).then((answer) => answer.status, () => 'refused'));
	`, loginHost))
	page.await(`answers.join() === '/login/complete 200,/login/confirm 409,/logout refused,/user/unbind refused,/user/password refused,/user/sessions/revoke refused,/login refused,/auth/verify refused'`)
	page.navigate("https://" + teamHost + "/me")
	page.await(`document.body.innerText === 'alice'`) // still
}

func TestEmbeddedPanelEnds(t *testing.T) {
	t.Parallel()
	s := newSites(t, settings{"SCENE_TTL": "4s", "SCENE_GRACE": "1s"})
	w := s.world
	page := s.browse(t).open(t, "https://"+teamHost+"/login")
	page.listen()
	old := page.ticket()
	page.awaitState("expired")
	page.awaitHeard("expired {}")
	page.press("#renew")
	page.awaitState("waiting")
	page.awaitHeard(`qr {"expires_in":4}`)
	if page.ticket() == old {
		t.Error("the new code is the old one")
	}
	// Whoever takes it out of the page lets go of the code.
	page.run(`document.querySelector('scan-login').remove()`)
	eventually(t, "nobody streams", func() bool { return w.streams() == 0 })
	// And may put it back, in another language, and dark.
	page.run(`const again = document.createElement('scan-login');
		again.lang = 'zh'; again.setAttribute('theme', 'dark'); document.body.append(again)`)
	page.awaitState("waiting")
	page.awaitText("#panel-title", "微信")
	page.await(`getComputedStyle(document.querySelector('scan-login')).getPropertyValue('--ground') === '#121413'`)
	w.scan(t, w.person(true), page.ticket())
	page.awaitState("bind")
}

// Whoever finds no code waits, with a way around, and the page is told why.
func TestEmbeddedPanelWaits(t *testing.T) {
	t.Parallel()
	s := newSites(t, settings{"SCENE_POOL": "1", "SCENE_REST": "0s", "SCENE_GRACE": "1s"})
	w := s.world
	held := newBrowser(t, w).events(w.a)
	held.code()
	page := s.browse(t).openIn(t, "https://"+teamHost+"/login", "unavailable")
	page.listen()
	page.awaitHeard(`error {"reason":"pool_exhausted","retry_in":5}`)
	held.close()
	page.awaitState("waiting")
	page.awaitHeard("qr")
	page.press("[part=password]")
	page.awaitAddress("https://" + loginHost + "/login?next=https%3A%2F%2F" + teamHost + "%2Faccount")
}

// streams is how many are open, at both instances.
func (w *world) streams() float64 {
	w.t.Helper()
	return w.a.metric("scanlogin_streams_open") + w.b.metric("scanlogin_streams_open")
}

// held is how many scenes belong to a login.
func (w *world) held() int {
	w.t.Helper()
	return w.count("SELECT count(*) FROM scanlogin.scene WHERE login IS NOT NULL")
}

func TestEmbeddedConfirmation(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"reply", "code"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newSites(t, settings{"CONFIRM": how})
			w := s.world
			w.account(t, "alice")
			who := w.person(true)
			w.tie(t, who, "alice")
			page := s.browse(t).open(t, "https://"+teamHost+"/login")
			page.listen()
			d := w.scan(t, who, page.ticket())
			page.awaitState("scanned-" + how)
			page.awaitHeard(fmt.Sprintf(`scanned {"confirm":"%s"}`, how))
			page.await(page.root + `.getElementById('qr').checkVisibility() === false`)
			if how == "reply" {
				w.phoneSays(t, who, "不是我", "Declined")
				page.awaitState("declined")
				page.awaitHeard("declined {}")
				page.press("#renew")
				page.awaitState("waiting")
				w.scan(t, who, page.ticket())
				page.awaitState("scanned-reply")
				w.phoneSays(t, who, page.number(), "Logged in")
			} else {
				page.expectError(http.StatusForbidden)
				page.fill("#code", another(w.codeTo(t, d)))
				page.key(kb.Enter)
				page.awaitText("#code-error", "Tries left: 2")
				page.fill("#code", w.codeTo(t, d))
				page.key(kb.Enter)
			}
			page.awaitAddress("https://" + teamHost + "/account")
			page.await(`document.body.innerText === 'alice'`)
		})
	}
}

// Another site's cookies don't count: it leads to our page and gets its visitor back.
func TestEmbeddedElsewhere(t *testing.T) {
	t.Parallel()
	s := newSites(t, nil)
	w := s.world
	who := w.boundPerson(t, "alice")
	held := w.held()
	in := s.browse(t)
	page := in.at(t, "https://"+shopHost+"/login")
	page.awaitText("a.button", "Sign in with WeChat")
	if n := w.held(); n != held {
		t.Errorf("%d codes are held by a page that shows none", n-held)
	}
	page.press("a.button")
	page.awaitAddress("https://" + loginHost + "/login?next=https%3A%2F%2F" + shopHost + "%2Faccount")
	page.root = "document"
	page.awaitState("waiting")
	w.scan(t, who, page.ticket())
	page.awaitAddress("https://" + shopHost + "/account")
	page.await(`document.body.innerText === 'nobody'`) // the session is scanlogin's site's
}

// Whoever isn't allowed gets neither the element nor a code, with a copy of it either.
func TestForeignPagesCannotEmbed(t *testing.T) {
	t.Parallel()
	s := newSites(t, nil)
	in := s.browse(t)
	for _, host := range []string{sisterHost, evilHost} {
		page := in.tab(t)
		page.expectRefusal()
		page.navigate("https://" + host + "/login")
		page.await(`document.readyState === 'complete' && !customElements.get('scan-login') && !document.querySelector('scan-login').shadowRoot`)
		page.run(fmt.Sprintf(`
			const source = new EventSource('https://%s/login/events', { withCredentials: true });
			window.stream = await new Promise((tell) => {
				source.onopen = () => tell('open');
				source.onerror = () => tell(source.readyState === EventSource.CLOSED ? 'refused' : 'away');
			});
			const send = (path, options) => fetch('https://%[1]s' + path, { method: 'POST', credentials: 'include', ...options }).then((answer) => answer.type, () => 'refused');
			window.answers = [
				await send('/login/complete', { body: new URLSearchParams() }),
				await send('/login/complete', { body: '{}', headers: { 'Content-Type': 'application/json' } }),
				await send('/user/bind', { body: new URLSearchParams({ username: 'alice', password: 'x' }) }),
				await send('/login/events', { method: 'GET' }),
			];
		`, loginHost))
		page.await(`stream === 'refused' && answers.join() === 'refused,refused,refused,refused'`)
	}
	if n := s.world.held(); n != 0 {
		t.Errorf("%d codes were claimed", n)
	}
}

// A page that holds the team's in a frame shows its code, and whoever scans it is logged in
// nowhere: the cookies don't get there.
func TestFramedPanelLogsNobodyIn(t *testing.T) {
	t.Parallel()
	s := newSites(t, nil)
	w := s.world
	who := w.boundPerson(t, "alice")
	eventually(t, "nobody streams", func() bool { return w.streams() == 0 })
	page := s.browse(t).at(t, "https://"+evilHost+"/frame")
	eventually(t, "the frame has a code", func() bool { return w.streams() == 1 })
	code := w.sim.Codes()[0]
	w.keep(code.Ticket)
	w.scan(t, who, code.Ticket)
	eventually(t, "the frame has tried to complete its login", func() bool {
		return strings.Contains(w.a.log.String()+w.b.log.String(), "path=/login/complete status=409")
	})
	page.navigate("https://" + teamHost + "/me")
	page.await(`document.body.innerText === 'nobody'`)
}

// A page of the team's own may be of any size, and what it says about rem is its own affair.
func TestEmbeddedPanelFits(t *testing.T) {
	t.Parallel()
	s := newSites(t, settings{"CONFIRM": "reply"})
	browser := s.browse(t)
	for _, language := range []string{"en", "zh-CN"} {
		in := browser.another(t)
		in.language, in.width = language, 320
		page := in.open(t, "https://"+teamHost+"/login")
		style := "html { font-size: 100px } h1 { font-size: 20px } * { line-height: 3; text-align: right } " + block(t, s.doc, "css")
		page.run(`document.documentElement.lang = '` + language + `';
			const sheet = new CSSStyleSheet();
			sheet.replaceSync(` + strconv.Quote(style) + `);
			document.adoptedStyleSheets = [sheet];
			const old = document.querySelector('scan-login'), again = document.createElement('scan-login');
			old.replaceWith(again);`)
		page.awaitState("waiting")
		page.awaitFit("the code")
		page.await(page.root + `.querySelector('.code').clientWidth === 248 && getComputedStyle(` + page.root + `.querySelector('h2')).fontSize === '18px'`)
		// What the page says of the element counts.
		page.await(page.root + `.querySelector('[part=password]').checkVisibility() === false && getComputedStyle(` + page.root + `.getElementById('ring')).stroke === 'rgb(22, 119, 255)'`)
		s.world.scan(t, s.world.person(true), page.ticket())
		page.awaitState("scanned-reply")
		page.awaitFit("the number")
	}
}
