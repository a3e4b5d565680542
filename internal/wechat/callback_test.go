package wechat

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	testCallbackToken = "callback-token"
	testTime          = 1714037059
)

func testCallback(c *Cipher) *Callback {
	return &Callback{Token: testCallbackToken, Cipher: c, Now: func() time.Time { return time.Unix(testTime, 0) }}
}

// signedQuery is WeChat's query for a body, in the mode of the callback.
func signedQuery(cb *Callback, body []byte) url.Values {
	timestamp, nonce := fmt.Sprint(testTime), "415670741"
	q := url.Values{
		"timestamp": {timestamp}, "nonce": {nonce},
		"signature": {Sign(cb.Token, timestamp, nonce)},
	}
	if cb.Cipher != nil {
		f, _, _ := readFields(body)
		q.Set("encrypt_type", "aes")
		q.Set("msg_signature", Sign(cb.Token, timestamp, nonce, f.get("Encrypt")))
	}
	return q
}

// readSigned reads a body in plain mode.
func readSigned(t *testing.T, body []byte) (Message, error) {
	t.Helper()
	cb := testCallback(nil)
	return cb.Read(signedQuery(cb, body), body)
}

func sealedXML(encrypt string) []byte {
	return []byte("<xml><ToUserName>gh_1</ToUserName><Encrypt><![CDATA[" + encrypt + "]]></Encrypt></xml>")
}

func encrypted(t testing.TB, c *Cipher, body string) string {
	t.Helper()
	sealed, err := c.Encrypt([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func scanBody(openid string) string {
	return "<xml><FromUserName>" + openid + "</FromUserName><MsgType>event</MsgType>" +
		"<Event>SCAN</Event><EventKey>7</EventKey><Ticket>gQH</Ticket></xml>"
}

func TestVerifyURL(t *testing.T) {
	cb := testCallback(nil)
	good := func() url.Values {
		q := signedQuery(cb, nil)
		q.Set("echostr", "<b>4375120948345356249</b>")
		return q
	}
	if got, err := cb.VerifyURL(good()); err != nil || got != "<b>4375120948345356249</b>" {
		t.Fatalf("VerifyURL = %q, %v", got, err)
	}
	safe := testCallback(testCipher(t, testAppID))
	if got, err := safe.VerifyURL(good()); err != nil || got == "" {
		t.Fatalf("VerifyURL with a key = %q, %v", got, err)
	}
	for _, name := range []string{"signature", "timestamp", "nonce"} {
		for _, value := range []string{"", "1"} {
			q := good()
			q.Set(name, value)
			if got, err := cb.VerifyURL(q); !errors.Is(err, ErrSignature) || got != "" {
				t.Errorf("%s=%q: %q, %v", name, value, got, err)
			}
		}
	}
	if _, err := cb.VerifyURL(nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no query: %v", err)
	}
}

func TestEmptyTokenVerifiesNothing(t *testing.T) {
	body := []byte(scanBody("o1"))
	for name, cb := range map[string]*Callback{"plain": testCallback(nil), "with a key": testCallback(testCipher(t, testAppID))} {
		cb.Token = ""
		if cb.Cipher != nil {
			body = sealedXML(encrypted(t, cb.Cipher, scanBody("o1")))
		}
		q := signedQuery(cb, body)
		if _, err := cb.VerifyURL(q); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: VerifyURL = %v", name, err)
		}
		if _, err := cb.Read(q, body); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: Read = %v", name, err)
		}
	}
}

// TestReadRefuses has what an attacker sends who may know a query, a body, or
// both, but not the callback token nor the key.
func TestReadRefuses(t *testing.T) {
	c := testCipher(t, testAppID)
	plain, safe := testCallback(nil), testCallback(c)
	event := []byte(scanBody("o1"))
	sealed := sealedXML(encrypted(t, c, scanBody("o1")))
	set := func(q url.Values, name, value string) url.Values {
		q.Set(name, value)
		return q
	}
	without := func(q url.Values, names ...string) url.Values {
		for _, name := range names {
			q.Del(name)
		}
		return q
	}
	for _, tc := range []struct {
		name  string
		cb    *Callback
		query url.Values
		body  []byte
		want  error
	}{
		{"plain: no query", plain, nil, event, ErrSignature},
		{"plain: bad signature", plain, set(signedQuery(plain, event), "signature", strings.Repeat("0", 40)), event, ErrSignature},
		{"plain: other timestamp", plain, set(signedQuery(plain, event), "timestamp", "1714037060"), event, ErrSignature},
		{"plain: bad signature, bad body", plain, set(signedQuery(plain, event), "nonce", "1"), []byte("x"), ErrSignature},
		{"plain: aes query", plain, set(signedQuery(plain, event), "encrypt_type", "aes"), event, ErrMode},
		{"plain: AES query", plain, set(signedQuery(plain, event), "encrypt_type", "AES"), event, ErrMode},
		{"plain: aes query, bad body", plain, set(signedQuery(plain, event), "encrypt_type", "aes"), []byte("x"), ErrMode},
		{"plain: encrypted body", plain, signedQuery(plain, nil), sealed, ErrMode},
		{"plain: only msg_signature", plain, without(signedQuery(safe, sealed), "signature"), sealed, ErrSignature},

		{"key: plain body", safe, signedQuery(plain, nil), event, ErrMode},
		{"key: plain JSON", safe, signedQuery(plain, nil), []byte(`{"FromUserName":"o1","MsgType":"event"}`), ErrMode},
		{"key: plain body, aes query", safe, signedQuery(safe, event), event, ErrMode},
		{"key: plain body, raw query", safe, set(signedQuery(plain, nil), "encrypt_type", "raw"), event, ErrMode},
		{"key: plain body, unsigned", safe, nil, event, ErrSignature},
		{"key: empty Encrypt", safe, signedQuery(safe, sealedXML("")), sealedXML(""), ErrMode},
		{"key: empty Encrypt, plain signature as the other", safe, without(signedQuery(safe, sealedXML("")), "signature"), sealedXML(""), ErrSignature},
		{"key: encrypt in other case", safe, signedQuery(plain, nil), []byte(`{"encrypt":"AAAA"}`), ErrMode},
		{"key: only the plain signature", safe, signedQuery(plain, nil), sealed, ErrSignature},
		{"key: plain signature as the other", safe, set(signedQuery(safe, sealed), "msg_signature", signedQuery(plain, nil).Get("signature")), sealed, ErrSignature},
		{"key: other timestamp", safe, set(signedQuery(safe, sealed), "timestamp", "1714037060"), sealed, ErrSignature},
		{"key: another message", safe, signedQuery(safe, sealed), sealedXML(encrypted(t, c, scanBody("o2"))), ErrSignature},
		{"key: malformed body", safe, signedQuery(safe, sealed), sealed[:40], ErrMalformed},
		{"key: malformed body, unsigned", safe, without(signedQuery(safe, sealed), "signature"), sealed[:40], ErrSignature},
		{"key: Encrypt twice", safe, signedQuery(safe, sealed), []byte("<xml><Encrypt>a</Encrypt><Encrypt>b</Encrypt></xml>"), ErrMalformed},
		{"key: malformed inside", safe, nil, sealedXML(encrypted(t, c, "<xml>")), ErrMalformed},
		{"key: not encrypted inside", safe, nil, sealedXML("AAAA"), ErrMalformed},
		{"key: other account", safe, nil, sealedXML(encrypted(t, testCipher(t, "wx1"), scanBody("o1"))), ErrForeignAppID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.query == nil && tc.want != ErrSignature {
				tc.query = signedQuery(tc.cb, tc.body)
			}
			m, err := tc.cb.Read(tc.query, tc.body)
			if !errors.Is(err, tc.want) || m != (Message{}) {
				t.Fatalf("Read = %+v, %v; want %v", m, err, tc.want)
			}
			for _, secret := range []string{testCallbackToken, testKey[:8], "o1", "gQH", "415670741"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q stands in %q", secret, err)
				}
			}
		})
	}
}

func TestReadBelievesOnlyWhatIsEncrypted(t *testing.T) {
	c := testCipher(t, testAppID)
	cb := testCallback(c)
	sealed := encrypted(t, c, scanBody("o1"))
	for name, body := range map[string]string{
		"XML":  "<xml><FromUserName>attacker</FromUserName><EventKey>8</EventKey><Encrypt>" + sealed + "</Encrypt></xml>",
		"JSON": `{"FromUserName":"attacker","EventKey":"8","Encrypt":"` + sealed + `"}`,
	} {
		q := signedQuery(cb, []byte(body))
		for _, kind := range []string{"aes", "raw", ""} { // the query does not choose
			q.Set("encrypt_type", kind)
			m, err := cb.Read(q, []byte(body))
			if err != nil || m.FromUserName != "o1" || m.EventKey != "7" {
				t.Errorf("%s, encrypt_type %q: %+v, %v", name, kind, m, err)
			}
		}
	}
}

func TestReadOfACipherForAnotherAccount(t *testing.T) {
	c := testCipher(t, "wx1")
	cb := testCallback(c)
	cb.AppID = testAppID
	body := sealedXML(encrypted(t, c, scanBody("o1")))
	if _, err := cb.Read(signedQuery(cb, body), body); !errors.Is(err, ErrForeignAppID) {
		t.Errorf("Read = %v", err)
	}
}

func TestReadWindow(t *testing.T) {
	c := testCipher(t, testAppID)
	for _, tc := range []struct {
		window, off time.Duration
		want        error
	}{
		{0, DefaultWindow, nil},
		{0, -DefaultWindow, nil},
		{0, DefaultWindow + 1, ErrStale},
		{0, -DefaultWindow - 1, ErrStale},
		{time.Minute, time.Minute, nil},
		{time.Minute, time.Minute + time.Second, ErrStale},
		{time.Hour, -time.Hour, nil},
		{time.Hour, -time.Hour - time.Second, ErrStale},
		{time.Minute, 40 * 365 * 24 * time.Hour, ErrStale},
	} {
		bodies := map[*Callback][]byte{
			testCallback(nil): []byte(scanBody("o1")),
			testCallback(c):   sealedXML(encrypted(t, c, scanBody("o1"))),
		}
		for cb, body := range bodies {
			cb.Window = tc.window
			cb.Now = func() time.Time { return time.Unix(testTime, 0).Add(tc.off) }
			if _, err := cb.Read(signedQuery(cb, body), body); !errors.Is(err, tc.want) {
				t.Errorf("window %v, clock off by %v: %v, want %v", tc.window, tc.off, err, tc.want)
			}
		}
	}
}

func TestReadTimestampThatIsNone(t *testing.T) {
	cb := testCallback(nil)
	for _, timestamp := range []string{"now", "-1714037059", "+1714037059", " 1714037059", "1714037059.0", "1e9", "0", "9223372036854775807", "9223372036854775808", "99999999999999999999"} {
		q := url.Values{"timestamp": {timestamp}, "nonce": {"1"}, "signature": {Sign(cb.Token, timestamp, "1")}}
		if _, err := cb.Read(q, []byte(scanBody("o1"))); !errors.Is(err, ErrStale) {
			t.Errorf("%q: %v", timestamp, err)
		}
	}
}

func TestReadByTheRealClock(t *testing.T) {
	cb := &Callback{Token: testCallbackToken}
	timestamp := fmt.Sprint(time.Now().Unix())
	q := url.Values{"timestamp": {timestamp}, "nonce": {"1"}, "signature": {Sign(cb.Token, timestamp, "1")}}
	if _, err := cb.Read(q, []byte(scanBody("o1"))); err != nil {
		t.Error(err)
	}
}

func TestReply(t *testing.T) {
	for _, cb := range []*Callback{testCallback(nil), testCallback(testCipher(t, testAppID))} {
		for _, kind := range []format{formatXML, formatJSON} {
			for _, content := range []string{"", "]]>", "]]]]>>", "<![CDATA[", "a\x00\x0b\ufffe\xffb", "line\r\nline", `"\`, "你好 👋"} {
				checkReply(t, cb, Message{ToUserName: "gh_1", FromUserName: "o1", MsgType: "text", Content: content, format: kind})
			}
		}
	}
}

func TestReplyOfNothingIsSuccessInEveryMode(t *testing.T) {
	for _, cb := range []*Callback{testCallback(nil), testCallback(testCipher(t, testAppID))} {
		got, err := cb.Reply(Message{ToUserName: "gh_1", FromUserName: "o1"}, "")
		if err != nil || string(got) != "success" {
			t.Errorf("Reply = %q, %v", got, err)
		}
	}
}
