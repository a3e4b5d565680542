package wechatsim

import "strings"

// texts are the words of the page in one language.
type texts struct {
	Lang, Title, Intro                           string
	Codes, NoCodes, Scene, Seconds, Over, Scans  string
	People, Follower, Stranger, NoPeople         string
	NewPerson, NewName, NewFollows, Add          string
	Scan, ScanHint, ScanFollows                  string
	Follow, Unfollow, Say, Send, NotFollowing    string
	ChatEmpty, ChatLog                           string
	MsgScan, MsgExpired, MsgFollow, MsgUnfollow  string
	MsgFailure                                   string
	Weather, WeatherHint, Fair                   string
	DropTries, LoseReplies, Duplicates, NoScenes string
	Latency, ErrorCode, Calls, Endpoint, Every   string
	Apply, Clear, ExpireTokens, RevokeTokens     string
	Forever                                      string
	Counts, CountCalls, CountCodes, CountPushes  string
	CountTries, CountReplies, CountFailures      string
	Modes                                        map[Mode]string
	Busy, Offline                                string
}

// textsFor chooses by the Accept-Language header: the first of its languages that
// there is, English without any.
func textsFor(acceptLanguage string) texts {
	for tag := range strings.SplitSeq(strings.ToLower(acceptLanguage), ",") {
		switch tag = strings.TrimSpace(tag); {
		case strings.HasPrefix(tag, "zh"):
			return chinese()
		case strings.HasPrefix(tag, "en"):
			return english()
		}
	}
	return english()
}

func english() texts {
	return texts{
		Lang:  "en",
		Title: "WeChat simulator", Intro: "A phone with WeChat, for an Official Account that doesn't leave this machine.",
		Codes: "QR codes on screens", NoCodes: "No code yet. Open the site's login page and its code appears here.",
		Scene: "scene %s", Seconds: "%d s", Over: "expired", Scans: "scanned %d×",
		People: "Who holds the phone", Follower: "follower", Stranger: "not a follower", NoPeople: "Nobody has WeChat here yet. Invent somebody.",
		NewPerson: "Invent a new user", NewName: "Name", NewFollows: "Follows the account already", Add: "Add",
		Scan: "Scan as %s", ScanHint: "Choose a person and a code", ScanFollows: "Scanning makes %s follow the account.",
		Follow: "Follow", Unfollow: "Unfollow", Say: "Message", Send: "Send", NotFollowing: "Follow the account to write to it",
		ChatEmpty: "Nothing said yet", ChatLog: "Conversation of %s with the account",
		MsgScan: "Scanned the QR code of scene %s", MsgExpired: "This QR code has expired", MsgFollow: "You follow %s now", MsgUnfollow: "You no longer follow %s",
		MsgFailure: "The service of this Official Account is out of order. Please try again later.",
		Weather:    "Weather", WeatherHint: "What the real platform does on a bad day. Counts run down by themselves; -1 stays.", Fair: "Fair weather",
		DropTries: "Posts that never arrive", LoseReplies: "Answers that get lost", Duplicates: "Pushes delivered twice", NoScenes: "Follows without scene",
		Latency: "API latency", ErrorCode: "API error", Calls: "Calls", Endpoint: "Endpoint", Every: "every endpoint",
		Apply: "Apply", Clear: "Fair weather", ExpireTokens: "Expire tokens", RevokeTokens: "Revoke tokens",
		Forever: "until taken back",
		Counts:  "Counters", CountCalls: "API calls", CountCodes: "Codes today", CountPushes: "Pushes",
		CountTries: "Posts", CountReplies: "Replies", CountFailures: "Failures",
		Modes: map[Mode]string{Plain: "plain mode", Compatible: "compatible mode", Safe: "safe mode"},
		Busy:  "Waiting for the account's answer…", Offline: "The simulator doesn't answer. Trying again.",
	}
}

func chinese() texts {
	return texts{
		Lang:  "zh-CN",
		Title: "微信模拟器", Intro: "一部装了微信的手机，公众号只在这台机器上。",
		Codes: "屏幕上的二维码", NoCodes: "还没有二维码。打开网站的登录页，二维码就会出现在这里。",
		Scene: "场景 %s", Seconds: "%d 秒", Over: "已过期", Scans: "已扫 %d 次",
		People: "谁拿着手机", Follower: "已关注", Stranger: "未关注", NoPeople: "这里还没有微信用户，先添加一位吧。",
		NewPerson: "添加新用户", NewName: "名字", NewFollows: "已经关注公众号", Add: "添加",
		Scan: "用 %s 的手机扫码", ScanHint: "请选择用户和二维码", ScanFollows: "扫码后，%s 将关注公众号。",
		Follow: "关注", Unfollow: "取消关注", Say: "消息", Send: "发送", NotFollowing: "关注公众号后才能发消息",
		ChatEmpty: "还没有消息", ChatLog: "%s 与公众号的对话",
		MsgScan: "扫描了场景 %s 的二维码", MsgExpired: "该二维码已过期", MsgFollow: "你已关注 %s", MsgUnfollow: "你已取消关注 %s",
		MsgFailure: failureNotice,
		Weather:    "天气", WeatherHint: "真实平台在坏天气里的样子。次数用完自动恢复，-1 表示一直保持。", Fair: "天气晴朗",
		DropTries: "推送丢失（次）", LoseReplies: "回复丢失（次）", Duplicates: "推送重复（次）", NoScenes: "关注时丢失场景（次）",
		Latency: "接口延迟", ErrorCode: "接口错误码", Calls: "次数", Endpoint: "接口", Every: "全部接口",
		Apply: "应用", Clear: "恢复晴朗", ExpireTokens: "让凭据过期", RevokeTokens: "让凭据失效",
		Forever: "直到取消",
		Counts:  "计数", CountCalls: "接口调用", CountCodes: "今日二维码", CountPushes: "推送",
		CountTries: "请求", CountReplies: "回复", CountFailures: "故障",
		Modes: map[Mode]string{Plain: "明文模式", Compatible: "兼容模式", Safe: "安全模式"},
		Busy:  "正在等待公众号回复…", Offline: "模拟器没有响应，正在重试。",
	}
}
