package wechatsim

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"scanlogin/internal/wechat"
)

const (
	testAppID  = "wx0123456789abcdef"
	testSecret = "0123456789abcdef0123456789abcdef"
	testToken  = "callback-token"
	testKey    = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// transport answers pushes without a network, so that a bubble's clock drives them.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// through sends the pushes to h inside the process.
func through(h http.Handler) *http.Client {
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return w.Result(), nil
	})}
}

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.AppID, cfg.AppSecret, cfg.Token = testAppID, testSecret, testToken
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// call asks the server's handler and returns the status and the JSON answer.
func call(t *testing.T, s *Server, method, target, body string, header ...string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if strings.HasPrefix(body, "{") {
			r.Header.Set("Content-Type", "application/json")
		}
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	var answer map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &answer) // some answers are no JSON
	return w.Code, answer
}

func stableToken(t *testing.T, s *Server, force bool) (token string, expiresIn, errcode int) {
	t.Helper()
	status, answer := call(t, s, http.MethodPost, "/cgi-bin/stable_token", fmt.Sprintf(
		`{"grant_type":"client_credential","appid":%q,"secret":%q,"force_refresh":%t}`, testAppID, testSecret, force))
	return tokenOf(t, status, answer)
}

func ordinaryToken(t *testing.T, s *Server) (token string, expiresIn, errcode int) {
	t.Helper()
	q := url.Values{"grant_type": {"client_credential"}, "appid": {testAppID}, "secret": {testSecret}}
	status, answer := call(t, s, http.MethodGet, "/cgi-bin/token?"+q.Encode(), "")
	return tokenOf(t, status, answer)
}

func tokenOf(t *testing.T, status int, answer map[string]any) (token string, expiresIn, errcode int) {
	t.Helper()
	if status != http.StatusOK {
		t.Fatalf("status %d, the API always answers 200", status)
	}
	if code := errcodeOf(answer); code != 0 {
		return "", 0, code
	}
	return answer["access_token"].(string), int(answer["expires_in"].(float64)), 0
}

func errcodeOf(answer map[string]any) int {
	code, _ := answer["errcode"].(float64)
	return int(code)
}

// try calls the API with token and returns the errcode.
func tryToken(t *testing.T, s *Server, token string) int {
	t.Helper()
	_, answer := call(t, s, http.MethodGet, "/cgi-bin/getcallbackip?access_token="+token, "")
	return errcodeOf(answer)
}

// newCode makes a QR code through the API.
func newCode(t *testing.T, s *Server, scene, seconds int) Code {
	t.Helper()
	token, _, _ := stableToken(t, s, false)
	_, answer := call(t, s, http.MethodPost, "/cgi-bin/qrcode/create?access_token="+token, fmt.Sprintf(
		`{"expire_seconds":%d,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":%d}}}`, seconds, scene))
	ticket, ok := answer["ticket"].(string)
	if !ok {
		t.Fatalf("no ticket: %v", answer)
	}
	code, err := s.codeByTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// pushed is a push as the account's callback reads it.
type pushed struct {
	XMLName      xml.Name `xml:"xml"`
	ToUserName   string
	FromUserName string
	CreateTime   int64
	MsgType      string
	Event        string
	EventKey     string
	Ticket       string
	Content      string
	Encrypt      string
}

// account is the other side: a callback that trusts nothing.
type account struct {
	t      *testing.T
	mode   Mode
	cipher *wechat.Cipher
	answer func(w http.ResponseWriter, r *http.Request, p pushed, try int) // nil: greets

	mu    sync.Mutex
	got   []pushed
	hosts []string
}

func newAccount(t *testing.T, mode Mode) *account {
	t.Helper()
	a := &account{t: t, mode: mode}
	if mode != Plain {
		var err error
		if a.cipher, err = wechat.NewCipher(testKey, testAppID); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *account) pushes() []pushed {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]pushed(nil), a.got...)
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := a.read(r)
	if err != nil {
		a.t.Errorf("push: %v", err)
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	a.mu.Lock()
	a.got = append(a.got, p)
	a.hosts = append(a.hosts, r.Host)
	try := len(a.got)
	a.mu.Unlock()
	if a.answer != nil {
		a.answer(w, r, p, try)
		return
	}
	a.reply(w, p, "welcome "+p.EventKey)
}

func (a *account) read(r *http.Request) (pushed, error) {
	q := r.URL.Query()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return pushed{}, err
	}
	if got := wechat.Sign(testToken, q.Get("timestamp"), q.Get("nonce")); got != q.Get("signature") {
		return pushed{}, fmt.Errorf("signature %q", q.Get("signature"))
	}
	var p pushed
	if err := xml.Unmarshal(body, &p); err != nil {
		return pushed{}, err
	}
	if err := a.checkOutside(p, q); err != nil {
		return pushed{}, err
	}
	if a.mode != Plain {
		plain, err := a.cipher.Decrypt(p.Encrypt)
		if err != nil {
			return pushed{}, err
		}
		p = pushed{}
		if err := xml.Unmarshal(plain, &p); err != nil {
			return pushed{}, err
		}
	}
	if q.Get("openid") != p.FromUserName {
		return pushed{}, fmt.Errorf("query openid %q, FromUserName %q", q.Get("openid"), p.FromUserName)
	}
	return p, nil
}

// checkOutside checks what is readable without the key.
func (a *account) checkOutside(p pushed, q url.Values) error {
	encrypted := a.mode != Plain
	switch {
	case (q.Get("encrypt_type") == "aes") != encrypted || (p.Encrypt != "") != encrypted:
		return fmt.Errorf("encryption in mode %s: %v", a.mode, q)
	case encrypted && q.Get("msg_signature") != wechat.Sign(testToken, q.Get("timestamp"), q.Get("nonce"), p.Encrypt):
		return fmt.Errorf("msg_signature %q", q.Get("msg_signature"))
	case (a.mode == Safe) != (p.FromUserName == ""):
		return fmt.Errorf("FromUserName in the open is %q", p.FromUserName)
	}
	return nil
}

// reply answers a text, encrypted where the push was.
func (a *account) reply(w http.ResponseWriter, p pushed, text string) {
	plain := fmt.Sprintf("<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[%s]]></Content></xml>",
		p.FromUserName, p.ToUserName, time.Now().Unix(), text)
	if a.cipher != nil {
		plain = a.encrypt(plain)
	}
	_, _ = io.WriteString(w, plain)
}

func (a *account) encrypt(plain string) string {
	sealed, err := a.cipher.Encrypt([]byte(plain))
	if err != nil {
		a.t.Error(err)
	}
	return fmt.Sprintf("<xml><Encrypt><![CDATA[%s]]></Encrypt><MsgSignature><![CDATA[%s]]></MsgSignature>"+
		"<TimeStamp>%s</TimeStamp><Nonce><![CDATA[%s]]></Nonce></xml>",
		sealed, wechat.Sign(testToken, "1714112445", "n", sealed), "1714112445", "n")
}
