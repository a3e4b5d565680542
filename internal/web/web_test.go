package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"rsc.io/qr/coding"

	"scanlogin/internal/account"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
)

// newServer is a server without anything behind it: for what is decided before the
// domain is asked. What lies behind is tested from outside, in internal/e2e.
func newServer(t testing.TB, public string, change ...func(*Config)) (*Server, http.Handler, *bytes.Buffer) {
	t.Helper()
	u, err := url.Parse(public)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := &Server{
		Config:   Config{PublicURL: u},
		Logins:   &login.Service{SceneTTL: 3 * time.Minute, BindTTL: 10 * time.Minute},
		Accounts: &account.Service{SessionTTL: time.Hour},
		Logger:   slog.New(slog.NewJSONHandler(&log, nil)),
	}
	for _, c := range change {
		c(&s.Config)
	}
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	return s, h, &log
}

func TestNextStaysHere(t *testing.T) {
	s, _, _ := newServer(t, "https://login.example.com", func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
	for raw, want := range map[string]string{
		"/orders?id=7#x":                       "/orders?id=7#x",
		"/a//b":                                "/a//b",
		"https://app.example.com/a?b":          "https://app.example.com/a?b",
		"https://APP.example.com/a":            "https://APP.example.com/a",
		"https://login.example.com/x":          "https://login.example.com/x",
		"":                                     "/user",
		"orders":                               "/user",
		"//evil.example":                       "/user",
		"///evil.example":                      "/user",
		`/\evil.example`:                       "/user",
		`\/evil.example`:                       "/user",
		"/\t/evil.example":                     "/user",
		" /orders":                             "/user",
		"https:evil.example":                   "/user",
		"https:/evil.example":                  "/user",
		"https://evil.example/":                "/user",
		"http://app.example.com/":              "/user", // another scheme is another origin
		"https://app.example.com:8443/":        "/user",
		"https://app.example.com.evil.example": "/user",
		"https://app.example.com@evil.example": "/user",
		"https://u:p@app.example.com/":         "/user",
		"javascript:alert(1)":                  "/user",
		"data:text/html,x":                     "/user",
		"/" + strings.Repeat("a", 3000):        "/user",
		"/%zz":                                 "/user",
	} {
		if got := s.next(raw); got != want {
			t.Errorf("next(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestCookiesAreForThisHostAndNoScript(t *testing.T) {
	for _, tt := range []struct {
		public, domain, login, session string
		secure                         bool
	}{
		{"http://localhost:8080", "", "scanlogin_login", "scanlogin_session", false},
		{"https://login.example.com", "", "__Host-scanlogin_login", "__Host-scanlogin_session", true},
		{"https://login.example.com", "example.com", "__Host-scanlogin_login", "__Secure-scanlogin_session", true},
	} {
		s, _, _ := newServer(t, tt.public, func(c *Config) { c.CookieDomain = tt.domain })
		w := httptest.NewRecorder()
		s.setLoginKey(w, login.Key{Scene: 7, Secret: login.NewSecret()})
		s.setSession(w, account.NewToken())
		s.Limits = &limit.Limiter{}
		s.setKnown(w, "alice")
		cookies := w.Result().Cookies()
		if len(cookies) != 3 {
			t.Fatalf("%d cookies", len(cookies))
		}
		if known := cookies[2]; known.Name != strings.Replace(tt.login, "_login", "_known", 1) || known.Domain != "" {
			t.Errorf("%s: got %s (domain %q)", tt.public, known.Name, known.Domain)
		}
		if l, ss := cookies[0], cookies[1]; l.Name != tt.login || ss.Name != tt.session || l.Domain != "" || ss.Domain != tt.domain {
			t.Errorf("%s, %q: got %s (domain %q) and %s (domain %q)", tt.public, tt.domain, l.Name, l.Domain, ss.Name, ss.Domain)
		}
		for _, c := range cookies {
			if !c.HttpOnly || c.Secure != tt.secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge <= 0 {
				t.Errorf("%s: %+v", tt.public, c)
			}
		}
	}
}

func TestForeignPagesAreRefused(t *testing.T) {
	_, h, _ := newServer(t, "https://login.example.com")
	routes := []string{
		"POST /login", "POST /login/confirm", "POST /login/complete", "POST /user/bind", "POST /user/unbind", "POST /logout",
		"POST /user/sessions/revoke", "POST /user/password",
		"GET /login/events", // it begins a login
	}
	foreign := []http.Header{
		{"Origin": {"https://evil.example"}},
		{"Origin": {"null"}},
		{"Sec-Fetch-Site": {"cross-site"}},
		{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://app.example.com"}},
	}
	for _, route := range routes {
		for _, head := range foreign {
			method, path, _ := strings.Cut(route, " ")
			r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+path, nil)
			r.Header = head
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusForbidden {
				t.Errorf("%s with %v: %d, want 403", route, head, w.Code)
			}
		}
	}
}

func TestOwnPagesAreServed(t *testing.T) {
	s, _, _ := newServer(t, "https://login.example.com")
	for _, head := range []http.Header{
		{},
		{"Sec-Fetch-Site": {"same-origin"}},
		{"Sec-Fetch-Site": {"none"}},
		// A proxy in front changes Host: the public origin counts.
		{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://login.example.com"}},
		{"Origin": {"https://login.example.com"}},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://10.0.0.7:8080/login/events", nil)
		r.Header = head
		if s.isForeign(r) {
			t.Errorf("%v is refused", head)
		}
	}
}

// Users of the team's own are made, and their passwords changed, elsewhere.
func TestForeignUsersHaveNoPasswordHere(t *testing.T) {
	_, h, _ := newServer(t, "http://localhost:8080", func(c *Config) { c.ForeignUsers = true })
	for _, path := range []string{"/user/password", "/user/signup"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("current=a&password=another+long+one"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestErrorsInTheFormAskedFor(t *testing.T) {
	_, h, _ := newServer(t, "http://localhost:8080")
	for _, tt := range []struct {
		method, path, accept, body, contentType string
		status                                  int
		wantType, want                          string
	}{
		{"GET", "/nowhere", "text/html", "", "", 404, "text/html; charset=utf-8", "There is no such page"},
		{"GET", "/nowhere", "application/json", "", "", 404, "application/json; charset=utf-8", `"error":"not_found"`},
		{"GET", "/nowhere", "", "", "", 404, "text/plain; charset=utf-8", "not_found"},
		{"PUT", "/login", "application/json", "", "", 405, "application/json; charset=utf-8", `"error":"method_not_allowed"`},
		{"TRACE", "/login", "", "", "", 405, "text/plain; charset=utf-8", "method_not_allowed"},
		{"POST", "/login/complete", "", "", "", 409, "application/json; charset=utf-8", `"error":"not_ready"`},
		{"POST", "/login/complete", "", "{", "application/json", 400, "application/json; charset=utf-8", `"error":"bad_request"`},
		{"POST", "/login/complete", "", "<a/>", "text/xml", 415, "application/json; charset=utf-8", `"error":"bad_request"`},
		{"POST", "/user/bind", "", "username=a&password=b", "application/x-www-form-urlencoded", 409, "application/json; charset=utf-8", `"status":false`},
		{"POST", "/login/confirm", "", "code=123456", "application/x-www-form-urlencoded", 409, "application/json; charset=utf-8", `"error":"nothing_to_confirm"`},
		{"POST", "/login/confirm", "", "{", "application/json", 400, "application/json; charset=utf-8", `"status":false`},
		{"POST", "/login", "", "username=" + strings.Repeat("a", 70<<10), "application/x-www-form-urlencoded", 413, "text/plain; charset=utf-8", "too_large"},
		{"POST", "/user/signup", "application/json", "", "", 404, "application/json; charset=utf-8", `"error":"not_found"`},
		{"GET", "/auth/verify", "", "", "", 401, "text/plain; charset=utf-8", "unauthenticated"},
		{"POST", "/user/sessions/revoke", "", "{}", "application/json", 400, "application/json; charset=utf-8", `"error":"bad_request"`},
		{"POST", "/user/sessions/revoke", "text/html", "{}", "application/json", 400, "text/html; charset=utf-8", "malformed"},
		{"POST", "/user/sessions/revoke", "", "others=true", "application/x-www-form-urlencoded", 401, "text/plain; charset=utf-8", "unauthenticated"},
		{"GET", "/user/sessions", "application/json", "", "", 401, "application/json; charset=utf-8", `"error":"unauthenticated"`},
		{"POST", "/user/password", "application/json", "", "", 401, "application/json; charset=utf-8", `"error":"unauthenticated"`},
		{"POST", "/user/unbind", "text/html", "", "", 401, "text/html; charset=utf-8", "sign in first"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Accept", tt.accept)
		r.Header.Set("Content-Type", tt.contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || w.Header().Get("Content-Type") != tt.wantType || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s (Accept %q): %d %s\n%.300s", tt.method, tt.path, tt.accept, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}

// Each code that an answer carries needs words for people, in both languages.
// What a proxy asks with, for whoever has no session: a page is led to where there are some, a
// script hears of it.
func TestVerifyLeadsPagesToTheLogin(t *testing.T) {
	_, h, _ := newServer(t, "https://login.example.com")
	const page = "https://login.example.com/login?next=https%3A%2F%2Fapp.example.com%2Fa%3Fb%3D1%26c%3D%2525"
	for _, tt := range []struct{ query, method, accept, want string }{
		{"?redirect", "GET", "text/html,*/*;q=0.8", page},
		{"?redirect", "HEAD", "text/html", page},
		{"?redirect", "", "text/html", page},
		{"?redirect", "POST", "text/html", ""},
		{"?redirect", "GET", "application/json", ""},
		{"?redirect", "GET", "*/*", ""},
		{"", "GET", "text/html", ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/auth/verify"+tt.query, nil)
		r.Header = http.Header{
			"Accept": {tt.accept}, "X-Forwarded-Method": {tt.method}, "X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host": {"app.example.com"}, "X-Forwarded-Uri": {"/a?b=1&c=%25"},
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		status := http.StatusUnauthorized
		if tt.want != "" {
			status = http.StatusFound
		}
		if got := w.Header().Get("Location"); w.Code != status || got != tt.want {
			t.Errorf("%+v: %d, Location %q", tt, w.Code, got)
		}
	}
}

func TestEveryErrorHasWords(t *testing.T) {
	for _, a := range answers() {
		for _, lang := range []string{langChinese, langEnglish} {
			texts := TextsIn(lang)
			if _, ok := texts.errors[a.code]; !ok && !strings.HasPrefix(a.err.Error(), "wechat") && !isCallbackCode(a.code) {
				t.Errorf("%s: no words for %q", lang, a.code)
			}
		}
	}
}

// isCallbackCode: WeChat's servers read no words.
func isCallbackCode(code string) bool {
	return code == "bad_signature" || code == "wrong_mode" || code == "foreign_appid" || code == "foreign_account" || code == "stale" || code == "busy"
}

func TestWrappedErrorsKeepTheirStatus(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("completing: %w", login.ErrEnded), 410},
		{fmt.Errorf("completing: %w", login.ErrNotReady), 409},
		{unstored{fmt.Errorf("recording: %w", login.ErrEnded)}, 503},
		{errors.New("pool is closed"), 500},
	} {
		if got := answerTo(tt.err).status; got != tt.status {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.status)
		}
	}
}

func TestLogHasNoQueryAndNoInternals(t *testing.T) {
	_, h, log := newServer(t, "http://localhost:8080")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/nowhere?signature=s3cret&openid=oSecret", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if strings.Contains(log.String(), "ecret") {
		t.Errorf("the query is in the log: %s", log)
	}
	var line struct {
		Path, Error string
		Status      int
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Path != "/nowhere" || line.Status != 404 || line.Error != "not_found" {
		t.Errorf("one line a request: %s (%v)", log, err)
	}
}

func TestForgedForwardedForIsIgnored(t *testing.T) {
	for _, tt := range []struct {
		proxies, want string
	}{
		{"", "192.0.2.1"},
		{"10.0.0.0/8", "192.0.2.1"},          // the peer is no proxy of ours
		{"192.0.2.0/24", "203.0.113.9"},      // it is: its word counts, the client's before it doesn't
		{"192.0.2.1/32", "203.0.113.9"},      //
		{"2001:db8::/32", "192.0.2.1"},       //
		{"192.168.0.0/16", "192.0.2.1"},      //
		{"127.0.0.0/8,::1/128", "192.0.2.1"}, //
	} {
		_, h, log := newServer(t, "http://localhost:8080", func(c *Config) {
			for p := range strings.SplitSeq(tt.proxies, ",") {
				if p != "" {
					c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
				}
			}
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/nowhere", nil)
		r.RemoteAddr = "192.0.2.1:4711"
		r.Header.Set("X-Forwarded-For", "127.0.0.1, 203.0.113.9")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if !strings.Contains(log.String(), `"ip":"`+tt.want+`"`) {
			t.Errorf("proxies %q: want %s in %s", tt.proxies, tt.want, log)
		}
	}
}

func TestPlaceIsTakenFromOurProxiesAlone(t *testing.T) {
	s, _, _ := newServer(t, "http://localhost:8080", func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.PlaceHeader = "X-City"
	})
	for _, tt := range []struct{ remote, header, want string }{
		{"192.0.2.1:4711", "上海", "上海"},
		{"[::ffff:192.0.2.1]:4711", " Shanghai ", "Shanghai"},
		{"192.0.2.1:4711", "a\r\nb\x00\xff", "ab"},
		{"192.0.2.1:4711", strings.Repeat("长", 100), strings.Repeat("长", 64)},
		{"203.0.113.9:4711", "上海", ""},
		{"nonsense", "上海", ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/login/events", nil)
		r.RemoteAddr = tt.remote
		r.Header.Set("X-City", tt.header)
		if got := s.place(r); got != tt.want {
			t.Errorf("place of %q from %s = %q, want %q", tt.header, tt.remote, got, tt.want)
		}
	}
}

func TestABrowserIsNotedWhereSomebodyIsAskedAboutIt(t *testing.T) {
	s, _, _ := newServer(t, "http://localhost:8080")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/login/events", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	if got := s.originOf(r); got != (login.Origin{}) {
		t.Errorf("noted %+v, and nobody is asked", got)
	}
	s.Logins.Confirm = login.ConfirmReply
	if got := s.originOf(r); got != (login.Origin{Browser: "Firefox, Linux"}) {
		t.Errorf("noted %+v", got)
	}
}

func TestPagesAndAssets(t *testing.T) {
	s, h, _ := newServer(t, "https://login.example.com")
	get := func(path, language string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.Header.Set("Accept-Language", language)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	en, zh := get("/login?next=/orders", "en"), get("/login?next=//evil.example", "zh-CN,zh;q=0.9")
	if en.Code != 200 || !strings.Contains(en.Body.String(), `lang="en"`) || !strings.Contains(en.Body.String(), `value="/orders"`) {
		t.Errorf("English page: %d\n%s", en.Code, en.Body)
	}
	if !strings.Contains(zh.Body.String(), `lang="zh-CN"`) || strings.Contains(zh.Body.String(), "evil") {
		t.Errorf("Chinese page:\n%s", zh.Body)
	}
	for _, w := range []*httptest.ResponseRecorder{en, get("/nowhere", "en")} {
		if w.Header().Get("Strict-Transport-Security") == "" || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none';") {
			t.Errorf("header %v", w.Header())
		}
	}
	for name := range s.assets.files {
		w := get(s.assets.url(name), "")
		if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
		if w := get("/static/"+name, ""); w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s without its digest is kept: %v", name, w.Header())
		}
	}
	for _, path := range []string{"/static/", "/static/templates/login.html", "/static/../go.mod", "/static/static.go", "/static/0123/4567/login.js"} {
		if w := get(path, ""); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// Whatever is answered, also to whom it is refused, the browser is told to trust little.
func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	for _, public := range []string{"https://login.example.com", "http://localhost:8080"} {
		s, h, _ := newServer(t, public, func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
		want := map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
				"form-action 'self' https://app.example.com; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Permissions-Policy":           "camera=(), microphone=(), geolocation=()",
			"Access-Control-Allow-Origin":  "",
			"Strict-Transport-Security":    "",
		}
		if s.secure() {
			want["Strict-Transport-Security"] = "max-age=31536000"
		}
		for _, request := range []string{
			"GET /login", "GET /", "GET /nowhere", "PUT /login", "TRACE /login", "GET /auth/verify", "POST /login/complete", "POST /user/unbind",
			"GET /wechat/callback", "GET " + s.assets.url("favicon.svg"), "GET /favicon.ico",
		} {
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
			r.Header.Set("Origin", "https://evil.example")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			for name, value := range want {
				if got := w.Header().Get(name); got != value {
					t.Errorf("%s, %s: %s is %q, want %q", public, request, name, got, value)
				}
			}
			if kept := w.Header().Get("Cache-Control"); kept != "no-store" && !strings.HasPrefix(path, "/static/") && path != "/favicon.ico" {
				t.Errorf("%s: Cache-Control is %q", request, kept)
			}
		}
	}
}

// The picture is what people scan: it has to say the URL, stay small, and have its margin.
func TestQRCodeReadsBack(t *testing.T) {
	contents := []string{
		"http://weixin.qq.com/q/02l8ZWZ6pPfvk1zcGm1sce",
		"http://192.168.1.5:8090/q/N94Lj6IzXmuNopHm0c9p",
		"https://example.com/" + strings.Repeat("x", 180),
	}
	for _, content := range contents {
		if got, err := readQR(t, content, nil); err != nil || got != content {
			t.Errorf("read %q (%v), want %s", got, err, content)
		}
	}
	// The decoder doesn't find every code, but reads each where it is told to look.
	pure := map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true}
	for i := range 200 {
		sum := sha256.Sum256([]byte{byte(i)})
		content := "http://weixin.qq.com/q/02" + base64.RawURLEncoding.EncodeToString(sum[:15])
		if got, err := readQR(t, content, pure); err != nil || got != content {
			t.Errorf("read %q (%v), want %s", got, err, content)
		}
	}
	if _, err := new(pictures).draw(strings.Repeat("x", 5000)); err == nil {
		t.Error("what fits no code must be an error")
	}
}

func readQR(t *testing.T, content string, hints map[gozxing.DecodeHintType]any) (string, error) {
	t.Helper()
	png, err := new(pictures).draw(content)
	if err != nil {
		t.Fatal(err)
	}
	if len(png) > 2500 {
		t.Errorf("%d bytes for %d characters", len(png), len(content))
	}
	img, _, err := image.Decode(bytes.NewReader(png))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 * modulePixels {
		for j := range img.Bounds().Dx() {
			for _, c := range []color.Color{img.At(i, j), img.At(j, i)} {
				if r, _, _, _ := c.RGBA(); r == 0 {
					t.Fatalf("%s: there is something in the margin", content)
				}
			}
		}
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	got, err := qrcode.NewQRCodeReader().Decode(bitmap, hints)
	if err != nil {
		return "", err
	}
	return got.GetText(), nil
}

// What is drawn is what was encoded, at every size, pixel by pixel.
func TestEveryModuleIsDrawn(t *testing.T) {
	var p pictures
	sizes := map[int]bool{}
	for n := 1; ; n += 11 {
		text := coding.String(strings.Repeat("scan", n)[:n])
		plan, err := p.planFor(text)
		if err != nil {
			break
		}
		code, err := plan.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(writePNG(code)))
		if err != nil {
			t.Fatalf("version %v: %v", plan.Version, err)
		}
		sizes[code.Size] = true
		width := (code.Size + 2*margin) * modulePixels
		if img.Bounds() != image.Rect(0, 0, width, width) {
			t.Fatalf("version %v is drawn in %v", plan.Version, img.Bounds())
		}
		for i := range width * width {
			x, y := i%width, i/width
			grey, _, _, _ := img.At(x, y).RGBA()
			if black := grey == 0; black != code.Black(x/modulePixels-margin, y/modulePixels-margin) {
				t.Fatalf("version %v: the pixel at %d, %d is wrong", plan.Version, x, y)
			}
		}
	}
	if len(sizes) != largestPNG {
		t.Errorf("%d sizes, want %d", len(sizes), largestPNG)
	}
}

const realURL = "http://weixin.qq.com/q/02l8ZWZ6pPfvk1zcGm1sce"

func TestReconnectDrawsNothing(t *testing.T) {
	var p pictures
	first, err := p.of(realURL)
	if err != nil {
		t.Fatal(err)
	}
	if png, ok := strings.CutPrefix(first, "data:image/png;base64,"); !ok || len(png) > 1500 {
		t.Errorf("%d bytes: %.40s", len(first), first)
	}
	var again string
	if n := testing.AllocsPerRun(100, func() { again, err = p.of(realURL) }); n != 0 || err != nil || again != first {
		t.Errorf("%v allocations, %v", n, err)
	}
	// Another code of that size makes 18: where its bits go is known.
	if n := testing.AllocsPerRun(100, func() { _, err = p.draw(realURL) }); n > 30 || err != nil {
		t.Errorf("drawing makes %v allocations, %v", n, err)
	}
}

func TestPicturesHaveABound(t *testing.T) {
	var p pictures
	p.keep("first", "x")
	for i := range 5 * generation {
		p.keep(strconv.Itoa(i), "x")
		if _, ok := p.kept(strconv.Itoa(max(0, i-generation+1))); !ok {
			t.Fatalf("one of the last %d is lost", generation)
		}
		if n := len(p.young) + len(p.old); n > 2*generation {
			t.Fatalf("%d are kept", n)
		}
	}
	if _, ok := p.kept("first"); ok {
		t.Error("the first is still there")
	}
}

func BenchmarkDrawQR(b *testing.B) {
	var p pictures
	for b.Loop() {
		if _, err := p.draw(realURL); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDrawQRAgain(b *testing.B) {
	var p pictures
	for b.Loop() {
		if _, err := p.of(realURL); err != nil {
			b.Fatal(err)
		}
	}
}
