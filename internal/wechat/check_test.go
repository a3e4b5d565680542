package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fakeAPI is WeChat's API with an errcode at each of its endpoints.
type fakeAPI struct {
	codes    map[string]int
	messages map[string]string
}

func (a fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	results := map[string]string{
		endpointToken:     `{"access_token":"` + testToken + `","expires_in":7200}`,
		endpointQRCode:    okTicket,
		endpointAddresses: `{"ip_list":["101.226.103.0/25","106.55.206.146"]}`,
	}
	code := a.codes[r.URL.Path]
	if code == 0 && r.URL.Path != endpointToken && r.URL.Query().Get("access_token") != testToken {
		code = 41001
	}
	if code != 0 {
		message, _ := json.Marshal(a.messages[r.URL.Path] + " rid: 1. 2.")
		fmt.Fprintf(w, `{"errcode":%d,"errmsg":%s}`, code, message)
		return
	}
	io.WriteString(w, results[r.URL.Path])
}

// service is what stands behind PublicURL.
func service(cb *Callback) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/wechat/callback" {
			http.NotFound(w, r)
			return
		}
		if r.Method == "GET" {
			echo, err := cb.VerifyURL(r.URL.Query())
			reply(w, echo, err)
			return
		}
		body, _ := io.ReadAll(r.Body)
		m, err := cb.Read(r.URL.Query(), body)
		if err == nil && !m.Probe() {
			err = errors.New("not a probe")
		}
		reply(w, success, err)
	}
}

func reply(w http.ResponseWriter, text string, err error) {
	switch {
	case errors.Is(err, ErrMalformed):
		w.WriteHeader(http.StatusBadRequest)
	case err != nil:
		w.WriteHeader(http.StatusForbidden)
	default:
		io.WriteString(w, text)
	}
}

// checking is an account and its service, where all is well.
func checking(t *testing.T, api http.Handler, behind http.HandlerFunc) (*Client, CheckConfig) {
	t.Helper()
	c := testClient(t, api.ServeHTTP)
	c.AppID, c.Token = testAppID, nil
	server := httptest.NewServer(behind)
	t.Cleanup(server.Close)
	return c, CheckConfig{
		Token: testCallbackTokenPlain, EncodingAESKey: testKey,
		PublicURL: forwardTarget(t, server.URL), HTTP: server.Client(),
	}
}

const testCallbackTokenPlain = "callbackToken7"

func liveCallback(t *testing.T) *Callback {
	t.Helper()
	return &Callback{
		Token: testCallbackTokenPlain, Cipher: testCipher(t, testAppID), AppID: testAppID, OriginalID: "gh_1",
	}
}

// mustFind checks that of all findings only the named ones are bad, in order,
// and that each is one sentence without a secret.
func mustFind(t *testing.T, findings []Finding, wantBad ...string) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	var gotBad []string
	for _, f := range findings {
		if _, twice := texts[f.Name]; twice || f.Name == "" {
			t.Errorf("%q stands twice or not at all", f.Name)
		}
		texts[f.Name] = f.Text
		if !f.OK {
			gotBad = append(gotBad, f.Name)
		}
		checkSentence(t, f)
	}
	if fmt.Sprint(gotBad) != fmt.Sprint(wantBad) {
		t.Errorf("bad are %q, want %q, in %+v", gotBad, wantBad, findings)
	}
	return texts
}

func checkSentence(t *testing.T, f Finding) {
	t.Helper()
	if !strings.HasSuffix(f.Text, ".") || strings.Contains(f.Text, ". ") || strings.ContainsAny(f.Text, "\n\r") ||
		strings.Contains(f.Text, "..") || strings.Contains(f.Text, "%!") {
		t.Errorf("%s: not one sentence: %q", f.Name, f.Text)
	}
	for _, secret := range []string{testSecret, testToken, testCallbackTokenPlain, testKey, "nonce", "signature=", "access_token="} {
		if strings.Contains(f.Text, secret) {
			t.Errorf("%s: %q stands in %q", f.Name, secret, f.Text)
		}
	}
}

func mustContain(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing in %q", word, text)
		}
	}
}

func TestCheckWhereAllIsWell(t *testing.T) {
	for name, key := range map[string]string{"safe mode": testKey, "plain mode": ""} {
		t.Run(name, func(t *testing.T) {
			cb := liveCallback(t)
			if key == "" {
				cb.Cipher = nil
			}
			c, cfg := checking(t, fakeAPI{}, service(cb))
			cfg.EncodingAESKey = key
			texts := mustFind(t, c.Check(t.Context(), cfg))
			for _, want := range []string{
				"WECHAT_TOKEN", "WECHAT_TOKEN_PREVIOUS", "WECHAT_ENCODING_AES_KEY", "WECHAT_ENCODING_AES_KEY_PREVIOUS", "PUBLIC_URL",
				"https", "clock", "access token", "QR code", "quota", "WeChat's addresses", "callback URL", "signature", "mode",
			} {
				if texts[want] == "" {
					t.Errorf("nothing was said of %q", want)
				}
			}
			mustContain(t, texts["mode"], name)
			mustContain(t, texts["WeChat's addresses"], "2 in all", "101.226.103.0/25")
		})
	}
}

func TestCheckOffline(t *testing.T) {
	const simulator = "http://localhost:8090"
	good := func(change func(*CheckConfig)) CheckConfig {
		cfg := CheckConfig{
			Token: "abc", PreviousToken: strings.Repeat("x", 32), EncodingAESKey: testKey, PreviousEncodingAESKey: oldKey,
			PublicURL: forwardTarget(t, "https://login.example.com"),
		}
		change(&cfg)
		return cfg
	}
	at := func(address string) func(*CheckConfig) {
		return func(cfg *CheckConfig) { cfg.PublicURL = forwardTarget(t, address) }
	}
	for name, tc := range map[string]struct {
		change func(*CheckConfig)
		bad    string // "" for none
		words  []string
	}{
		"all is well":       {func(*CheckConfig) {}, "", nil},
		"nothing previous":  {func(cfg *CheckConfig) { cfg.PreviousToken, cfg.PreviousEncodingAESKey = "", "" }, "", nil},
		"plain mode":        {func(cfg *CheckConfig) { cfg.EncodingAESKey, cfg.PreviousEncodingAESKey = "", "" }, "", nil},
		"no token":          {func(cfg *CheckConfig) { cfg.Token = "" }, "WECHAT_TOKEN", []string{"empty", "令牌(Token)"}},
		"token too short":   {func(cfg *CheckConfig) { cfg.Token = "ab" }, "WECHAT_TOKEN", []string{"2 characters"}},
		"token too long":    {func(cfg *CheckConfig) { cfg.Token = strings.Repeat("a", 33) }, "WECHAT_TOKEN", []string{"33 characters"}},
		"token with a dash": {func(cfg *CheckConfig) { cfg.Token = "my-token" }, "WECHAT_TOKEN", []string{"letters and digits"}},
		"any in a simulation": {
			func(cfg *CheckConfig) { cfg.Token, cfg.APIURL = "my-token", simulator }, "", nil,
		},
		"previous token too short": {func(cfg *CheckConfig) { cfg.PreviousToken = "ab" }, "WECHAT_TOKEN_PREVIOUS", nil},
		"key too short":            {func(cfg *CheckConfig) { cfg.EncodingAESKey = testKey[1:] }, "WECHAT_ENCODING_AES_KEY", []string{"42 characters", "43", "EncodingAESKey"}},
		"key not base64":           {func(cfg *CheckConfig) { cfg.EncodingAESKey = testKey[1:] + "!" }, "WECHAT_ENCODING_AES_KEY", []string{"base64"}},
		"previous key too long":    {func(cfg *CheckConfig) { cfg.PreviousEncodingAESKey += "A" }, "WECHAT_ENCODING_AES_KEY_PREVIOUS", []string{"44 characters"}},
		"previous key alone":       {func(cfg *CheckConfig) { cfg.EncodingAESKey = "" }, "WECHAT_ENCODING_AES_KEY_PREVIOUS", []string{"without WECHAT_ENCODING_AES_KEY"}},

		"port 443":   {at("https://login.example.com:443"), "", nil},
		"port 80":    {at("http://login.example.com:80"), "", nil},
		"http":       {at("http://login.example.com"), "", nil},
		"public IP":  {at("https://203.0.113.7"), "", nil},
		"port 8080":  {at("http://login.example.com:8080"), "PUBLIC_URL", []string{"80 and 443", "8080", "https://login.example.com"}},
		"localhost":  {at("http://localhost"), "PUBLIC_URL", []string{"localhost", "服务器地址(URL)"}},
		"loopback":   {at("http://127.0.0.1"), "PUBLIC_URL", nil},
		"loopback 6": {at("http://[::1]"), "PUBLIC_URL", nil},
		"mapped":     {at("http://[::ffff:10.0.0.1]"), "PUBLIC_URL", nil},
		"private":    {at("https://192.168.1.7"), "PUBLIC_URL", nil},
		"link-local": {at("https://169.254.1.7"), "PUBLIC_URL", nil},
		"one label":  {at("https://intranet"), "PUBLIC_URL", nil},
		"mDNS":       {at("https://login.local"), "PUBLIC_URL", nil},
		"no host":    {at("https:///"), "PUBLIC_URL", nil},
		"no scheme":  {at("login.example.com"), "PUBLIC_URL", nil},
		"ftp":        {at("ftp://login.example.com"), "PUBLIC_URL", nil},
		"none":       {func(cfg *CheckConfig) { cfg.PublicURL = nil }, "PUBLIC_URL", nil},
		"localhost by a simulator": {
			func(cfg *CheckConfig) { cfg.APIURL = simulator; at("http://localhost:8080")(cfg) }, "", nil,
		},
		"localhost by another WeChat": {
			func(cfg *CheckConfig) { cfg.APIURL = "https://sh.api.weixin.qq.com"; at("http://localhost:8080")(cfg) }, "PUBLIC_URL", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var wantBad []string
			if tc.bad != "" {
				wantBad = []string{tc.bad}
			}
			texts := mustFind(t, CheckOffline(good(tc.change)), wantBad...)
			mustContain(t, texts[tc.bad], tc.words...)
		})
	}
}

func TestCheckHTTPS(t *testing.T) {
	for address, want := range map[string]bool{"https://login.example.com": true, "http://login.example.com": false} {
		cfg := CheckConfig{PublicURL: forwardTarget(t, address)}
		if f := cfg.checkHTTPS(); f.OK != want {
			t.Errorf("%s: %+v", address, f)
		} else {
			checkSentence(t, f)
		}
	}
	if f := (CheckConfig{}).checkHTTPS(); f.OK {
		t.Errorf("no URL: %+v", f)
	}
}

// TestCheckOfTheAPI has what WeChat may answer, and the words by which the
// owner finds what to do.
func TestCheckOfTheAPI(t *testing.T) {
	const refused = "invalid ip 192.0.2.7 ipv6 ::ffff:192.0.2.7, not in whitelist"
	for _, tc := range []struct {
		endpoint string
		code     int
		message  string
		bad      string
		words    []string
	}{
		{endpointToken, 40013, "", "access token", []string{"40013", "AppID", "WECHAT_APP_ID", "基本配置"}},
		{endpointToken, 40125, "", "access token", []string{"40125", "AppSecret", "WECHAT_APP_SECRET", "重置"}},
		{endpointToken, 40001, "", "access token", []string{"40001", "WECHAT_APP_SECRET"}},
		{endpointToken, 40164, refused, "access token", []string{"from 192.0.2.7 (", "IP白名单"}},
		{endpointToken, 40164, "invalid ip 2001:db8::7, not in whitelist", "access token", []string{"from 2001:db8::7 ("}},
		{endpointToken, 40164, "invalid ip", "access token", []string{"this machine's address"}},
		{endpointToken, -1, "system error", "access token", []string{"busy"}},
		{endpointToken, 45009, "", "quota", []string{"00:00"}},
		{endpointToken, 99999, "no. Not\nso", "access token", []string{"99999", "全局返回码", "no; Not so"}},
		{endpointQRCode, 48001, "", "QR code", []string{"48001", "认证服务号", "微信认证"}},
		{endpointQRCode, 40001, "", "QR code", []string{"40001", "stable_token"}},
		{endpointQRCode, 40164, refused, "QR code", []string{"192.0.2.7", "IP白名单"}},
		{endpointQRCode, 45009, "", "quota", []string{"45009", "00:00", "清零"}},
		{endpointQRCode, 45011, "", "quota", []string{"45011", "minute"}},
		{endpointQRCode, 48004, "", "QR code", []string{"48004", "通知中心"}},
	} {
		t.Run(fmt.Sprint(tc.endpoint, tc.code, tc.message), func(t *testing.T) {
			api := fakeAPI{map[string]int{tc.endpoint: tc.code}, map[string]string{tc.endpoint: tc.message}}
			c, cfg := checking(t, api, service(liveCallback(t)))
			texts := mustFind(t, c.Check(t.Context(), cfg), tc.bad)
			mustContain(t, texts[tc.bad], tc.words...)
			if _, asked := texts["QR code"]; asked && tc.endpoint == endpointToken {
				t.Error("a QR code was asked for without a token")
			}
		})
	}
}

func TestCheckOfAddressesIsForInformation(t *testing.T) {
	api := fakeAPI{codes: map[string]int{endpointAddresses: 50001}}
	c, cfg := checking(t, api, service(liveCallback(t)))
	mustContain(t, mustFind(t, c.Check(t.Context(), cfg))["WeChat's addresses"], "firewall")
}

func TestCheckOfAnAPIThatIsNotThere(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, base := range []string{closed.URL, "http://user:" + testSecret + "@[::1", "host:" + testSecret} {
		c, cfg := checking(t, fakeAPI{}, service(liveCallback(t)))
		c.BaseURL = base
		findings := c.Check(t.Context(), cfg)
		mustFind(t, findings, "WeChat's API")
	}
}

func TestCheckOfATokenSourceThatFails(t *testing.T) {
	c, cfg := checking(t, fakeAPI{}, service(liveCallback(t)))
	c.Token = NewMemoryTokens(func(context.Context) (string, time.Duration, error) {
		return "", 0, errors.New("token server: HTTP status 500")
	})
	mustContain(t, mustFind(t, c.Check(t.Context(), cfg), "access token")["access token"], "WECHAT_TOKEN_URL", "HTTP status 500")
}

func TestCheckOfTheClock(t *testing.T) {
	for off, wantBad := range map[time.Duration][]string{
		0: nil, 50 * time.Second: nil, -50 * time.Second: nil,
		5 * time.Minute: {"clock"}, -5 * time.Minute: {"clock"},
	} {
		c, cfg := checking(t, fakeAPI{}, service(liveCallback(t)))
		cfg.Now = func() time.Time { return time.Now().Add(off) }
		text := mustFind(t, c.Check(t.Context(), cfg), wantBad...)["clock"]
		if wantBad != nil {
			mustContain(t, text, map[bool]string{true: "ahead of", false: "behind"}[off > 0])
		}
	}
	dateless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		fakeAPI{}.ServeHTTP(w, r)
	})
	c, cfg := checking(t, dateless, service(liveCallback(t)))
	mustFind(t, c.Check(t.Context(), cfg), "clock")
}

// TestCheckOfTheCallback has what may stand behind PublicURL instead of the
// service with the same settings.
func TestCheckOfTheCallback(t *testing.T) {
	with := func(change func(*Callback)) http.HandlerFunc {
		cb := liveCallback(t)
		change(cb)
		return service(cb)
	}
	yes := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Query().Get("echostr")) }
	onPost := func(post http.HandlerFunc) http.HandlerFunc {
		genuine := service(liveCallback(t))
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				post(w, r)
				return
			}
			genuine(w, r)
		}
	}
	onForged := func(forged http.HandlerFunc) http.HandlerFunc {
		genuine := service(liveCallback(t))
		return func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if !VerifySignature(q.Get("signature"), testCallbackTokenPlain, q.Get("timestamp"), q.Get("nonce")) {
				forged(w, r)
				return
			}
			genuine(w, r)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		behind http.HandlerFunc
		bad    []string
		words  []string // in the first of them
	}{
		"another token":        {with(func(cb *Callback) { cb.Token = "another" }), []string{"callback URL"}, []string{"WECHAT_TOKEN", "令牌(Token)"}},
		"token being replaced": {with(func(cb *Callback) { cb.Token, cb.PreviousToken = "another", testCallbackTokenPlain }), nil, nil},
		"another page":         {answer("<html>welcome"), []string{"callback URL"}, []string{"status 200", "echostr"}},
		"echo in a page":       {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, " "); yes(w, r) }, []string{"callback URL"}, nil},
		"nothing there":        {status(404), []string{"callback URL"}, []string{"404"}},
		"down":                 {status(502), []string{"callback URL"}, []string{"502"}},
		"redirected":           {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, []string{"callback URL"}, []string{"redirect"}},
		"hangs up":             {hangUp, []string{"callback URL"}, []string{"DNS"}},
		"not HTTP":             {notHTTP, []string{"callback URL"}, nil},
		"says yes to all":      {yes, []string{"signature", "mode"}, []string{"forged"}},
		"forged gets 401":      {onForged(status(401)), []string{"signature"}, []string{"401"}},
		"forged gets nothing":  {onForged(hangUp), []string{"signature"}, nil},
		"service in plain":     {with(func(cb *Callback) { cb.Cipher = nil }), []string{"mode"}, []string{"安全模式", "消息加解密方式", "WECHAT_ENCODING_AES_KEY"}},
		"another key":          {with(func(cb *Callback) { cb.Cipher = oldCipher(t, testAppID) }), []string{"mode"}, []string{"WECHAT_ENCODING_AES_KEY"}},
		"key being replaced":   {with(func(cb *Callback) { cb.PreviousCipher, cb.Cipher = cb.Cipher, oldCipher(t, testAppID) }), nil, nil},
		"another account":      {with(func(cb *Callback) { cb.AppID, cb.Cipher = "wx1", testCipher(t, "wx1") }), []string{"mode"}, []string{"WECHAT_APP_ID"}},
		"no POST":              {onPost(status(405)), []string{"mode"}, []string{"405", "POST"}},
		"POST hangs up":        {onPost(hangUp), []string{"mode"}, []string{"POST"}},
		"POST gets a page":     {onPost(answer("<html>")), []string{"mode"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, cfg := checking(t, fakeAPI{}, tc.behind)
			texts := mustFind(t, c.Check(t.Context(), cfg), tc.bad...)
			if len(tc.bad) > 0 {
				mustContain(t, texts[tc.bad[0]], tc.words...)
			}
		})
	}
}

func TestCheckOfAServiceWithAKeyInPlainMode(t *testing.T) {
	c, cfg := checking(t, fakeAPI{}, service(liveCallback(t)))
	cfg.EncodingAESKey = ""
	mustContain(t, mustFind(t, c.Check(t.Context(), cfg), "mode")["mode"], "plain mode", "明文模式")
}

// TestCheckWithBadSettings asks the API all the same, and no callback.
func TestCheckWithBadSettings(t *testing.T) {
	c, cfg := checking(t, fakeAPI{}, func(http.ResponseWriter, *http.Request) { t.Error("the callback was asked") })
	cfg.Token = ""
	texts := mustFind(t, c.Check(t.Context(), cfg), "WECHAT_TOKEN")
	if texts["QR code"] == "" {
		t.Error("nothing was said of QR codes")
	}
}

func TestCheckShowsNoMoreOfPublicURLThanItsPlace(t *testing.T) {
	cfg := CheckConfig{PublicURL: &url.URL{
		Scheme: "https", Host: "login.example.com", User: url.UserPassword("u", "p"), RawQuery: "a=b", Fragment: "c",
	}}
	if got := cfg.callbackURL().String(); got != "https://login.example.com/wechat/callback" {
		t.Error(got)
	}
}
