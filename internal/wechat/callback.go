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
	// Cipher has the account's EncodingAESKey; nil: plain mode.
	Cipher *Cipher
	// AppID, where set, must be the one that the Cipher was made for, or every
	// message is refused as foreign.
	AppID string
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
	if !cb.verify("signature", q) {
		return "", ErrSignature
	}
	return q.Get("echostr"), nil
}

// Read verifies the query of a POST and returns the message in its body.
//
// Errors are, in the order of the checks, ErrSignature, ErrStale, ErrMode or
// ErrForeignAppID, for which the answer is 403, and ErrMalformed for 400. A
// body is only called malformed where the query is signed.
func (cb *Callback) Read(q url.Values, body []byte) (Message, error) {
	if cb.Cipher == nil {
		return cb.readPlain(q, body)
	}
	return cb.readEncrypted(q, body)
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
	if f["Encrypt"] != "" {
		return Message{}, ErrMode
	}
	return f.message(kind)
}

func (cb *Callback) readEncrypted(q url.Values, body []byte) (Message, error) {
	envelope, _, err := readFields(body)
	sealed := envelope["Encrypt"] // nothing else in it counts
	if err == nil && sealed == "" {
		err = ErrMode
	}
	if err != nil {
		// What is wrong with the body is only for those who can sign.
		return Message{}, cmp.Or(cb.checkPlainQuery(q), err)
	}
	if !cb.verify("msg_signature", q, sealed) {
		return Message{}, ErrSignature
	}
	if err := cb.checkTime(q); err != nil {
		return Message{}, err
	}
	plain, err := cb.decrypt(sealed)
	if err != nil {
		return Message{}, err
	}
	f, kind, err := readFields(plain)
	if err != nil {
		return Message{}, err
	}
	return f.message(kind)
}

func (cb *Callback) decrypt(sealed string) ([]byte, error) {
	if cb.AppID != "" && cb.AppID != cb.Cipher.appID {
		return nil, ErrForeignAppID
	}
	plain, err := cb.Cipher.Decrypt(sealed)
	if errors.Is(err, ErrCiphertext) {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return plain, err
}

func (cb *Callback) checkPlainQuery(q url.Values) error {
	if !cb.verify("signature", q) {
		return ErrSignature
	}
	return cb.checkTime(q)
}

// verify compares the named signature of the query, over the token, the query's
// timestamp and nonce, and the message where one is given.
func (cb *Callback) verify(name string, q url.Values, message ...string) bool {
	parts := append([]string{cb.Token, q.Get("timestamp"), q.Get("nonce")}, message...)
	return VerifySignature(q.Get(name), parts...)
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
// the format of the message, and encrypted where there is a Cipher. For an
// empty text it is "success", which answers without a reply.
//
// Source: developers.weixin.qq.com/doc/offiaccount/Message_Management/Passive_user_reply_message.html
func (cb *Callback) Reply(m Message, text string) ([]byte, error) {
	if text == "" {
		return []byte(success), nil
	}
	now := cb.now().Unix()
	plain, err := m.format.textReply(m, text, now)
	if err != nil || cb.Cipher == nil {
		return plain, err
	}
	sealed, err := cb.Cipher.Encrypt(plain)
	if err != nil {
		return nil, fmt.Errorf("encrypting a reply: %w", err)
	}
	nonce := rand.Text()
	signature := Sign(cb.Token, strconv.FormatInt(now, 10), nonce, sealed)
	return m.format.envelope(sealed, signature, now, nonce)
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
	return fmt.Appendf(nil, "<xml><ToUserName>%s</ToUserName><FromUserName>%s</FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[text]]></MsgType><Content>%s</Content></xml>",
		cdata(m.FromUserName), cdata(m.ToUserName), now, cdata(text)), nil
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
	return fmt.Appendf(nil, "<xml><Encrypt>%s</Encrypt><MsgSignature>%s</MsgSignature>"+
		"<TimeStamp>%d</TimeStamp><Nonce>%s</Nonce></xml>",
		cdata(sealed), cdata(signature), now, cdata(nonce)), nil
}

// cdata quotes a text for XML. What XML can't hold even so is left out.
func cdata(text string) string {
	text = strings.Map(func(r rune) rune {
		if xmlChar(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
	return "<![CDATA[" + strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>") + "]]>"
}

// xmlChar is the production Char of XML 1.0, section 2.2, without the surrogates,
// which are no runes of a valid string.
func xmlChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r != 0xFFFE && r != 0xFFFF
}
