package wechatsim

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"scanlogin/internal/wechat"
)

func TestSimEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Safe)
		code := newCode(t, s, 7, 60)
		s.AddUser("gone", false)
		form := func(kv ...string) string {
			q := url.Values{}
			for i := 0; i < len(kv); i += 2 {
				q.Set(kv[i], kv[i+1])
			}
			return q.Encode()
		}
		for _, tt := range []struct {
			name, path, body string
			status           int
			field            string
			want             any
		}{
			{"new user", "/sim/users", "name=xiaoming&follower=true", 200, "openid", openID(testAppID, "xiaoming")},
			{"new user, JSON", "/sim/users", `{"name":"小红","follower":false}`, 200, "follower", false},
			{"user without name", "/sim/users", "name=+", 400, "error", "name is missing"},
			{"long name", "/sim/users", form("name", strings.Repeat("长", 33)), 400, "error", "name is longer than 32 characters"},
			{"scan by ticket", "/sim/scan", form("user", "xiaoming", "ticket", code.Ticket), 200, "reply", "welcome 7"},
			{"scan the latest, JSON", "/sim/scan", `{"user":"xiaoming","latest":true}`, 200, "event", "SCAN"},
			{"scan by url and openid", "/sim/scan", form("openid", openID(testAppID, "小红"), "url", code.URL), 200, "event_key", "qrscene_7"},
			{"scan by the page", "/sim/scan", form("user", "xiaoming", "code", pathOf(code.URL)), 200, "tries", 1.0},
			{"scan by nobody", "/sim/scan", "user=nobody&latest=1", 404, "error", `no such WeChat user called "nobody"; POST /sim/users with name=nobody adds one`},
			{"scan without user", "/sim/scan", "latest=1", 400, "error", "user (a name) or openid is missing"},
			{"scan of nothing", "/sim/scan", "user=xiaoming", 400, "error", "ticket, url or latest=true is missing"},
			{"scan of an unknown ticket", "/sim/scan", "user=xiaoming&ticket=gQ", 404, "error", "no such QR code"},
			{"say", "/sim/say", "user=xiaoming&text=hi", 200, "reply", "welcome "},
			{"say nothing", "/sim/say", "user=xiaoming", 400, "error", "text is missing"},
			{"say as a stranger", "/sim/say", "user=gone&text=hi", 409, "error", ErrNotFollower.Error()},
			{"follow", "/sim/follow", "user=gone", 200, "event", "subscribe"},
			{"unsubscribe", "/sim/unsubscribe", "user=gone", 200, "event", "unsubscribe"},
			{"unsubscribe again", "/sim/unsubscribe", "user=gone", 409, "error", ErrNotFollower.Error()},
			{"broken JSON", "/sim/scan", `{"user":`, 400, "error", "the body is not a JSON object"},
			{"nested JSON", "/sim/scan", `{"user":{}}`, 400, "error", "user has to be a string, a number or a boolean"},
		} {
			status, answer := call(t, s, http.MethodPost, tt.path, tt.body)
			if status != tt.status || answer[tt.field] != tt.want {
				t.Errorf("%s: status %d, %v; want %d with %s %v", tt.name, status, answer, tt.status, tt.field, tt.want)
			}
		}
		if n := len(a.pushes()); n != 7 {
			t.Errorf("%d pushes, want 7", n)
		}
		time.Sleep(time.Minute)
		for body, want := range map[string]int{form("user", "xiaoming", "ticket", code.Ticket): 410, "user=xiaoming&latest=true": 404} {
			if status, answer := call(t, s, http.MethodPost, "/sim/scan", body); status != want {
				t.Errorf("after expiry: status %d, %v; want %d", status, answer, want)
			}
		}
	})
}

func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := world(t, Safe)
		_, before := call(t, s, http.MethodGet, "/sim/version", "")
		u, code := s.AddUser("xiaoming", true), newCode(t, s, 7, 60)
		time.Sleep(500 * time.Millisecond)
		if _, err := s.Scan(t.Context(), u.OpenID, code.Ticket); err != nil {
			t.Fatal(err)
		}
		status, got := call(t, s, http.MethodGet, "/sim/state", "")
		first := got["codes"].([]any)[0].(map[string]any)
		user := got["users"].([]any)[0].(map[string]any)
		if status != 200 || first["ticket"] != code.Ticket || first["expires_in"] != 60.0 || first["scene"] != "7" || first["site"] != "one.test" || first["scans"] != 1.0 {
			t.Errorf("status %d, code %v", status, first)
		}
		if user["openid"] != u.OpenID || len(user["messages"].([]any)) != 2 {
			t.Errorf("user %v", user)
		}
		if got["version"] == before["version"] {
			t.Error("the version did not change")
		}
	})
}

func TestFaultsOfTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		set := func(body string, want int) {
			t.Helper()
			if status, answer := call(t, s, http.MethodPost, "/sim/faults", body); status != want {
				t.Errorf("%s: status %d, %v", body, status, answer)
			}
		}
		token, _, _ := stableToken(t, s, false)
		set("code=45009&endpoint=qrcode/create&calls=-1", 200)
		set(`{"code":-1,"calls":2}`, 200)
		for _, want := range []int{-1, -1, 0} {
			if got := tryToken(t, s, token); got != want {
				t.Errorf("errcode %d, want %d", got, want)
			}
		}
		for range 3 {
			if _, answer := call(t, s, http.MethodPost, "/cgi-bin/qrcode/create?access_token="+token, "{}"); errcodeOf(answer) != codeDailyQuota {
				t.Errorf("%v", answer)
			}
		}
		set("code=40164&endpoint=stable_token", 200)
		_, answer := call(t, s, http.MethodPost, "/cgi-bin/stable_token", "{}")
		if msg, _ := answer["errmsg"].(string); !strings.HasPrefix(msg, "invalid ip 192.0.2.1 ipv6 ::ffff:192.0.2.1, not in whitelist rid: ") {
			t.Errorf("errmsg %q", msg)
		}
		set("tokens=expire", 200)
		if got := tryToken(t, s, token); got != codeTokenExpired {
			t.Errorf("errcode %d", got)
		}
		set("clear=true&api_latency=3s", 200)
		began := time.Now()
		if _, _, code := stableToken(t, s, false); code != 0 || time.Since(began) != 3*time.Second {
			t.Errorf("errcode %d after %v", code, time.Since(began))
		}
		set("api_latency=1s&api_jitter=2s", 200)
		took := map[time.Duration]bool{}
		for range 8 {
			began = time.Now()
			stableToken(t, s, false)
			d := time.Since(began)
			if d < time.Second || d >= 3*time.Second {
				t.Errorf("an answer after %v", d)
			}
			took[d] = true
		}
		if len(took) < 4 {
			t.Errorf("8 answers after %v", took)
		}
		before := s.Faults()
		for _, bad := range []string{"api_jitter=-1s", "push_delay=2m", "code=x", "calls=2&code=40001&endpoint=nothing", "drop_tries=-2", "api_latency=soon", "tokens=eat", "lose_replies=1&duplicates=many"} {
			set(bad, 400)
		}
		if after := s.Faults(); after.APILatency != before.APILatency || after.LoseReplies != 0 {
			t.Errorf("a refused request changed the faults: %+v", after)
		}
		st := s.Stats()
		if st.Calls[EndpointQRCode] != 3 || st.CallErrors[EndpointQRCode] != 3 {
			t.Errorf("counted %v, %v", st.Calls, st.CallErrors)
		}
	})
}

func TestForeignPagesMayNotScan(t *testing.T) {
	s, a := world(t, Safe)
	s.AddUser("xiaoming", true)
	newCode(t, s, 7, 60)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if status, _ := call(t, s, http.MethodPost, "/sim/scan", "user=xiaoming&latest=1", header...); status != http.StatusForbidden {
			t.Errorf("%v: status %d", header, status)
		}
	}
	if len(a.pushes()) != 0 {
		t.Error("it was pushed nevertheless")
	}
}

func get(t *testing.T, s *Server, target, language string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestPage(t *testing.T) {
	s, a := world(t, Safe)
	a.answer = func(w http.ResponseWriter, _ *http.Request, p pushed, _ int) {
		a.reply(w, p, `<script>alert(1)</script> <a href="https://example.com/a?b&c">here</a> <a href="javascript:x">no</a>`)
	}
	ming, eve := s.AddUser("xiaoming", true), s.AddUser(`<b>"eve`, false)
	first := newCode(t, s, 7, 60)
	newCode(t, s, 8, 60)
	if _, err := s.Scan(t.Context(), ming.OpenID, first.Ticket); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name, target, language string
		has, hasNot            []string
	}{
		{
			"English", "/", "en-GB,zh;q=0.5",
			[]string{
				`<html lang="en">`, "Scan as xiaoming", "scene 7", "scene 8", "not a follower", "Scanned the QR code of scene 7",
				"&lt;script&gt;alert(1)", `<a href="https://example.com/a?b&amp;c" rel="noreferrer" target="_blank">here</a>`, "&lt;b&gt;",
			},
			[]string{"<script>alert", `href="javascript`, `<b>"eve`, "style=", "onclick"},
		},
		{"Chinese", "/", "fr, zh-CN;q=0.9", []string{`<html lang="zh-CN">`, "用 xiaoming 的手机扫码", "场景 7", "未关注"}, []string{"Scan as"}},
		{"no language", "/", "", []string{`<html lang="en">`}, nil},
		{"scanned by a real phone", "/q/" + pathOf(first.URL), "en", []string{`value="` + pathOf(first.URL) + `" checked`}, nil},
		{"as somebody else", "/?user=" + eve.OpenID, "en", []string{"Scanning makes &lt;b&gt;&#34;eve follow the account", "Follow the account to write to it"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := get(t, s, tt.target, tt.language)
			if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'self'") {
				t.Fatalf("status %d, %v", w.Code, w.Header())
			}
			for _, want := range tt.has {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			for _, not := range tt.hasNot {
				if strings.Contains(w.Body.String(), not) {
					t.Errorf("the page has %q", not)
				}
			}
		})
	}
}

func TestPageOfACodeThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := world(t, Safe)
		s.AddUser("xiaoming", true)
		old := pathOf(newCode(t, s, 7, 60).URL)
		time.Sleep(10 * time.Minute)
		other := pathOf(newCode(t, s, 8, 60).URL)
		checked := func(path string) string { return `value="` + path + `" checked` }
		if body := get(t, s, "/q/"+old, "en").Body.String(); !strings.Contains(body, checked(old)) || strings.Contains(body, checked(other)) {
			t.Error("the phone should look at the expired code")
		}
		if body := get(t, s, "/q/nothing", "en").Body.String(); !strings.Contains(body, "This QR code has expired") || strings.Contains(body, checked(other)) {
			t.Error("the phone should look at no code")
		}
		if body := get(t, s, "/?code="+old, "en").Body.String(); !strings.Contains(body, checked(other)) {
			t.Error("the page should go on with the newest code")
		}
	})
}

func TestVerifyCallbacks(t *testing.T) {
	var answer func(w http.ResponseWriter, r *http.Request)
	callback := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer callback.Close()
	s := newServer(t, Config{CallbackURLs: []string{callback.URL + "/wechat/callback?site=1"}})
	for _, tt := range []struct {
		name   string
		status int
		answer func(w http.ResponseWriter, r *http.Request)
	}{
		{"right", 200, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if r.Method != http.MethodGet || q.Get("site") != "1" || q.Get("signature") != wechat.Sign(testToken, q.Get("timestamp"), q.Get("nonce")) {
				t.Errorf("%s %v", r.Method, q)
			}
			_, _ = io.WriteString(w, q.Get("echostr"))
		}},
		{"other body", 502, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "success") }},
		{"forbidden", 502, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }},
	} {
		answer = tt.answer
		if status, got := call(t, s, http.MethodPost, "/sim/verify", ""); status != tt.status {
			t.Errorf("%s: status %d, %v", tt.name, status, got)
		}
	}
	if status, _ := call(t, newServer(t, Config{}), http.MethodPost, "/sim/verify", ""); status != http.StatusServiceUnavailable {
		t.Errorf("no callback: status %d", status)
	}
}

func TestPageWithNothing(t *testing.T) {
	w := get(t, newServer(t, Config{}), "/", "en")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Choose a person and a code") {
		t.Errorf("status %d", w.Code)
	}
}

func TestPlainFormLeadsBackToThePage(t *testing.T) {
	s := newServer(t, Config{})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/sim/users", strings.NewReader("name=xiaoming"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if want := "/?code=&user=" + openID(testAppID, "xiaoming"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != want {
		t.Errorf("status %d to %q", w.Code, w.Header().Get("Location"))
	}
}

func TestAssets(t *testing.T) {
	s := newServer(t, Config{})
	for path, want := range map[string]string{"phone.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"} {
		w := get(t, s, "/assets/"+path, "")
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), want) {
			t.Errorf("%s: status %d, %s", path, w.Code, w.Header().Get("Content-Type"))
		}
	}
	if w := get(t, s, "/assets/page.html", ""); w.Code != http.StatusNotFound {
		t.Errorf("the page's template: status %d", w.Code)
	}
}
