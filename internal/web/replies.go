package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Reply is what the phone is told, by the name that it has in a file of own words.
type Reply string

// What there is to tell.
const (
	ReplyLoggedIn Reply = "logged_in" // scanned by somebody with an account
	ReplyGoBind   Reply = "must_bind" // scanned by somebody without
	ReplyExpired  Reply = "expired"   // scanned too late, or an old picture of a code
	ReplyUsed     Reply = "used"      // somebody else was first
	ReplyWelcome  Reply = "welcome"   // followed without a code
)

// Replies are the words for the phone. {site} and {time} stand for the site's name and
// the time of day, in UTC+8 as WeChat's users live; {place} for roughly where the browser
// is that shows the code, empty where nobody says.
type Replies map[Reply]string

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
		if err := checkFields(text); err != nil {
			return nil, fmt.Errorf("WECHAT_REPLY_TEXTS: %s: %q %w", path, name, err)
		}
	}
	maps.Copy(words, own)
	return words, nil
}

// maxReply leaves room for the fields: WeChat cuts a text reply at 2,048 bytes.
const maxReply = 1800

var errField = errors.New("has a field that is none of {site}, {time} and {place}")

func checkFields(text string) error {
	rest := strings.NewReplacer("{site}", "", "{time}", "", "{place}", "").Replace(text)
	if strings.ContainsAny(rest, "{}") {
		return errField
	}
	return nil
}

// say is the reply, filled in. The time is that of the push, in seconds since 1970: a
// push that is repeated a minute later gets the same words.
func (s *Server) say(r Reply, at int64, place string) string {
	shanghai := time.FixedZone("UTC+8", 8*60*60)
	return strings.NewReplacer(
		"{site}", s.site(), "{time}", time.Unix(at, 0).In(shanghai).Format("15:04"), "{place}", place,
	).Replace(s.Replies[r])
}

// wantsPlace tells whether the reply says where the browser is.
func (s *Server) wantsPlace(r Reply) bool { return strings.Contains(s.Replies[r], "{place}") }
