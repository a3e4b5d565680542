package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"scanlogin/internal/login"
)

// Reply is what the phone is told, by the name that it has in a file of own words.
type Reply string

// What there is to tell.
const (
	ReplyLoggedIn Reply = "logged_in" // scanned, or confirmed, by somebody with an account
	ReplyGoBind   Reply = "must_bind" // by somebody without
	ReplyExpired  Reply = "expired"   // scanned too late, or an old picture of a code
	ReplyUsed     Reply = "used"      // somebody else was first
	ReplyWelcome  Reply = "welcome"   // followed without a code

	ReplyConfirm     Reply = "confirm_reply" // scanned: answer with the number on the page
	ReplyConfirmCode Reply = "confirm_code"  // scanned: type this code into the page
	ReplyDeclined    Reply = "declined"      // by this person, just now
	ReplyWrongNumber Reply = "wrong_number"  // not the one on the page
	ReplyWrongThrice Reply = "wrong_thrice"  // which was the end of the login

	// Without having been asked, where WeChat allows it: what has happened to their account.
	ReplyToldBound    Reply = "told_bound"
	ReplyToldUnbound  Reply = "told_unbound"
	ReplyToldPassword Reply = "told_password"
)

// Replies are the words for the phone; see fields for what they may leave to be filled in.
type Replies map[Reply]string

// fields are what a reply may have filled in: the site's name, the time of day, in UTC+8 as
// WeChat's users live; roughly where the browser is that shows the code, and which it is,
// both empty where nobody says; both together; and the code of confirm_code.
func fields() []string {
	return []string{"{site}", "{time}", "{place}", "{browser}", "{from}", "{code}"}
}

// builtinReplies are in both languages, since WeChat's push doesn't say which one its
// owner reads.
func builtinReplies() Replies {
	return Replies{
		ReplyLoggedIn: "您已于 {time} 登录 {site}。如非本人操作，请立即修改密码并解除绑定。\n" +
			"Logged in to {site} at {time}. If this wasn't you, change your password and unlink WeChat.",
		ReplyGoBind: "扫码成功。请回到 {site} 的页面，绑定账号后完成登录。\n" +
			"Scanned. Go back to the page of {site} and link your account to sign in.",
		ReplyExpired: "二维码已过期，请刷新页面后重新扫码。\n" +
			"This code has expired. Please get a new one on the page and scan again.",
		ReplyUsed: "该二维码已被他人使用，请刷新页面后重新扫码。\n" +
			"Somebody else has used this code. Please get a new one on the page and scan again.",
		ReplyWelcome: "感谢关注！要登录 {site}，请在登录页扫描二维码；如果刚刚扫过码，请再扫一次。\n" +
			"Thanks for following! To sign in to {site}, scan the code on its sign-in page; if you just did, scan it once more.",

		ReplyConfirm: "{time} 有浏览器（{from}）请求以您的身份登录 {site}。如果是您本人在操作，请回复登录页上显示的两位数字；如果页面不在您面前，请回复 0 拒绝。\n" +
			"At {time} a browser ({from}) asks to sign in to {site} as you. If it is yours, answer with the two digits on its page. If it isn't in front of you, answer 0 to decline.",
		ReplyConfirmCode: "{time} 有浏览器（{from}）请求以您的身份登录 {site}。如果是您本人在操作，请在登录页输入验证码 {code}；切勿告诉他人。如果页面不在您面前，请回复 0 拒绝。\n" +
			"At {time} a browser ({from}) asks to sign in to {site} as you. If it is yours, type {code} into its page, and tell it to nobody. If it isn't in front of you, answer 0 to decline.",
		ReplyDeclined: "已拒绝，没有人登录 {site}。如果有人让您扫描这个二维码，请提高警惕。\n" +
			"Declined: nobody was signed in to {site}. If somebody asked you to scan that code, beware of them.",
		ReplyWrongNumber: "这不是登录页上的数字。请回复页面上显示的两位数字；如果页面不在您面前，请回复 0 拒绝。三次不符，登录将被取消。\n" +
			"That isn't the number on the page. Answer with its two digits, or with 0 to decline. After three wrong numbers the sign-in is cancelled.",
		ReplyWrongThrice: "三次数字不符，登录 {site} 的请求已取消。如需登录，请刷新页面后重新扫码。\n" +
			"Three wrong numbers: the sign-in to {site} was cancelled. To sign in, get a new code on the page and scan again.",

		ReplyToldBound: "{time} 有微信绑定到您在 {site} 的账号（{from}），以后可扫码登录。如非本人操作，请立即登录，解除绑定并修改密码。\n" +
			"At {time} a WeChat was linked to your account at {site} ({from}) and can sign in to it by a scan. If this wasn't you, sign in at once, unlink it and change your password.",
		ReplyToldUnbound: "{time} 您在 {site} 的账号已解除微信绑定（{from}），此微信不能再扫码登录。如非本人操作，请立即用密码登录并修改密码。\n" +
			"At {time} WeChat was unlinked from your account at {site} ({from}): this WeChat no longer signs in to it. If this wasn't you, sign in with your password at once and change it.",
		ReplyToldPassword: "{time} 您在 {site} 的账号已修改密码（{from}），其他设备上的登录已退出。如非本人操作，请立即联系 {site}。\n" +
			"At {time} the password of your account at {site} was changed ({from}), and other browsers were signed out. If this wasn't you, contact {site} at once.",
	}
}

// LoadReplies reads a JSON object of own words; what it leaves out keeps the built-in
// ones, an empty text sends none. Empty path: all built in.
func LoadReplies(path string) (Replies, error) {
	words := builtinReplies()
	if path == "" {
		return words, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("WECHAT_REPLY_TEXTS: %w", err)
	}
	var own Replies
	if err := json.Unmarshal(b, &own); err != nil {
		return nil, fmt.Errorf("WECHAT_REPLY_TEXTS: %s is not a JSON object of texts: %w", path, err)
	}
	for name, text := range own {
		if _, ok := words[name]; !ok {
			return nil, fmt.Errorf("WECHAT_REPLY_TEXTS: %s has %q; there are %q", path, name, slices.Sorted(maps.Keys(words)))
		}
		if len(text) > maxReply {
			return nil, fmt.Errorf("WECHAT_REPLY_TEXTS: %s: %q is longer than the %d bytes that WeChat takes", path, name, maxReply)
		}
		if err := checkFields(name, text); err != nil {
			return nil, fmt.Errorf("WECHAT_REPLY_TEXTS: %s: %q %w", path, name, err)
		}
	}
	maps.Copy(words, own)
	return words, nil
}

// maxReply leaves room for the fields: WeChat cuts a text reply at 2,048 bytes.
const maxReply = 1800

var (
	errField  = errors.New("has a field that is none of " + strings.Join(fields(), ", "))
	errNoCode = errors.New("has no {code}, without which nobody can confirm")
)

func checkFields(name Reply, text string) error {
	rest := text
	for _, f := range fields() {
		rest = strings.ReplaceAll(rest, f, "")
	}
	switch {
	case strings.ContainsAny(rest, "{}"):
		return errField
	case name == ReplyConfirmCode && !strings.Contains(text, "{code}"):
		return errNoCode
	}
	return nil
}

// unknownOrigin is {from} where nothing is known of a browser.
const unknownOrigin = "?"

// say is the reply, filled in. The time is that of the push, in seconds since 1970: a
// push that is repeated a minute later gets the same words.
func (s *Server) say(r Reply, at int64, q login.Question) string {
	text := strings.ReplaceAll(s.Replies[r], "{site}", s.site())
	text = strings.ReplaceAll(text, "{time}", time.Unix(at, 0).UTC().Add(8*time.Hour).Format("15:04"))
	if !strings.Contains(text, "{") {
		return text
	}
	// At once, for what a browser says of itself isn't filled in.
	return strings.NewReplacer("{place}", q.Place, "{browser}", q.Browser,
		"{from}", cmp.Or(joined(", ", q.Browser, q.Place), unknownOrigin), "{code}", q.Code).Replace(text)
}

// wantsOrigin tells whether the reply says something of the browser.
func (s *Server) wantsOrigin(r Reply) bool {
	return slices.ContainsFunc([]string{"{place}", "{browser}", "{from}"}, func(field string) bool {
		return strings.Contains(s.Replies[r], field)
	})
}
