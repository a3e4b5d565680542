package wechat

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultWindow is how far a push's timestamp may be from now where a Callback
// says nothing else.
const DefaultWindow = 10 * time.Minute

// What Callback refuses, beside ErrMalformed and ErrForeignAppID. The answer is
// 403.
var (
	// ErrSignature: whoever sent this does not know the token.
	ErrSignature = errors.New("bad signature")
	// ErrMode: plain where a key is configured, or encrypted where none is. Where
	// WeChat itself sent it, the mode in the account's settings is another one.
	ErrMode = errors.New("message in the wrong mode")
	// ErrStale: signed for another time, so maybe by whoever recorded it.
	ErrStale = errors.New("timestamp outside the window")
	// ErrForeignAccount: to another account than ours, by its ToUserName.
	ErrForeignAccount = errors.New("message for another account")
)

// success is the answer that tells WeChat to push this message no more. It is
// never encrypted.
const success = "success"

// Callback reads what WeChat sends to the account's callback URL and writes the
// replies. It is safe for concurrent use; its fields are set before.
//
// Without a Cipher it is in plain mode, where the signature does not cover the
// body: whoever has seen one query can sign any message until its timestamp
// leaves the window. With a Cipher only what is encrypted counts, whatever else
// stands in the query or beside it.
type Callback struct {
	// Token is the callback token of the account's settings. An empty one
	// verifies nothing.
	Token string
	// PreviousToken verifies too, so that the token in the account's settings can
	// be changed without a gap. An empty one verifies nothing.
	PreviousToken string
	// Cipher has the account's EncodingAESKey; nil: plain mode.
	Cipher *Cipher
	// PreviousCipher has the key before that, for what the current one doesn't
	// decrypt. To set it without a Cipher is a mistake that the caller has to
	// refuse: only what the previous key encrypted would be read then.
	PreviousCipher *Cipher
	// AppID, where set, must be the one that the ciphers were made for, or every
	// message is refused as foreign.
	AppID string
	// OriginalID is the account's own name in ToUserName, gh_…, where it is a
	// setting.
	OriginalID string
	// Known gives the same where it was learned from an earlier message; it is
	// asked for every message while OriginalID is empty, and must be safe for
	// concurrent use. While it is nil or returns "", any account's messages are
	// read. Who learns from a message takes none that is a Probe.
	Known func() string
	// Window is how far a timestamp may be from now, in both directions;
	// DefaultWindow where 0.
	Window time.Duration
	// Now is the clock, time.Now where nil.
	Now func() time.Time
}

// VerifyURL answers the GET by which WeChat makes sure whose URL this is: it
// returns the echostr to be sent back as it is, as text/plain, or ErrSignature.
// The echostr of an Official Account is plain in every mode.
//
// The window is not applied: there is nothing in this answer that the sender
// did not have.
func (cb *Callback) VerifyURL(q url.Values) (echostr string, err error) {
	if _, ok := cb.verify("signature", q); !ok {
		return "", ErrSignature
	}
	return q.Get("echostr"), nil
}

// Read verifies the query of a POST and returns the message in its body.
//
// Errors are, in the order of the checks, ErrSignature, ErrStale, ErrMode,
// ErrForeignAppID or ErrForeignAccount, for which the answer is 403, and
// ErrMalformed for 400. A body is only called malformed where the query is
// signed.
func (cb *Callback) Read(q url.Values, body []byte) (Message, error) {
	read := cb.readEncrypted
	if cb.Cipher == nil && cb.PreviousCipher == nil {
		read = cb.readPlain
	}
	m, err := read(q, body)
	if err == nil && !cb.ours(m) {
		return Message{}, ErrForeignAccount
	}
	return m, err
}

// ours tells whether a message is to our account, as far as its name is known.
// A probe comes from those who may not know it, and changes nothing.
func (cb *Callback) ours(m Message) bool {
	known := cb.OriginalID
	if known == "" && cb.Known != nil {
		known = cb.Known()
	}
	return known == "" || m.ToUserName == known || m.Probe()
}

func (cb *Callback) readPlain(q url.Values, body []byte) (Message, error) {
	if err := cb.checkPlainQuery(q); err != nil {
		return Message{}, err
	}
	if kind := q.Get("encrypt_type"); kind != "" && kind != "raw" {
		return Message{}, ErrMode
	}
	f, kind, err := readFields(body)
	if err != nil {
		return Message{}, err
	}
	if f.get("Encrypt") != "" {
		return Message{}, ErrMode
	}
	return f.message(kind)
}

func (cb *Callback) readEncrypted(q url.Values, body []byte) (Message, error) {
	envelope, _, err := readFields(body)
	sealed := envelope.get("Encrypt") // nothing else in it counts
	if err == nil && sealed == "" {
		err = ErrMode
	}
	if err != nil {
		// What is wrong with the body is only for those who can sign.
		return Message{}, cmp.Or(cb.checkPlainQuery(q), err)
	}
	previousToken, ok := cb.verify("msg_signature", q, sealed)
	if !ok {
		return Message{}, ErrSignature
	}
	if err := cb.checkTime(q); err != nil {
		return Message{}, err
	}
	plain, previousCipher, err := cb.decrypt(sealed)
	if err != nil {
		return Message{}, err
	}
	f, kind, err := readFields(plain)
	if err != nil {
		return Message{}, err
	}
	m, err := f.message(kind)
	if err != nil {
		return Message{}, err
	}
	m.previousToken, m.previousCipher = previousToken, previousCipher
	return m, nil
}

// decrypt tries the current key, then the previous one. Where neither is right,
// another account's appid is the better news.
func (cb *Callback) decrypt(sealed string) (plain []byte, previous bool, err error) {
	plain, err = cb.decryptWith(cb.Cipher, sealed)
	if err != nil && cb.PreviousCipher != nil {
		var olderErr error
		if plain, olderErr = cb.decryptWith(cb.PreviousCipher, sealed); olderErr == nil {
			return plain, true, nil
		}
		if errors.Is(err, ErrCiphertext) {
			err = olderErr
		}
	}
	if errors.Is(err, ErrCiphertext) {
		err = fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return plain, false, err
}

func (cb *Callback) decryptWith(c *Cipher, sealed string) ([]byte, error) {
	if c == nil {
		return nil, ErrCiphertext
	}
	if cb.AppID != "" && cb.AppID != c.appID {
		return nil, ErrForeignAppID
	}
	return c.Decrypt(sealed)
}

func (cb *Callback) checkPlainQuery(q url.Values) error {
	if _, ok := cb.verify("signature", q); !ok {
		return ErrSignature
	}
	return cb.checkTime(q)
}

// verify compares the named signature of the query, over a token, the query's
// timestamp and nonce, and the message where one is given. It says whether the
// token is the previous one. Both are always tried, so that the time tells
// nothing about either.
func (cb *Callback) verify(name string, q url.Values, message ...string) (previous, ok bool) {
	parts := append([]string{cb.Token, q.Get("timestamp"), q.Get("nonce")}, message...)
	byCurrent := VerifySignature(q.Get(name), parts...)
	parts[0] = cb.PreviousToken
	byPrevious := VerifySignature(q.Get(name), parts...)
	return !byCurrent, byCurrent || byPrevious
}

func (cb *Callback) checkTime(q url.Values) error {
	seconds, err := parseDigits(q.Get("timestamp"))
	if err != nil {
		return ErrStale
	}
	if cb.now().Sub(time.Unix(seconds, 0)).Abs() > cmp.Or(cb.Window, DefaultWindow) {
		return ErrStale
	}
	return nil
}

func (cb *Callback) now() time.Time {
	if cb.Now == nil {
		return time.Now()
	}
	return cb.Now()
}

// Reply returns the body that answers a message with a text to its sender: in
// the format of the message, and encrypted where there is a Cipher, with the
// key and the token that the message came with. For an empty text it is
// "success", which answers without a reply.
//
// Source: developers.weixin.qq.com/doc/offiaccount/Message_Management/Passive_user_reply_message.html
func (cb *Callback) Reply(m Message, text string) ([]byte, error) {
	if text == "" {
		return []byte(success), nil
	}
	now := cb.now().Unix()
	plain, err := m.format.textReply(m, text, now)
	token, c := cb.secretsOf(m)
	if err != nil || c == nil {
		return plain, err
	}
	sealed, err := c.Encrypt(plain)
	if err != nil {
		return nil, fmt.Errorf("encrypting a reply: %w", err)
	}
	nonce := rand.Text()
	signature := Sign(token, strconv.FormatInt(now, 10), nonce, sealed)
	return m.format.envelope(sealed, signature, now, nonce)
}

// secretsOf returns the token and the key of a message: WeChat may still know
// no others than the previous ones.
func (cb *Callback) secretsOf(m Message) (string, *Cipher) {
	token, c := cb.Token, cb.Cipher
	if m.previousToken {
		token = cb.PreviousToken
	}
	if m.previousCipher {
		c = cb.PreviousCipher
	}
	return token, c
}

func (f format) textReply(m Message, text string, now int64) ([]byte, error) {
	if f == formatJSON {
		return json.Marshal(struct {
			ToUserName   string
			FromUserName string
			CreateTime   int64
			MsgType      string
			Content      string
		}{m.FromUserName, m.ToUserName, now, "text", text})
	}
	b := append(make([]byte, 0, 512), "<xml>"...)
	b = appendText(b, "ToUserName", m.FromUserName)
	b = appendText(b, "FromUserName", m.ToUserName)
	b = appendNumber(b, "CreateTime", now)
	b = appendText(b, "MsgType", "text")
	b = appendText(b, "Content", text)
	return append(b, "</xml>"...), nil
}

func (f format) envelope(sealed, signature string, now int64, nonce string) ([]byte, error) {
	if f == formatJSON {
		return json.Marshal(struct {
			Encrypt      string
			MsgSignature string
			TimeStamp    int64
			Nonce        string
		}{sealed, signature, now, nonce})
	}
	b := append(make([]byte, 0, 512+len(sealed)), "<xml>"...)
	b = appendText(b, "Encrypt", sealed)
	b = appendText(b, "MsgSignature", signature)
	b = appendNumber(b, "TimeStamp", now)
	b = appendText(b, "Nonce", nonce)
	return append(b, "</xml>"...), nil
}

// appendText appends an element. What XML can't hold even in CDATA is left out.
func appendText(b []byte, name, text string) []byte {
	text = strings.Map(func(r rune) rune {
		if xmlChar(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
	text = strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>")
	return appendElement(b, name, "<![CDATA[", text, "]]>")
}

func appendNumber(b []byte, name string, n int64) []byte {
	return appendElement(b, name, strconv.FormatInt(n, 10))
}

func appendElement(b []byte, name string, content ...string) []byte {
	b = append(b, "<"+name+">"...)
	for _, piece := range content {
		b = append(b, piece...)
	}
	return append(b, "</"+name+">"...)
}

// xmlChar is the production Char of XML 1.0, section 2.2, without the surrogates,
// which are no runes of a valid string.
func xmlChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r != 0xFFFE && r != 0xFFFF
}
