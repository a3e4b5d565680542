package wechat

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

const (
	oldToken = "callback-token-before"
	oldKey   = "GFEDCBA9876543210zyxwvutsrqponmlkjihgfedcba"
)

func oldCipher(t testing.TB, appID string) *Cipher {
	t.Helper()
	c, err := NewCipher(oldKey, appID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signedBy is the query of a body by any token.
func signedBy(token string, body []byte) url.Values {
	cb := testCallback(nil)
	cb.Token = token
	if f, _, err := readFields(body); err == nil && f.get("Encrypt") != "" {
		cb.Cipher = &Cipher{}
	}
	return signedQuery(cb, body)
}

// TestRotation has each pair of token and key that WeChat may use while they
// are being changed. The reply is signed and encrypted by the same pair.
func TestRotation(t *testing.T) {
	cb := testCallback(testCipher(t, testAppID))
	cb.PreviousToken, cb.PreviousCipher = oldToken, oldCipher(t, testAppID)
	for _, token := range []string{testCallbackToken, oldToken} {
		for keyName, c := range map[string]*Cipher{"current": cb.Cipher, "previous": cb.PreviousCipher} {
			for _, kind := range []format{formatXML, formatJSON} {
				t.Run(fmt.Sprint(token, keyName, kind), func(t *testing.T) {
					plain := scanBody("o1")
					if kind == formatJSON {
						plain = `{"FromUserName":"o1","MsgType":"event"}`
					}
					body := sealedXML(encrypted(t, c, plain))
					m, err := cb.Read(signedBy(token, body), body)
					if err != nil || m.FromUserName != "o1" {
						t.Fatalf("Read = %+v, %v", m, err)
					}
					if printed := fmt.Sprintf("%+v %#v", m, m); strings.Contains(printed, token) {
						t.Errorf("the token stands in %s", printed)
					}
					checkReply(t, &Callback{Token: token, Cipher: c, Now: cb.Now}, m.repliedBy(t, cb))
				})
			}
		}
	}
}

// repliedBy checks that a callback with both pairs replies by the pair of the
// message, and returns the message as one that came with a current pair.
func (m Message) repliedBy(t *testing.T, cb *Callback) Message {
	t.Helper()
	token, c := cb.secretsOf(m)
	reply, err := cb.Reply(m, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if back := readReply(t, &Callback{Token: token, Cipher: c}, reply); back.Content != "hello" {
		t.Errorf("reply reads as %+v", back)
	}
	other := cb.Cipher
	if c == cb.Cipher {
		other = cb.PreviousCipher
	}
	f, _, err := readFields(reply)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Decrypt(f.get("Encrypt")); err == nil {
		t.Error("the reply is encrypted by the other key")
	}
	m.previousToken, m.previousCipher = false, false
	return m
}

func TestRotationOfTheURLCheckAndPlainMode(t *testing.T) {
	cb := testCallback(nil)
	cb.PreviousToken = oldToken
	for token, want := range map[string]error{testCallbackToken: nil, oldToken: nil, "older": ErrSignature, "": ErrSignature} {
		q := signedBy(token, nil)
		q.Set("echostr", "echo")
		if got, err := cb.VerifyURL(q); !errors.Is(err, want) || (err == nil) != (got == "echo") {
			t.Errorf("%q: VerifyURL = %q, %v", token, got, err)
		}
		m, err := cb.Read(q, []byte(scanBody("o1")))
		if !errors.Is(err, want) {
			t.Errorf("%q: Read = %v", token, err)
		}
		if err == nil {
			checkReply(t, cb, m)
		}
	}
}

func TestEmptyPreviousTokenVerifiesNothing(t *testing.T) {
	c := testCipher(t, testAppID)
	body := sealedXML(encrypted(t, c, scanBody("o1")))
	for _, tokens := range [][2]string{{testCallbackToken, ""}, {"", ""}} {
		cb := testCallback(c)
		cb.Token, cb.PreviousToken = tokens[0], tokens[1]
		q := signedBy("", body)
		if _, err := cb.VerifyURL(q); !errors.Is(err, ErrSignature) {
			t.Errorf("VerifyURL = %v", err)
		}
		if _, err := cb.Read(q, body); !errors.Is(err, ErrSignature) {
			t.Errorf("Read = %v", err)
		}
	}
}

func TestRotationRefuses(t *testing.T) {
	both := testCallback(testCipher(t, testAppID))
	both.PreviousToken, both.PreviousCipher = oldToken, oldCipher(t, testAppID)
	foreign := testCallback(testCipher(t, testAppID))
	foreign.AppID, foreign.PreviousCipher = testAppID, oldCipher(t, "wx1")
	onlyPrevious := testCallback(nil)
	onlyPrevious.PreviousCipher = oldCipher(t, testAppID)
	third, err := NewCipher(strings.Repeat("A", 43), testAppID)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		cb   *Callback
		body []byte
		want error
	}{
		{"a third key", both, sealedXML("AAAA"), ErrMalformed},
		{"another account by the current key", both, sealedXML(encrypted(t, testCipher(t, "wx1"), scanBody("o1"))), ErrForeignAppID},
		{"another account by the previous key", both, sealedXML(sealedForOther(t, both.Cipher)), ErrForeignAppID},
		{"a previous key for another account", foreign, sealedXML(sealedForOther(t, foreign.Cipher)), ErrForeignAppID},
		{"plain with both keys", both, []byte(scanBody("o1")), ErrMode},
		{"plain with a previous key alone", onlyPrevious, []byte(scanBody("o1")), ErrMode},
	} {
		if _, err := tc.cb.Read(signedBy(testCallbackToken, tc.body), tc.body); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	body := sealedXML(encrypted(t, third, scanBody("o1")))
	if m, err := both.Read(signedBy(testCallbackToken, body), body); err == nil {
		t.Errorf("a third key was read: %+v", m)
	}
}

// sealedForOther is by the previous key for another account, and no message at
// all by the current one.
func sealedForOther(t *testing.T, current *Cipher) string {
	t.Helper()
	for {
		sealed := encrypted(t, oldCipher(t, "wx1"), scanBody("o1"))
		if _, err := current.Decrypt(sealed); errors.Is(err, ErrCiphertext) {
			return sealed
		}
	}
}

func TestReadOfAnotherAccountByItsName(t *testing.T) {
	to := func(name string) []byte {
		return []byte("<xml><ToUserName>" + name + "</ToUserName><FromUserName>o1</FromUserName><MsgType>text</MsgType></xml>")
	}
	known := func(name string) func() string { return func() string { return name } }
	for _, tc := range []struct {
		name       string
		originalID string
		known      func() string
		to         string
		want       error
	}{
		{"nothing known", "", nil, "gh_2", nil},
		{"not learned yet", "", known(""), "gh_2", nil},
		{"ours by setting", "gh_1", nil, "gh_1", nil},
		{"another by setting", "gh_1", nil, "gh_2", ErrForeignAccount},
		{"ours as learned", "", known("gh_1"), "gh_1", nil},
		{"another as learned", "", known("gh_1"), "gh_2", ErrForeignAccount},
		{"the setting goes first", "gh_1", known("gh_2"), "gh_2", ErrForeignAccount},
		{"nobody", "gh_1", nil, "", ErrForeignAccount},
		{"in other case", "gh_1", nil, "GH_1", ErrForeignAccount},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, c := range []*Cipher{nil, testCipher(t, testAppID)} {
				cb := testCallback(c)
				cb.OriginalID, cb.Known = tc.originalID, tc.known
				body := to(tc.to)
				if c != nil { // whose name stands outside does not count
					body = []byte("<xml><ToUserName>gh_1</ToUserName><Encrypt>" + encrypted(t, c, string(body)) + "</Encrypt></xml>")
				}
				m, err := cb.Read(signedQuery(cb, body), body)
				if !errors.Is(err, tc.want) || err != nil && m != (Message{}) {
					t.Errorf("key %v: Read = %+v, %v; want %v", c != nil, m, err, tc.want)
				}
			}
		})
	}
}

// TestProbeIsToNoAccount: who runs the check may not know the account's name.
func TestProbeIsToNoAccount(t *testing.T) {
	cb := testCallback(nil)
	cb.OriginalID = "gh_1"
	body := []byte("<xml><FromUserName>o1</FromUserName><MsgType>event</MsgType><Event>" + probeEvent + "</Event></xml>")
	m, err := cb.Read(signedQuery(cb, body), body)
	if err != nil || !m.Probe() {
		t.Errorf("Read = %+v, %v", m, err)
	}
	if (Message{MsgType: "text", Event: probeEvent}).Probe() || (Message{MsgType: "event", Event: "SCAN"}).Probe() {
		t.Error("something else is a probe")
	}
}

// TestCompatibleMode has the bodies of 兼容模式, where the plain fields stand
// beside the encrypted ones and whoever knows a query may change them.
func TestCompatibleMode(t *testing.T) {
	c := testCipher(t, testAppID)
	sealed := encrypted(t, c, scanBody("o1"))
	compatible := func(plain, encrypt string) []byte { return []byte("<xml>" + plain + encrypt + "</xml>") }
	const (
		genuine = "<FromUserName>o1</FromUserName><MsgType>event</MsgType><Event>SCAN</Event><EventKey>7</EventKey><Ticket>gQH</Ticket>"
		forged  = "<FromUserName>o2</FromUserName><MsgType>event</MsgType><Event>SCAN</Event><EventKey>8</EventKey><Ticket>gQX</Ticket>"
	)
	encrypt := "<Encrypt>" + sealed + "</Encrypt>"
	for _, tc := range []struct {
		name     string
		withKey  error // what Read says with a key configured
		plain    error // and without
		body     []byte
		encrypts string // "" where the query is that of plain mode
	}{
		{"as sent", nil, ErrMode, compatible(genuine, encrypt), "aes"},
		{"plain fields changed", nil, ErrMode, compatible(forged, encrypt), "aes"},
		{"plain fields taken out", nil, ErrMode, compatible("", encrypt), "aes"},
		{"Encrypt taken out", ErrMode, ErrMode, compatible(forged, ""), "aes"},
		{"Encrypt taken out, query too", ErrMode, nil, compatible(forged, ""), ""},
		{"Encrypt emptied", ErrMode, ErrMode, compatible(forged, "<Encrypt/>"), "aes"},
		{"query made plain", nil, ErrMode, compatible(forged, encrypt), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := signedBy(testCallbackToken, tc.body)
			q.Del("encrypt_type")
			if tc.encrypts != "" {
				q.Set("encrypt_type", tc.encrypts)
			}
			m, err := testCallback(c).Read(q, tc.body)
			if !errors.Is(err, tc.withKey) || err == nil && (m.FromUserName != "o1" || m.EventKey != "7" || m.Ticket != "gQH") {
				t.Errorf("with a key: %+v, %v; want %v", m, err, tc.withKey)
			}
			if _, err := testCallback(nil).Read(q, tc.body); !errors.Is(err, tc.plain) {
				t.Errorf("without a key: %v, want %v", err, tc.plain)
			}
		})
	}
}
