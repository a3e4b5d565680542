package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"scanlogin/internal/wechat"
)

// Whoever scans has an account, which the commonest scan finds.
const loggedIn = "Logged in to"

// aesKey is an EncodingAESKey.
const aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"

// push is a callback as it goes over the wire: somebody has scanned the code of a scene.
type push struct {
	scene   int32
	request []byte
}

// waiting makes scenes 1..n wait for their scans, each with a new ticket, and returns the
// pushes of these: encrypted where there is a cipher. What was there before is forgotten.
func (w *world) waiting(ctx context.Context, n int, c *wechat.Cipher) ([]push, error) {
	ticket := strconv.FormatInt(time.Now().UnixNano(), 36) + strings.Repeat("x", 64) // about as long as WeChat's
	for _, statement := range []string{
		`TRUNCATE scanlogin.wechat_push`,
		`UPDATE scanlogin.scene SET login = gen_random_uuid(), state = 'waiting', openid = NULL, account_id = NULL,
			ticket = '` + ticket + `' || id, url = 'http://weixin.qq.com/q/' || id, watchers = 1, expires_at = now() + interval '1 hour'
			WHERE id <= ` + strconv.Itoa(n),
		`VACUUM ANALYZE scanlogin.scene, scanlogin.wechat_identity`,
	} {
		if _, err := w.admin.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("preparing logins: %w", err)
		}
	}
	pushes := make([]push, n)
	for i := range pushes {
		p := &pushes[i]
		p.scene = int32(i) + 1
		var err error
		if p.request, err = scanRequest(p.scene, ticket+strconv.Itoa(i+1), c); err != nil {
			return nil, err
		}
	}
	return pushes, nil
}

// scanRequest is the whole HTTP request.
func scanRequest(scene int32, ticket string, c *wechat.Cipher) ([]byte, error) {
	now, nonce := strconv.FormatInt(time.Now().Unix(), 10), "1320562132"
	openid := openidOf(scene)
	body := "<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName>\n<FromUserName><![CDATA[" + openid + "]]></FromUserName>\n" +
		"<CreateTime>" + now + "</CreateTime>\n<MsgType><![CDATA[event]]></MsgType>\n<Event><![CDATA[SCAN]]></Event>\n" +
		"<EventKey><![CDATA[" + strconv.Itoa(int(scene)) + "]]></EventKey>\n<Ticket><![CDATA[" + ticket + "]]></Ticket>\n</xml>"
	query := "signature=" + wechat.Sign(token, now, nonce) + "&timestamp=" + now + "&nonce=" + nonce + "&openid=" + openid
	if c != nil {
		sealed, err := c.Encrypt([]byte(body))
		if err != nil {
			return nil, err
		}
		body = "<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName>\n<Encrypt><![CDATA[" + sealed + "]]></Encrypt>\n</xml>"
		query += "&encrypt_type=aes&msg_signature=" + wechat.Sign(token, now, nonce, sealed)
	}
	return fmt.Appendf(nil, "POST /wechat/callback?%s HTTP/1.1\r\nHost: login.example.com\r\nUser-Agent: Mozilla/4.0\r\n"+
		"Accept: */*\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s", query, len(body), body), nil
}

// openidOf is the person who scans the code of a scene: 28 characters, as all have.
func openidOf(scene int32) string { return fmt.Sprintf("o%027d", scene) }

// addPeople gives everybody who may scan an account.
func (w *world) addPeople(ctx context.Context, n int) error {
	_, err := w.admin.Exec(ctx, `WITH a AS (
			INSERT INTO scanlogin.account (name, password) SELECT 'user' || n, '' FROM generate_series(1, $1::int) n RETURNING id, name
		) INSERT INTO scanlogin.wechat_identity (appid, openid, account_id)
		SELECT $2, 'o' || lpad(substr(name, 5), 27, '0'), id FROM a`, n, appID)
	if err != nil {
		return fmt.Errorf("adding people: %w", err)
	}
	return nil
}

// says tells whether a reply has these words for the phone.
func says(reply []byte, words string, c *wechat.Cipher) bool {
	text := string(reply)
	if c != nil {
		_, rest, _ := strings.Cut(text, "<Encrypt><![CDATA[")
		sealed, _, _ := strings.Cut(rest, "]]>")
		plain, err := c.Decrypt(sealed)
		if err != nil {
			return false
		}
		text = string(plain)
	}
	return strings.Contains(text, words)
}
