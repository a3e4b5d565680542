package web

import (
	"strconv"
	"strings"

	"scanlogin/internal/account"
)

// The languages that the pages speak, as BCP 47 tags for the lang attribute.
const (
	langChinese = "zh-CN"
	langEnglish = "en"
)

// Texts is every text of the pages in one language. The templates of package
// static name its fields.
type Texts struct {
	// TimeLayout is the layout of a time in UTC, in words of the language.
	TimeLayout string

	// The login page.
	LoginTo       string // followed by the site's name
	LoginTitle    string
	Or            string
	Username      string
	Password      string
	ShowPassword  string
	PasswordTitle string
	LoginSubmit   string
	SignupHint    string
	Footnote      string
	NoScript      string

	// Its QR panel, in the order of a login.
	ScanTitle         string
	Connecting        string
	QRAlt             string
	ScanLead          string
	ScanHow           string
	ScanInWeChat      string
	ScanOnPhone       string
	SaveQR            string
	ScanLeft          string // followed by minutes and seconds
	Checking          string
	NumberLead        string // followed by the number
	NumberHow         string
	NumberNotYou      string
	DeclinedLead      string
	DeclinedHow       string
	SuccessLead       string
	SuccessHow        string
	ExpiredLead       string
	ExpiredHow        string
	Renew             string
	PoolExhausted     string
	WeChatUnavailable string
	RateLimited       string
	UnavailableHow    string
	RetryUnit         string // preceded by a number of seconds
	Lost              string
	Offline           string

	// Its form for the code that the person was sent.
	CodeTitle     string
	CodeLead      string
	CodeLabel     string
	CodeSubmit    string
	CodeNotYou    string
	CodeTriesLeft string // followed by a number
	CodeFormat    string

	// Where the panel is part of another site's page.
	PasswordInstead   string
	LoginElsewhere    string
	LoginElsewhereHow string // followed by the site's name

	// Its bind form.
	Scanned       string
	BindTitle     string
	BindLead      string
	BindSubmit    string
	BindSkip      string
	ModeBind      string
	ModeSignup    string
	SignupLead    string
	SignupSubmit  string
	FailedNetwork string
	FailedBusy    string
	FailedServer  string

	// The user page.
	UserTitle     string
	SignedInAt    string // followed by a time
	Logout        string
	WeChat        string
	Bound         string
	NotBound      string
	BoundAt       string // followed by a time
	BindHint      string
	BindNow       string
	Unbind        string
	UnbindAsk     string
	UnbindConfirm string

	// What it tells of the account, until it is read.
	NoticesTitle   string
	NoticesHint    string
	NoticesSeen    string
	NoticeBound    string
	NoticeUnbound  string
	NoticePassword string

	// Its form for another password.
	ChangePassword  string
	PasswordHint    string
	CurrentPassword string
	NewPassword     string
	PasswordSubmit  string
	PasswordChanged string

	// The page of the sessions.
	SessionsTitle  string
	SessionsHint   string
	SessionsShow   string
	UnknownBrowser string
	ThisSession    string
	SeenAt         string // followed by a time
	Revoke         string
	RevokeOthers   string
	RevokeAsk      string
	RevokeConfirm  string

	// The error page.
	ErrorTitle string
	ErrorBack  string

	errors map[string]string // by code
}

// Error is the text for the error code that a JSON answer carries. A code
// without a text of its own gets the text of "internal".
func (t Texts) Error(code string) string {
	if text, ok := t.errors[code]; ok {
		return text
	}
	return t.errors["internal"]
}

// notice is what has happened to the account; empty for what only a newer version knows.
func (t Texts) notice(kind account.NoticeKind) string {
	return map[account.NoticeKind]string{
		account.NoticeBound: t.NoticeBound, account.NoticeUnbound: t.NoticeUnbound, account.NoticePasswordChanged: t.NoticePassword,
	}[kind]
}

// from is where something came from, as far as that is known.
func (t Texts) from(o account.Origin) string {
	browser, system := browserOf(o.Browser)
	if browser == "WeChat" {
		browser = t.WeChat
	}
	return joined(" · ", browser, system, o.Place)
}

// TextsIn is the texts in lang, one of the values of [Language].
func TextsIn(lang string) Texts {
	if lang == langChinese {
		return chinese()
	}
	return english()
}

func chinese() Texts {
	return Texts{
		TimeLayout: "2006年1月2日 15:04 UTC",

		LoginTo:       "登录",
		LoginTitle:    "登录",
		Or:            "或",
		Username:      "用户名",
		Password:      "密码",
		ShowPassword:  "显示密码",
		PasswordTitle: "账号密码登录",
		LoginSubmit:   "登录",
		SignupHint:    "还没有账号？用微信扫码即可创建。",
		Footnote:      "扫码仅用于确认身份，本站不会获得您的微信密码和聊天内容。",
		NoScript:      "扫码登录需要启用 JavaScript；账号密码登录不受影响。",

		ScanTitle:         "微信扫码登录",
		Connecting:        "正在获取二维码…",
		QRAlt:             "用于登录的微信二维码",
		ScanLead:          "打开微信，扫一扫登录",
		ScanHow:           "首次使用时，请按微信提示关注公众号",
		ScanInWeChat:      "长按二维码，选择识别图中的二维码",
		ScanOnPhone:       "正在用手机？先保存图片，再在微信“扫一扫”中从相册选取",
		SaveQR:            "保存二维码",
		ScanLeft:          "有效时间",
		Checking:          "正在确认状态…",
		NumberLead:        "请在微信中回复",
		NumberHow:         "公众号刚刚给您发了一条消息，请在对话中回复上面的数字",
		NumberNotYou:      "不是您扫的码？请勿把数字告诉任何人",
		DeclinedLead:      "登录未获确认",
		DeclinedHow:       "手机上拒绝了这次登录，或者三次输入有误",
		SuccessLead:       "登录成功",
		SuccessHow:        "正在跳转…",
		ExpiredLead:       "二维码已过期",
		ExpiredHow:        "刷新后重新扫码即可",
		Renew:             "刷新二维码",
		PoolExhausted:     "当前扫码人数较多，请稍候",
		WeChatUnavailable: "暂时无法连接微信",
		RateLimited:       "获取二维码过于频繁",
		UnavailableHow:    "稍后自动重试，也可以使用账号密码登录",
		RetryUnit:         "秒",
		Lost:              "连接已断开，正在重新连接…",
		Offline:           "网络已断开，恢复后自动继续",

		CodeTitle:     "输入微信收到的验证码",
		CodeLead:      "公众号刚刚给您发了一条消息，其中有六位验证码。",
		CodeLabel:     "验证码",
		CodeSubmit:    "确认登录",
		CodeNotYou:    "不是您扫的码？这个页面无法继续，请等待片刻或使用账号密码登录。",
		CodeTriesLeft: "剩余次数：",
		CodeFormat:    "请输入六位数字。",

		PasswordInstead:   "使用账号密码登录",
		LoginElsewhere:    "使用微信登录",
		LoginElsewhereHow: "登录后自动返回本页，登录网址：",

		Scanned:       "已扫码",
		BindTitle:     "将微信绑定到您的账号",
		BindLead:      "只需验证一次账号密码，以后扫码即可登录。",
		BindSubmit:    "绑定并登录",
		BindSkip:      "暂不绑定，使用账号密码登录",
		ModeBind:      "已有账号",
		ModeSignup:    "新建账号",
		SignupLead:    "设置用户名和密码，微信将自动绑定。",
		SignupSubmit:  "创建并登录",
		FailedNetwork: "网络连接失败，请检查网络后重试。",
		FailedBusy:    "尝试次数过多，请稍后再试。",
		FailedServer:  "服务暂时不可用，请稍后再试。",

		UserTitle:     "账号中心",
		SignedInAt:    "登录于",
		Logout:        "退出登录",
		WeChat:        "微信",
		Bound:         "已绑定",
		NotBound:      "未绑定",
		BoundAt:       "绑定于",
		BindHint:      "绑定后扫码即可登录，无需输入密码。",
		BindNow:       "绑定微信",
		Unbind:        "解除微信绑定",
		UnbindAsk:     "解除后，这个微信将不能再扫码登录该账号；账号密码登录不受影响。",
		UnbindConfirm: "确认解除",

		NoticesTitle:   "您的账号有变动",
		NoticesHint:    "如果不是您本人操作，请立即修改密码，并退出所有其他设备。",
		NoticesSeen:    "知道了",
		NoticeBound:    "绑定了微信",
		NoticeUnbound:  "解除了微信绑定",
		NoticePassword: "修改了密码",

		ChangePassword:  "修改密码",
		PasswordHint:    "修改后，其他设备上的登录会全部退出，本设备保持登录。",
		CurrentPassword: "当前密码",
		NewPassword:     "新密码",
		PasswordSubmit:  "确认修改",
		PasswordChanged: "密码已修改，其他设备上的登录已全部退出。",

		SessionsTitle:  "登录设备",
		SessionsHint:   "查看账号在哪些浏览器上登录，让不认识的退出。",
		SessionsShow:   "查看",
		UnknownBrowser: "未知浏览器",
		ThisSession:    "本设备",
		SeenAt:         "最近使用",
		Revoke:         "退出",
		RevokeOthers:   "退出所有其他设备",
		RevokeAsk:      "除本设备外，其他浏览器上的登录会立即失效。如果有您不认识的登录，请同时修改密码。",
		RevokeConfirm:  "全部退出",

		ErrorTitle: "页面无法显示",
		ErrorBack:  "返回首页",

		errors: map[string]string{
			"bad_request":         "请求格式有误。",
			"invalid_credentials": "用户名或密码不正确。",
			"wrong_password":      "当前密码不正确。",
			"account_gone":        "这个微信绑定的账号已停用。",
			"unauthenticated":     "请先登录。",
			"no_such_session":     "没有这个登录，可能已经退出。",
			"forbidden":           "请求来自其他网站，已被拒绝。",
			"not_found":           "页面不存在。",
			"method_not_allowed":  "不支持该请求方式。",
			"not_ready":           "尚未扫码。",
			"nothing_to_confirm":  "没有需要确认的登录。",
			"wrong_code":          "验证码不正确。",
			"expired":             "二维码已过期，请重新扫码。",
			"already_bound":       "这个微信已绑定其他账号。",
			"username_taken":      "该用户名已被使用，请换一个。",
			"invalid_username":    "用户名为 1 至 64 个字母、数字或 . _ - @ +，不含空格。",
			"invalid_password":    "密码至少需要 8 个字符，且不能是常见密码、日期，也不能与用户名相近。",
			"too_large":           "请求内容过大。",
			"rate_limited":        "尝试次数过多，请稍后再试。",
			"pool_exhausted":      "当前扫码人数较多，请稍后再试。",
			"wechat_unavailable":  "暂时无法连接微信，请稍后再试。",
			"unavailable":         "服务暂时不可用，请稍后再试。",
			"bad_signature":       "签名校验失败。",
			"wrong_mode":          "消息加密方式与设置不符。",
			"foreign_appid":       "消息不属于本公众号。",
			"foreign_account":     "消息不属于本公众号。",
			"stale":               "消息时间超出允许范围。",
			"internal":            "服务出现问题，请稍后再试。",
		},
	}
}

func english() Texts {
	return Texts{
		TimeLayout: "2 January 2006, 15:04 UTC",

		LoginTo:       "Sign in to",
		LoginTitle:    "Sign in",
		Or:            "or",
		Username:      "Username",
		Password:      "Password",
		ShowPassword:  "Show password",
		PasswordTitle: "Use your password",
		LoginSubmit:   "Sign in",
		SignupHint:    "No account yet? Scan the code to create one.",
		Footnote:      "The scan only confirms who you are. This site never sees your WeChat password or your chats.",
		NoScript:      "Signing in by QR code needs JavaScript. Signing in with a password works without.",

		ScanTitle:         "Scan with WeChat",
		Connecting:        "Getting a code…",
		QRAlt:             "WeChat QR code to sign in with",
		ScanLead:          "Open WeChat and tap Scan",
		ScanHow:           "The first time, follow the account when WeChat asks",
		ScanInWeChat:      "Press and hold the code, then choose to scan it",
		ScanOnPhone:       "On this phone? Save the code, then pick it from the album in WeChat’s Scan",
		SaveQR:            "Save the code",
		ScanLeft:          "Valid for",
		Checking:          "Checking…",
		NumberLead:        "Answer in WeChat with",
		NumberHow:         "The account has just written to you. Answer there with the number above.",
		NumberNotYou:      "Wasn’t it you who scanned? Tell this number to nobody.",
		DeclinedLead:      "This sign-in wasn’t confirmed",
		DeclinedHow:       "It was declined on the phone, or there were three wrong answers",
		SuccessLead:       "You’re signed in",
		SuccessHow:        "Taking you there…",
		ExpiredLead:       "This code has expired",
		ExpiredHow:        "Get a new one and scan again",
		Renew:             "New code",
		PoolExhausted:     "Many people are signing in right now",
		WeChatUnavailable: "WeChat can’t be reached right now",
		RateLimited:       "Too many codes in a short time",
		UnavailableHow:    "This tries again by itself. Your password works meanwhile.",
		RetryUnit:         "s",
		Lost:              "Connection lost. Reconnecting…",
		Offline:           "You’re offline. This continues once you’re back.",

		CodeTitle:     "Enter the code from WeChat",
		CodeLead:      "The account has just sent you a message with a six-digit code.",
		CodeLabel:     "Code",
		CodeSubmit:    "Confirm",
		CodeNotYou:    "Wasn’t it you who scanned? Then wait a little for a new code, or use your password.",
		CodeTriesLeft: "Tries left: ",
		CodeFormat:    "Please enter six digits.",

		PasswordInstead:   "Use a password instead",
		LoginElsewhere:    "Sign in with WeChat",
		LoginElsewhereHow: "You’ll come back here from",

		Scanned:       "Scanned",
		BindTitle:     "Link WeChat to your account",
		BindLead:      "Enter your username and password once. From then on a scan is enough.",
		BindSubmit:    "Link and sign in",
		BindSkip:      "Not now, sign in with a password",
		ModeBind:      "Existing account",
		ModeSignup:    "New account",
		SignupLead:    "Choose a username and a password. Your WeChat is linked to the new account.",
		SignupSubmit:  "Create and sign in",
		FailedNetwork: "No connection. Check your network and try again.",
		FailedBusy:    "Too many attempts. Please try again in a while.",
		FailedServer:  "The service is unavailable right now. Please try again in a while.",

		UserTitle:     "Your account",
		SignedInAt:    "Signed in on",
		Logout:        "Sign out",
		WeChat:        "WeChat",
		Bound:         "Linked",
		NotBound:      "Not linked",
		BoundAt:       "Linked on",
		BindHint:      "Link it to sign in with a scan instead of a password.",
		BindNow:       "Link WeChat",
		Unbind:        "Unlink WeChat",
		UnbindAsk:     "This WeChat will no longer sign in to this account. Your password keeps working.",
		UnbindConfirm: "Unlink",

		NoticesTitle:   "Your account was changed",
		NoticesHint:    "If this wasn’t you, change your password and sign out everywhere else.",
		NoticesSeen:    "Got it",
		NoticeBound:    "A WeChat was linked",
		NoticeUnbound:  "WeChat was unlinked",
		NoticePassword: "The password was changed",

		ChangePassword:  "Change password",
		PasswordHint:    "You stay signed in here. Every other browser is signed out.",
		CurrentPassword: "Current password",
		NewPassword:     "New password",
		PasswordSubmit:  "Change password",
		PasswordChanged: "Your password is changed. Every other browser was signed out.",

		SessionsTitle:  "Where you’re signed in",
		SessionsHint:   "See the browsers that are signed in to your account, and sign out those you don’t know.",
		SessionsShow:   "Show",
		UnknownBrowser: "Unknown browser",
		ThisSession:    "This browser",
		SeenAt:         "Last used on",
		Revoke:         "Sign out",
		RevokeOthers:   "Sign out everywhere else",
		RevokeAsk:      "Every browser but this one is signed out at once. If you didn’t know one of them, change your password as well.",
		RevokeConfirm:  "Sign out everywhere else",

		ErrorTitle: "This page can’t be shown",
		ErrorBack:  "Back to the start",

		errors: map[string]string{
			"bad_request":         "The request is malformed.",
			"invalid_credentials": "Wrong username or password.",
			"wrong_password":      "The current password is wrong.",
			"account_gone":        "The account that this WeChat is linked to is no longer active.",
			"unauthenticated":     "Please sign in first.",
			"no_such_session":     "There is no such session. It may have ended already.",
			"forbidden":           "The request came from another site and was refused.",
			"not_found":           "There is no such page.",
			"method_not_allowed":  "This kind of request isn’t possible here.",
			"not_ready":           "Nothing has been scanned yet.",
			"nothing_to_confirm":  "There is nothing to confirm.",
			"wrong_code":          "That isn’t the code.",
			"expired":             "The code has expired. Please scan a new one.",
			"already_bound":       "This WeChat is linked to another account.",
			"username_taken":      "This username is taken. Please choose another.",
			"invalid_username":    "A username has 1 to 64 letters, digits or any of . _ - @ + and no spaces.",
			"invalid_password":    "A password has at least 8 characters, and is neither a common one nor a date nor close to the name.",
			"too_large":           "The request is too large.",
			"rate_limited":        "Too many attempts. Please try again in a while.",
			"pool_exhausted":      "Many people are signing in right now. Please try again in a while.",
			"wechat_unavailable":  "WeChat can’t be reached right now. Please try again in a while.",
			"unavailable":         "The service is unavailable right now. Please try again in a while.",
			"bad_signature":       "The signature doesn’t match.",
			"wrong_mode":          "The message isn’t encrypted as configured.",
			"foreign_appid":       "The message is for another Official Account.",
			"foreign_account":     "The message is for another Official Account.",
			"stale":               "The message’s time is outside the allowed window.",
			"internal":            "Something went wrong here. Please try again in a while.",
		},
	}
}

// Language picks one of the two languages by the quality values of an
// Accept-Language header (RFC 9110, section 12.5.4). Chinese of any kind is
// zh-CN, and wins a draw. A header that names neither language, which is also
// an empty one, gets English. A malformed element counts for nothing.
func Language(acceptLanguage string) string {
	var chinese, english float64
	for element := range strings.SplitSeq(acceptLanguage, ",") {
		tag, parameters, _ := strings.Cut(element, ";")
		switch primary, _, _ := strings.Cut(strings.TrimSpace(tag), "-"); strings.ToLower(primary) {
		case "zh":
			chinese = max(chinese, quality(parameters))
		case "en":
			english = max(english, quality(parameters))
		}
	}
	if chinese > 0 && chinese >= english {
		return langChinese
	}
	return langEnglish
}

// quality is the weight among an element's parameters: from 0 to 1, 1 where
// none is given, 0 where it is malformed.
func quality(parameters string) float64 {
	if strings.TrimSpace(parameters) == "" {
		return 1
	}
	name, value, _ := strings.Cut(parameters, "=")
	if !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(q >= 0 && q <= 1) { // also turns away NaN
		return 0
	}
	return q
}
