package web

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

const (
	team = "https://www.example.com"
	shop = "https://shop.example.net"
)

func newEmbedded(t *testing.T) http.Handler {
	t.Helper()
	_, h, _ := newServer(t, "https://login.example.com", func(c *Config) { c.AllowedOrigins = []string{team, shop} })
	return h
}

// Every route there is, from pages of every kind: only what <scan-login> asks for is open,
// to allowed pages of our site alone.
func TestOnlyTheElementsRoutesAreOpenToOtherOrigins(t *testing.T) {
	h := newEmbedded(t)
	open := []string{"GET /login/events", "POST /login/confirm", "POST /login/complete", "POST /user/bind", "POST /user/signup"}
	code := []string{"GET /embed.js", "GET /static/*"}
	pages := []struct {
		origin, site string
		embeds, code bool
	}{
		{team, "same-site", true, true},
		{shop, "cross-site", false, true},
		{team, "cross-site", false, true}, // by http, or the browser takes our host for another site
		{team, "", false, true},           // nobody says which site
		{"http://www.example.com", "cross-site", false, false},
		{"https://other.example.com", "same-site", false, false},
		{"https://www.example.com.evil.example", "cross-site", false, false},
		{"https://evil.example", "cross-site", false, false},
		{"null", "cross-site", false, false},
	}
	seen := 0
	for _, route := range h.(*echo.Echo).Routes() {
		name := route.Method + " " + route.Path
		if route.Method != http.MethodGet && route.Method != http.MethodPost {
			continue
		}
		isOpen, isCode := slices.Contains(open, name), slices.Contains(code, name)
		if isOpen || isCode {
			seen++
		}
		for _, p := range pages {
			ask := func(method string, head ...string) *httptest.ResponseRecorder {
				r := httptest.NewRequestWithContext(t.Context(), method, "http://10.0.0.7"+strings.Replace(route.Path, "*", "login.js", 1), nil)
				r.Header = http.Header{"Origin": {p.origin}, "Sec-Fetch-Site": {p.site}, "Last-Event-Id": {"success"}}
				for n := 0; n < len(head); n += 2 {
					r.Header.Set(head[n], head[n+1])
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				return w
			}
			w := ask(route.Method)
			checkShared(t, name, p.origin+" "+p.site, w, isOpen && p.embeds, isCode && p.code)
			guarded := route.Method == http.MethodPost || name == "GET /login/events"
			if refused := w.Code == http.StatusForbidden; guarded && route.Path != "/wechat/callback" && refused == (isOpen && p.embeds) {
				t.Errorf("%s from %s (%s): %d", name, p.origin, p.site, w.Code)
			}
			// What a browser asks before it sends JSON: it says by itself what the site is.
			w = ask(http.MethodOptions, "Access-Control-Request-Method", route.Method, "Access-Control-Request-Headers", "content-type")
			may := isOpen && route.Method == http.MethodPost && p.code
			checkShared(t, "preflight of "+name, p.origin+" "+p.site, w, may, false)
			if got := w.Header().Get("Access-Control-Allow-Methods"); (got == "POST") != may || (w.Header().Get("Access-Control-Allow-Headers") == "Content-Type") != may {
				t.Errorf("preflight of %s from %s: %v", name, p.origin, w.Header())
			}
		}
	}
	if seen != len(open)+len(code) {
		t.Errorf("%d of these routes are there, want %d", seen, len(open)+len(code))
	}
}

func checkShared(t *testing.T, what, who string, w *httptest.ResponseRecorder, withCookies, without bool) {
	t.Helper()
	origin, _, _ := strings.Cut(who, " ")
	if !withCookies && !without {
		origin = ""
	}
	credentials := ""
	if withCookies {
		credentials = "true"
	}
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != origin {
		t.Errorf("%s from %s: shared with %q, want %q", what, who, got, origin)
	}
	if got := w.Header().Get("Access-Control-Allow-Credentials"); got != credentials {
		t.Errorf("%s from %s: with credentials %q, want %q", what, who, got, credentials)
	}
	if (withCookies || without) && !slices.Contains(w.Header().Values("Vary"), "Origin") {
		t.Errorf("%s from %s: Vary %q", what, who, w.Header().Values("Vary"))
	}
}

// An error has to be readable, too, or the element can't say what is wrong.
func TestEmbeddedErrorsAreShared(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/user/bind", strings.NewReader("username=a&password=b"))
	r.Header = http.Header{"Origin": {team}, "Sec-Fetch-Site": {"same-site"}, "Content-Type": {"application/x-www-form-urlencoded"}, "Accept-Language": {"zh-CN"}}
	w := httptest.NewRecorder()
	newEmbedded(t).ServeHTTP(w, r)
	if w.Code != http.StatusConflict || w.Header().Get("Access-Control-Allow-Origin") != team || !hasHan(w.Body.String()) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestEmbedScript(t *testing.T) {
	h := newEmbedded(t)
	get := func(head http.Header) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/embed.js", nil)
		r.Header = head
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	panel, link := get(http.Header{"Origin": {team}, "Sec-Fetch-Site": {"same-site"}}), get(http.Header{"Origin": {shop}, "Sec-Fetch-Site": {"cross-site"}})
	for _, tt := range []struct {
		w    *httptest.ResponseRecorder
		want []string
		not  string
	}{
		{panel, []string{"const DIRECT = true;", chinese().ScanLead, english().ScanLead, english().PasswordInstead, "import { Panel, revealing } from 'https://login.example.com/static/"}, english().BindSkip},
		{link, []string{"const DIRECT = false;", chinese().LoginElsewhere, english().LoginElsewhere, "login.example.com"}, english().ScanLead},
	} {
		body := tt.w.Body.String()
		for _, want := range append(tt.want, "const ORIGIN = 'https://login.example.com';", ":host") {
			if !strings.Contains(body, want) {
				t.Errorf("/embed.js lacks %q", want)
			}
		}
		if strings.Contains(body, tt.not) {
			t.Errorf("/embed.js has %q", tt.not)
		}
		if found := regexp.MustCompile(`\d+rem|\{\{|<no value>`).FindString(body); found != "" {
			t.Errorf("/embed.js has %q", found)
		}
		head := tt.w.Header()
		if head.Get("Cache-Control") != "public, max-age=300" || !strings.HasPrefix(head.Get("Content-Type"), "text/javascript") ||
			!slices.Contains(head.Values("Vary"), "Sec-Fetch-Site") {
			t.Errorf("header %v", head)
		}
	}
	if get(http.Header{"Origin": {team}}).Header().Get("ETag") != link.Header().Get("ETag") {
		t.Error("where nobody says which site, the link isn't sent")
	}
	again := get(http.Header{"Origin": {team}, "Sec-Fetch-Site": {"same-site"}, "If-None-Match": {panel.Header().Get("ETag")}})
	if again.Code != http.StatusNotModified || again.Header().Get("Access-Control-Allow-Origin") != team {
		t.Errorf("asked again: %d %v", again.Code, again.Header())
	}
}

func TestLengthsDontDependOnThePage(t *testing.T) {
	for style, want := range map[string]string{
		"width: min(100% - 2rem, 55rem)": "width: min(100% - 32px, 880px)",
		"margin: -.375rem 0 .0625rem":    "margin: -6px 0 1px",
		"gap: 1.125rem; z: 3remx":        "gap: 18px; z: 3remx",
	} {
		if got := inPixels(style); got != want {
			t.Errorf("%s became %s, want %s", style, got, want)
		}
	}
}
