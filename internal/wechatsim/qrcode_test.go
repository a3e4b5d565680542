package wechatsim

import (
	"bytes"
	"encoding/base64"
	"errors"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCreateCode(t *testing.T) {
	s := newServer(t, Config{PublicURL: "http://192.168.1.5:8090/"})
	for _, tt := range []struct {
		name, body, scene string
		life, errcode     int
	}{
		{"as documented", `{"expire_seconds":604800,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":123}}}`, "123", 604800, 0},
		{"string scene", `{"expire_seconds":60,"action_name":"QR_STR_SCENE","action_info":{"scene":{"scene_str":"test"}}}`, "test", 60, 0},
		{"without the inner scene", `{"expire_seconds":60,"action_name":"QR_SCENE","action_info":{"scene_id":7}}`, "0", 60, 0},
		{"no life given", `{"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":7}}}`, "7", 60, 0},
		{"too long a life", `{"expire_seconds":9999999,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":7}}}`, "7", 2592000, 0},
		{"permanent", `{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":7}}}`, "", 0, codeActionInfo},
		{"scene of 33 bits", `{"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":4294967296}}}`, "", 0, codeActionInfo},
		{"scene as a string", `{"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":"7"}}}`, "", 0, codeDataFormat},
		{"no JSON", `{`, "", 0, codeDataFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, _, _ := stableToken(t, s, false)
			_, answer := call(t, s, http.MethodPost, "/cgi-bin/qrcode/create?access_token="+token, tt.body)
			if got := errcodeOf(answer); got != tt.errcode {
				t.Fatalf("errcode %d, want %d", got, tt.errcode)
			}
			if tt.errcode != 0 {
				return
			}
			code, err := s.codeByTicket(answer["ticket"].(string))
			if err != nil || code.scene() != tt.scene || int(answer["expire_seconds"].(float64)) != tt.life {
				t.Errorf("%v, scene %q, %v s", err, code.scene(), answer["expire_seconds"])
			}
			if link := answer["url"].(string); !strings.HasPrefix(link, "http://192.168.1.5:8090/q/") {
				t.Errorf("url %q", link)
			}
		})
	}
	token, _, _ := stableToken(t, s, false)
	if _, answer := call(t, s, http.MethodGet, "/cgi-bin/qrcode/create?access_token="+token, ""); errcodeOf(answer) != codeNeedsPost {
		t.Errorf("GET: %v", answer)
	}
	if _, answer := call(t, s, http.MethodPost, "/cgi-bin/qrcode/create", "{}"); errcodeOf(answer) != codeTokenMissing {
		t.Errorf("no token: %v", answer)
	}
}

func TestTicketLooksReal(t *testing.T) {
	code := newCode(t, newServer(t, Config{}), 7, 180)
	raw, err := base64.StdEncoding.DecodeString(code.Ticket)
	if err != nil || len(code.Ticket) != 96 || !strings.HasPrefix(code.Ticket, "gQ") {
		t.Fatalf("ticket of %d characters: %v", len(code.Ticket), err)
	}
	if !bytes.Contains(raw, []byte("http://weixin.qq.com/q/"+pathOf(code.URL)+"\x00")) {
		t.Error("the ticket does not hold the code's link")
	}
	if code.URL != "http://example.com/q/"+pathOf(code.URL) {
		t.Errorf("url %q does not follow the request's Host", code.URL)
	}
}

func TestDailyQuotaEndsAtMidnightInShanghai(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a bubble begins at midnight UTC, 8:00 in Shanghai
		s := newServer(t, Config{DailyCodes: 2})
		newCode(t, s, 1, 60)
		newCode(t, s, 2, 60)
		token, _, _ := stableToken(t, s, false)
		body := `{"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":3}}}`
		if _, answer := call(t, s, http.MethodPost, "/cgi-bin/qrcode/create?access_token="+token, body); errcodeOf(answer) != codeDailyQuota {
			t.Errorf("third code: %v", answer)
		}
		time.Sleep(16 * time.Hour)
		newCode(t, s, 3, 60)
		if got := s.Stats(); got.CodesToday != 1 || got.Codes != 3 {
			t.Errorf("counted %d today, %d in all", got.CodesToday, got.Codes)
		}
	})
}

func TestCodesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		old := newCode(t, s, 1, 60)
		time.Sleep(time.Minute)
		fresh := newCode(t, s, 2, 60)
		newest := newCode(t, s, 3, 60)
		got := s.Codes()
		if len(got) != 2 || got[0].Ticket != newest.Ticket || got[1].Ticket != fresh.Ticket {
			t.Errorf("open codes: %v", got)
		}
		if _, err := s.codeByTicket(old.Ticket); err != nil {
			t.Errorf("an expired code should still be known: %v", err)
		}
		time.Sleep(keptExpired)
		newCode(t, s, 4, 60)
		if _, err := s.codeByTicket(old.Ticket); !errors.Is(err, ErrUnknownCode) {
			t.Errorf("an hour later: %v", err)
		}
		if len(s.codes.order) != len(s.codes.byTicket) || len(s.codes.order) != len(s.codes.byPath) {
			t.Error("the indexes of the codes differ")
		}
	})
}

func TestShowCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		code := newCode(t, s, 7, 60)
		get := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/cgi-bin/showqrcode?ticket="+url.QueryEscape(code.Ticket), nil)
			s.Handler().ServeHTTP(w, r)
			return w
		}
		w := get()
		img, err := png.Decode(w.Body)
		if err != nil || img.Bounds().Dx() != 430 || w.Header().Get("Content-Type") != "image/png" {
			t.Errorf("%v, %v", err, w.Header())
		}
		time.Sleep(time.Minute)
		if w := get(); w.Code != http.StatusNotFound {
			t.Errorf("status %d for an expired code", w.Code)
		}
	})
}
