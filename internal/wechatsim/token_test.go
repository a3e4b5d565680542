package wechatsim

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStableTokenKeepsUntilItsLastFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		first, in, _ := stableToken(t, s, false)
		if len(first) < 512 || in != 7200 {
			t.Fatalf("got a token of %d characters for %d s", len(first), in)
		}
		time.Sleep(2*time.Hour - 5*time.Minute)
		if again, in, _ := stableToken(t, s, false); again != first || in != 300 {
			t.Fatalf("5 minutes before the end: same token %t, %d s left", again == first, in)
		}
		time.Sleep(time.Second)
		second, in, _ := stableToken(t, s, false)
		if second == first || in != 7200 {
			t.Fatalf("in the last 5 minutes: same token %t, %d s left", second == first, in)
		}
		if a, b := tryToken(t, s, first), tryToken(t, s, second); a != 0 || b != 0 {
			t.Errorf("side by side: errcode %d and %d", a, b)
		}
		time.Sleep(5 * time.Minute)
		if a, b := tryToken(t, s, first), tryToken(t, s, second); a != codeTokenExpired || b != 0 {
			t.Errorf("after the handover: errcode %d and %d", a, b)
		}
	})
}

func TestForceRefreshKillsTheOldToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		old, _, _ := stableToken(t, s, false)
		forced, _, _ := stableToken(t, s, true)
		if forced == old || tryToken(t, s, old) != codeTokenInvalid || tryToken(t, s, forced) != 0 {
			t.Fatal("the old token should be invalid and the new one work")
		}
		if again, _, _ := stableToken(t, s, true); again != forced {
			t.Error("refreshed again within 30 s")
		}
		for range forcedPerDay - 1 {
			time.Sleep(forcedSpacing)
			if _, _, code := stableToken(t, s, true); code != 0 {
				t.Fatalf("errcode %d within the day's quota", code)
			}
		}
		time.Sleep(forcedSpacing)
		if _, _, code := stableToken(t, s, true); code != codeDailyQuota {
			t.Errorf("errcode %d after 20 in a day", code)
		}
		time.Sleep(24 * time.Hour)
		if _, _, code := stableToken(t, s, true); code != 0 {
			t.Errorf("errcode %d on the next day", code)
		}
	})
}

func TestOrdinaryTokensAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		stable, _, _ := stableToken(t, s, false)
		first, _, _ := ordinaryToken(t, s)
		second, in, _ := ordinaryToken(t, s)
		if first == second || in != 7200 {
			t.Fatalf("same token %t, %d s", first == second, in)
		}
		for _, token := range []string{stable, first, second} {
			if code := tryToken(t, s, token); code != 0 {
				t.Errorf("errcode %d", code)
			}
		}
		time.Sleep(5 * time.Minute)
		if a, b, c := tryToken(t, s, first), tryToken(t, s, second), tryToken(t, s, stable); a != codeTokenExpired || b != 0 || c != 0 {
			t.Errorf("5 minutes later: errcodes %d, %d, %d", a, b, c)
		}
	})
}

func TestShortLivedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{TokenTTL: 10 * time.Second})
		first, in, _ := stableToken(t, s, false)
		time.Sleep(5 * time.Second)
		again, left, _ := stableToken(t, s, false)
		if in != 10 || again != first || left != 5 {
			t.Fatalf("%d s, then %d s, same token %t", in, left, again == first)
		}
		time.Sleep(5 * time.Second)
		if code := tryToken(t, s, first); code != codeTokenExpired {
			t.Errorf("errcode %d at the end", code)
		}
	})
}

func TestTokensTakenAway(t *testing.T) {
	s := newServer(t, Config{})
	for _, tt := range []struct {
		take func()
		want int
	}{{s.ExpireTokens, codeTokenExpired}, {s.RevokeTokens, codeTokenInvalid}} {
		old, _, _ := stableToken(t, s, false)
		tt.take()
		if got := tryToken(t, s, old); got != tt.want {
			t.Errorf("errcode %d, want %d", got, tt.want)
		}
		fresh, _, _ := stableToken(t, s, false)
		if fresh == old || tryToken(t, s, fresh) != 0 || tryToken(t, s, old) != tt.want {
			t.Error("a new token should work, the old one should not")
		}
	}
}

func TestTokenRequestsThatFail(t *testing.T) {
	s := newServer(t, Config{})
	for _, tt := range []struct {
		name, method, target, body string
		want                       int
	}{
		{"wrong appid", "POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"wx1","secret":"` + testSecret + `"}`, codeAppID},
		{"wrong secret", "POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"` + testAppID + `","secret":"x"}`, codeAppSecret},
		{"no secret", "POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"` + testAppID + `"}`, codeSecretMissing},
		{"no appid", "POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential"}`, codeAppIDMissing},
		{"no grant type", "POST", "/cgi-bin/stable_token", `{}`, codeGrantType},
		{"no JSON", "POST", "/cgi-bin/stable_token", `appid=1`, codeDataFormat},
		{"GET", "GET", "/cgi-bin/stable_token", ``, codeNeedsPost},
		{"wrong secret, old endpoint", "GET", "/cgi-bin/token?grant_type=client_credential&appid=" + testAppID + "&secret=x", ``, codeAppSecret},
		{"no token", "GET", "/cgi-bin/getcallbackip", ``, codeTokenMissing},
		{"short token", "GET", "/cgi-bin/getcallbackip?access_token=abc", ``, codeTokenMalformed},
		{"foreign token", "GET", "/cgi-bin/getcallbackip?access_token=" + strings.Repeat("a", 520), ``, codeTokenInvalid},
		{"unknown endpoint", "POST", "/cgi-bin/nothing", `{}`, codeURL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := call(t, s, tt.method, tt.target, tt.body)
			if status != http.StatusOK || errcodeOf(answer) != tt.want {
				t.Errorf("status %d, %v; want errcode %d", status, answer, tt.want)
			}
			if msg, _ := answer["errmsg"].(string); !strings.Contains(msg, " rid: ") {
				t.Errorf("errmsg without rid: %q", msg)
			}
		})
	}
}
