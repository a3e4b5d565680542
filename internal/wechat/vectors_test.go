package wechat

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vectors is testdata/vectors.json: samples from public documents and suites.
// A section or kind that no test here knows fails, so that none goes unused.
type vectors struct {
	About          string            `json:"about"`
	Notes          []string          `json:"notes"`
	Crypto         []cryptoVector    `json:"crypto_vectors"`
	Negative       []cryptoVector    `json:"negative_vectors"`
	EventPayloads  []eventPayload    `json:"event_payloads"`
	APISamples     []apiSample       `json:"api_samples"`
	PassiveReplies []passiveReplyDoc `json:"passive_replies"`
}

type cryptoVector struct {
	ID             string `json:"id"`
	Kind           string `json:"kind"`
	Format         string `json:"format"`
	Token          string `json:"token"`
	EncodingAESKey string `json:"encoding_aes_key"`
	AppID          string `json:"appid"`
	Timestamp      string `json:"timestamp"`
	Nonce          string `json:"nonce"`
	Signature      string `json:"signature"`
	MsgSignature   string `json:"msg_signature"`
	QueryExtra     string `json:"query_extra"`
	Echostr        string `json:"echostr"`
	Body           string `json:"body"`
	Encrypt        string `json:"encrypt"`
	Plaintext      string `json:"plaintext"`
	Expect         string `json:"expect"`
	Derived        struct {
		Random []byte `json:"random_b64"`
	} `json:"derived"`
}

type eventPayload struct {
	ID     string            `json:"id"`
	Format string            `json:"format"`
	Body   string            `json:"body"`
	Expect map[string]string `json:"expect"`
	Fields map[string]string `json:"fields"`
}

type apiSample struct {
	ID     string          `json:"id"`
	Status int             `json:"status"` // 0: a request
	Body   json.RawMessage `json:"body"`
}

type passiveReplyDoc struct {
	ID   string `json:"id"`
	Body string `json:"body"`
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"about", "notes", "crypto_vectors", "negative_vectors", "event_payloads", "api_samples", "passive_replies",
	} {
		delete(sections, name)
	}
	if len(sections) > 0 {
		t.Fatalf("vectors.json has sections that no test knows: %v", sections)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v cryptoVector) cipher(t testing.TB) *Cipher {
	t.Helper()
	c, err := NewCipher(v.EncodingAESKey, v.AppID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// callback is the one the vector was made for, at the time it was made.
func (v cryptoVector) callback(t testing.TB) *Callback {
	t.Helper()
	seconds, err := strconv.ParseInt(v.Timestamp, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	cb := &Callback{Token: v.Token, AppID: v.AppID, Now: func() time.Time { return time.Unix(seconds, 0) }}
	if v.EncodingAESKey != "" {
		cb.Cipher = v.cipher(t)
	}
	return cb
}

func (v cryptoVector) query(t testing.TB) url.Values {
	t.Helper()
	q, err := url.ParseQuery(v.QueryExtra)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"timestamp": v.Timestamp, "nonce": v.Nonce, "signature": v.Signature,
		"msg_signature": v.MsgSignature, "echostr": v.Echostr,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// sealedBody is the body that brings Encrypt.
func (v cryptoVector) sealedBody() []byte {
	if v.Format == "json" {
		return fmt.Appendf(nil, `{"ToUserName":"gh_1","Encrypt":%q}`, v.Encrypt)
	}
	return fmt.Appendf(nil, "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Encrypt><![CDATA[%s]]></Encrypt></xml>", v.Encrypt)
}

func TestCryptoVectors(t *testing.T) {
	for _, v := range loadVectors(t).Crypto {
		t.Run(v.ID, func(t *testing.T) {
			switch v.Kind {
			case "url_verify":
				v.testURLVerify(t)
			case "plain_signature":
				v.testPlain(t)
			case "inbound_aes":
				v.testSealing(t)
				v.testInbound(t)
			case "outbound_aes":
				v.testSealing(t)
				v.testMsgSignature(t)
			case "encrypt_only":
				v.testSealing(t)
			case "signature_only":
				v.testMsgSignature(t)
			default:
				t.Fatalf("no test for kind %q", v.Kind)
			}
		})
	}
}

func (v cryptoVector) testURLVerify(t *testing.T) {
	got, err := v.callback(t).VerifyURL(v.query(t))
	if err != nil || got != v.Echostr {
		t.Fatalf("VerifyURL = %q, %v; want %q", got, err, v.Echostr)
	}
}

func (v cryptoVector) testPlain(t *testing.T) {
	m, err := v.callback(t).Read(v.query(t), []byte(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	v.checkMessage(t, m, v.Body)
}

func (v cryptoVector) testSealing(t *testing.T) {
	c := v.cipher(t)
	plain, err := c.Decrypt(v.Encrypt)
	if err != nil || string(plain) != v.Plaintext {
		t.Fatalf("Decrypt = %q, %v; want %q", plain, err, v.Plaintext)
	}
	sealed, err := c.seal([randomSize]byte(v.Derived.Random), []byte(v.Plaintext))
	if err != nil || sealed != v.Encrypt {
		t.Fatalf("seal = %q, %v; want %q", sealed, err, v.Encrypt)
	}
}

func (v cryptoVector) testMsgSignature(t *testing.T) {
	if got := Sign(v.Token, v.Timestamp, v.Nonce, v.Encrypt); got != v.MsgSignature {
		t.Fatalf("Sign = %s, want %s", got, v.MsgSignature)
	}
	if !VerifySignature(v.MsgSignature, v.Token, v.Timestamp, v.Nonce, v.Encrypt) {
		t.Fatal("its own signature does not verify")
	}
}

func (v cryptoVector) testInbound(t *testing.T) {
	v.testMsgSignature(t)
	if v.Signature != "" && Sign(v.Token, v.Timestamp, v.Nonce) != v.Signature {
		t.Fatal("plain signature differs")
	}
	m, err := v.callback(t).Read(v.query(t), v.sealedBody())
	if v.Format == "echostr" { // of WeCom: what is inside is no message
		if !errors.Is(err, ErrMalformed) {
			t.Fatalf("Read = %v, want ErrMalformed", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	v.checkMessage(t, m, v.Plaintext)
}

func (v cryptoVector) checkMessage(t *testing.T, m Message, body string) {
	t.Helper()
	if (m.format == formatJSON) != (v.Format == "json") {
		t.Errorf("format %v, want %s", m.format, v.Format)
	}
	if m.FromUserName == "" || !strings.Contains(body, m.FromUserName) || !strings.Contains(body, m.MsgType) {
		t.Errorf("message %+v does not stand in the body", m)
	}
	if m.CreateTime < 1e9 {
		t.Errorf("CreateTime %d", m.CreateTime)
	}
	if scene, ok := m.Scan(); ok {
		t.Errorf("Scan = %d of a message that is none", scene)
	}
}

func TestNegativeVectors(t *testing.T) {
	for _, v := range loadVectors(t).Negative {
		t.Run(v.ID, func(t *testing.T) {
			wantDecrypt, wantRead := v.refusal(t)
			if _, err := v.cipher(t).Decrypt(v.Encrypt); !errors.Is(err, wantDecrypt) {
				t.Errorf("Decrypt = %v, want %v", err, wantDecrypt)
			}
			for _, format := range []string{"xml", "json"} {
				v.Format = format
				m, err := v.callback(t).Read(v.query(t), v.sealedBody())
				if !errors.Is(err, wantRead) || m != (Message{}) {
					t.Errorf("Read of %s = %+v, %v; want %v", format, m, err, wantRead)
				}
			}
		})
	}
}

// refusal is what Decrypt and Read must say of a negative vector.
func (v cryptoVector) refusal(t *testing.T) (decrypt, read error) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(v.Expect, "reject: "), " ")
	switch kind {
	case "appid":
		return ErrForeignAppID, ErrForeignAppID
	case "length", "padding", "base64":
		return ErrCiphertext, ErrMalformed
	case "empty":
		return ErrCiphertext, ErrSignature
	case "signature":
		return nil, ErrSignature
	case "implementation":
		return ErrCiphertext, ErrMalformed // our choice: WeChat pads to 32, so do others or not at all
	}
	t.Fatalf("no test for %q", v.Expect)
	return nil, nil
}

// scenes are those that the payloads resolve to, 0 for none.
func payloadScenes() map[string]int32 {
	return map[string]int32{
		"cx-unsubscribe":                 0,
		"cx-subscribe-plain":             0,
		"cx-subscribe-qrscene":           1000000,
		"cx-scan":                        1000000,
		"cx-text":                        0,
		"wei-oa-decrypted-text":          0,
		"official-subscribe-qrscene":     123123,
		"official-scan":                  0, // SCENE_VALUE
		"field-qrscene_0-subscribe":      0,
		"field-scan-64char-str":          0,
		"field-subscribe-empty-eventkey": 0,
	}
}

func TestEventPayloads(t *testing.T) {
	scenes := payloadScenes()
	for _, p := range loadVectors(t).EventPayloads {
		t.Run(p.ID, func(t *testing.T) {
			want, known := scenes[p.ID]
			if !known {
				t.Fatal("no test says what this payload resolves to")
			}
			bodies := map[string][]byte{p.Format: []byte(p.Body), "as JSON": p.asJSON(t)}
			for name, body := range bodies {
				m, err := readSigned(t, body)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				p.checkFields(t, m)
				if scene, ok := m.Scan(); scene != want || ok != (want != 0) {
					t.Errorf("%s: Scan = %d, %v; want %d", name, scene, ok, want)
				}
			}
		})
	}
}

// asJSON is the payload as an account with JSON pushes gets it.
func (p eventPayload) asJSON(t *testing.T) []byte {
	members := make(map[string]any)
	for name, value := range p.Fields {
		members[name] = value
		if name == "CreateTime" || name == "MsgId" {
			members[name] = json.Number(value)
		}
	}
	body, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (p eventPayload) checkFields(t *testing.T, m Message) {
	t.Helper()
	got := map[string]string{
		"ToUserName": m.ToUserName, "FromUserName": m.FromUserName, "MsgType": m.MsgType, "Event": m.Event,
		"EventKey": m.EventKey, "Ticket": m.Ticket, "Content": m.Content,
		"CreateTime": strconv.FormatInt(m.CreateTime, 10), "MsgId": strconv.FormatInt(m.MsgID, 10),
	}
	for _, fields := range []map[string]string{p.Fields, p.Expect} {
		for name, want := range fields {
			if value, read := got[name]; !read || value != want {
				t.Errorf("%s = %q, want %q", name, value, want)
			}
		}
	}
}

func TestAPISamples(t *testing.T) {
	for _, s := range loadVectors(t).APISamples {
		t.Run(s.ID, func(t *testing.T) {
			if s.Status == 0 {
				s.testRequest(t)
				return
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(s.Status)
				w.Write(s.Body)
			}))
			defer server.Close()
			c := &Client{AppID: "wx1", AppSecret: testSecret, BaseURL: server.URL, Token: givenTokens(testToken)}
			s.testAnswer(t, c)
		})
	}
}

// testRequest compares with what CreateQRCode sends for the scene of the sample.
func (s apiSample) testRequest(t *testing.T) {
	sent := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent <- body
		io.WriteString(w, `{"ticket":"t","url":"u"}`)
	}))
	defer server.Close()
	c := &Client{BaseURL: server.URL, Token: givenTokens(testToken)}
	if _, err := c.CreateQRCode(t.Context(), 123, 604800*time.Second); err != nil {
		t.Fatal(err)
	}
	same := canonicalJSON(t, <-sent) == canonicalJSON(t, s.Body)
	switch s.ID {
	case "qrcode-create-request-int":
		if !same {
			t.Error("the request differs from the documented one")
		}
	case "qrcode-create-request-str":
		if same {
			t.Error("a scene string was sent for a scene ID")
		}
	default:
		t.Fatal("no test for this request")
	}
}

func (s apiSample) testAnswer(t *testing.T, c *Client) {
	switch s.ID {
	case "token-ok", "stable-token-ok-remaining":
		s.testToken(t, c)
	case "qrcode-create-ok":
		s.testTicket(t, c)
	case "callbackip-ok", "userinfo-ok": // answers to other questions
		_, _, err := c.StableToken(t.Context())
		mustFail(t, err, nil)
		_, err = c.CreateQRCode(t.Context(), 7, time.Minute)
		mustFail(t, err, nil)
	default:
		s.testError(t, c)
	}
}

func (s apiSample) testToken(t *testing.T, c *Client) {
	var want struct {
		Token   string `json:"access_token"`
		Seconds int    `json:"expires_in"`
	}
	s.decode(t, &want)
	token, expiresIn, err := c.StableToken(t.Context())
	if err != nil || token != want.Token || expiresIn != time.Duration(want.Seconds)*time.Second {
		t.Fatalf("StableToken = %q, %v, %v", token, expiresIn, err)
	}
}

func (s apiSample) testTicket(t *testing.T, c *Client) {
	var want struct {
		Ticket  string `json:"ticket"`
		Seconds int    `json:"expire_seconds"`
		URL     string `json:"url"`
	}
	s.decode(t, &want)
	life := time.Duration(want.Seconds) * time.Second
	got, err := c.CreateQRCode(t.Context(), 7, life)
	if err != nil || got != (Ticket{Ticket: want.Ticket, URL: want.URL, ExpiresIn: life}) {
		t.Fatalf("CreateQRCode = %+v, %v", got, err)
	}
	inside, err := base64.URLEncoding.DecodeString(got.Ticket)
	if err != nil || !strings.Contains(string(inside), got.URL) {
		t.Errorf("url and ticket are not of one code")
	}
}

func (s apiSample) testError(t *testing.T, c *Client) {
	kinds := map[string][2]error{ // of the QR code, of the token endpoint
		"err-48001":     {ErrPermission, ErrPermission},
		"err-40164":     {ErrAddress, ErrAddress},
		"err-40001-old": {ErrToken, ErrSecret},
		"err-40001-new": {ErrToken, ErrSecret},
		"err-42001":     {ErrToken, ErrToken},
		"err-40014":     {ErrToken, ErrToken},
		"err-45009":     {ErrQuota, ErrQuota},
		"err-45011":     {ErrRate, ErrRate},
		"err-busy":      {ErrBusy, ErrBusy},
		"err-40013":     {ErrAppID, ErrAppID},
		"err-48006":     {nil, nil}, // of a call we never make
	}
	kind, known := kinds[s.ID]
	if !known {
		t.Fatal("no test for this answer")
	}
	var want struct {
		Code    int    `json:"errcode"`
		Message string `json:"errmsg"`
	}
	s.decode(t, &want)
	_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
	mustFail(t, err, kind[0])
	apiErr, ok := errors.AsType[*APIError](err)
	if !ok || *apiErr != (APIError{want.Code, want.Message, endpointQRCode}) {
		t.Errorf("error %#v, want %+v", apiErr, want)
	}
	_, _, err = c.StableToken(t.Context())
	mustFail(t, err, kind[1])
}

func (s apiSample) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal(s.Body, into); err != nil {
		t.Fatal(err)
	}
}

func TestPassiveReplies(t *testing.T) {
	cb := &Callback{Token: "t", Now: func() time.Time { return time.Unix(12345678, 0) }}
	m := Message{ToUserName: "fromUser", FromUserName: "toUser"}
	for _, doc := range loadVectors(t).PassiveReplies {
		t.Run(doc.ID, func(t *testing.T) {
			switch doc.ID {
			case "passive-text-reply":
				got, err := cb.Reply(m, "你好")
				if err != nil || withoutBreaks(string(got)) != withoutBreaks(doc.Body) {
					t.Errorf("Reply = %s, %v; want %s", got, err, doc.Body)
				}
			case "passive-success":
				got, err := cb.Reply(m, "")
				if err != nil || string(got) != doc.Body {
					t.Errorf("Reply = %q, %v", got, err)
				}
			case "passive-empty": // allowed too, but says less in a trace
				got, err := cb.Reply(m, "")
				if err != nil || string(got) == doc.Body {
					t.Errorf("Reply = %q, %v", got, err)
				}
			default:
				t.Fatal("no test for this reply")
			}
		})
	}
}

func withoutBreaks(text string) string { return strings.ReplaceAll(text, "\n", "") }

func canonicalJSON(t *testing.T, data []byte) string {
	t.Helper()
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
