package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"scanlogin/internal/account"
)

func TestBrowsersAreCalledByTheirNames(t *testing.T) {
	const webkit = "AppleWebKit/537.36 (KHTML, like Gecko)"
	for userAgent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + " Chrome/140.0.0.0 Safari/537.36":                                          "Chrome, Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + " Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":                            "Edge, Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + " Chrome/138.0.0.0 Safari/537.36 OPR/122.0.0.0":                            "Opera, Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0":                                                 "Firefox, Windows",
		"Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko":                                                            "Internet Explorer, Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15":            "Safari, macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/26.0 Mobile/15E148 Safari/604.1":              "Safari, iOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 CriOS/140.0.7339.101 Mobile/15E148 Safari/604.1":      "Chrome, iOS",
		"Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 FxiOS/143.0 Mobile/15E148 Safari/605.1.15":                     "Firefox, iPadOS",
		"Mozilla/5.0 (Linux; Android 10; K) " + webkit + " Chrome/140.0.0.0 Mobile Safari/537.36":                                          "Chrome, Android",
		"Mozilla/5.0 (Linux; Android 15; 24129PN74C) " + webkit + " Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 MicroMessenger/8.0":  "WeChat, Android",
		"Mozilla/5.0 (Windows NT 10.0) " + webkit + " Chrome/132.0.0.0 Safari/537.36 MicroMessenger/7.0.20.1781(0x6700143B) WindowsWechat": "WeChat, Windows",
		"Mozilla/5.0 (Linux; Android 14; 23127PN0CC) " + webkit + " Version/4.0 Chrome/118.0 Mobile Safari/537.36 XiaoMi/MiuiBrowser/19.0": "Mi Browser, Android",
		"Mozilla/5.0 (Phone; OpenHarmony 5.0) " + webkit + " Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1 Mobile HuaweiBrowser/5.0.4.300": "Huawei Browser, HarmonyOS",
		"Mozilla/5.0 (Linux; Android 13; SM-S918B) " + webkit + " SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36":               "Samsung Internet, Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) " + webkit + " Chrome/140.0.0.0 Safari/537.36":                                           "Chrome, ChromeOS",
		"Mozilla/5.0 (X11; Linux x86_64) " + webkit + " HeadlessChrome/140.0.0.0 Safari/537.36":                                            "Chrome, Linux",
		"curl/8.14.1":        "curl, ",
		"Go-http-client/1.1": ", ",
		"":                   ", ",
		"Your bank: call us": ", ",
	} {
		browser, system := browserOf(userAgent)
		if got := browser + ", " + system; got != want {
			t.Errorf("%s: %q, want %q", userAgent, got, want)
		}
	}
}

// What a session keeps of its browser is bounded, and can be stored and shown.
func TestASessionKeepsWhatItsBrowserSays(t *testing.T) {
	s, _, _ := newServer(t, "http://localhost:8080")
	for says, want := range map[string]string{
		"curl/8.14.1":               "curl/8.14.1",
		" a\x00b\r\n\xff<i>\u202e ": "ab<i>",
		strings.Repeat("长", 1000):   strings.Repeat("长", maxBrowser),
		"":                          "",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/login", nil)
		r.Header.Set("User-Agent", says)
		had := account.NewToken()
		r.AddCookie(&http.Cookie{Name: s.sessionCookieName(), Value: had.Cookie()})
		token, session := s.newSession(r)
		if session.Browser != want || session.Hash != token.Hash() || session.Replaces != had.Hash() {
			t.Errorf("%q: %+v", says, session)
		}
	}
}

func TestWhatIsToBeRevokedIsSaidInOneWay(t *testing.T) {
	id := account.SessionID{1, 2, 3}
	for _, tt := range []struct {
		contentType, body string
		others, ok        bool
	}{
		{"application/json", `{"id":"` + id.String() + `"}`, false, true},
		{"application/json", `{"others":true}`, true, true},
		{"application/x-www-form-urlencoded", "id=" + id.String(), false, true},
		{"application/x-www-form-urlencoded", "others=true", true, true},
		{"application/x-www-form-urlencoded", "others=false&id=" + id.String(), false, true},
		{"application/json", `{}`, false, false},
		{"", "", false, false},
		{"application/json", `{"others":false}`, false, false},
		{"application/json", `{"others":"true"}`, false, false},
		{"application/json", `{"id":7}`, false, false},
		{"application/json", `{"id":"` + id.String() + `","others":true}`, false, false},
		{"application/json", `{"id":"` + id.String() + `x"}`, false, false},
		{"application/json", `{"id":"` + strings.Repeat("x", 32) + `"}`, false, false},
		{"application/x-www-form-urlencoded", "others=yes", false, false},
		{"application/x-www-form-urlencoded", "others=true&id=x", false, false},
		{"application/x-www-form-urlencoded", "id=", false, false},
		{"text/xml", "<id/>", false, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/user/sessions/revoke", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", tt.contentType)
		got, others, err := readRevoke(r)
		if (err == nil) != tt.ok || others != tt.others || err == nil && !others && got != id {
			t.Errorf("%s %q: %v, %v, %v", tt.contentType, tt.body, got, others, err)
		}
		if err != nil && answerTo(err).code != "bad_request" {
			t.Errorf("%s %q: %v", tt.contentType, tt.body, err)
		}
	}
}
