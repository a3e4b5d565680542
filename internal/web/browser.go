package web

import (
	"net/http"
	"slices"
	"strings"
)

// maxBrowser is more than most browsers say of themselves; what names them comes early.
const maxBrowser = 400

// userAgent is what this browser says it is.
func userAgent(r *http.Request) string { return printable(r.UserAgent(), maxBrowser) }

// mark is what stands in the User-Agent of whatever has that name.
type mark struct{ in, name string }

// browserOf reads the names of a browser and of its system out of its User-Agent; each is
// empty where nothing says it. It is for people to recognise their own, who know better:
// anybody can call themselves anything.
func browserOf(userAgent string) (browser, system string) {
	return nameIn(userAgent, browserMarks()), nameIn(userAgent, systemMarks())
}

func nameIn(userAgent string, marks []mark) string {
	for _, m := range marks {
		if strings.Contains(userAgent, m.in) {
			return m.name
		}
	}
	return ""
}

// browserMarks are in the order in which they count: nearly every browser also claims to
// be the ones it descends from.
func browserMarks() []mark {
	return []mark{
		// Apps that show pages.
		{"wxwork/", "WeCom"},
		{"MicroMessenger/", "WeChat"}, // the page says it in the reader's language
		{"DingTalk/", "DingTalk"},
		{"Lark/", "Lark"},
		{"AlipayClient/", "Alipay"},
		{"baiduboxapp/", "Baidu"},
		// Browsers made of Chromium or WebKit.
		{"MQQBrowser/", "QQ Browser"},
		{"QQBrowser/", "QQ Browser"},
		{"Quark", "Quark"},
		{"UCBrowser/", "UC Browser"},
		{"HuaweiBrowser/", "Huawei Browser"},
		{"MiuiBrowser/", "Mi Browser"},
		{"HeyTapBrowser/", "OPPO Browser"},
		{"VivoBrowser/", "vivo Browser"},
		{"SamsungBrowser/", "Samsung Internet"},
		{"YaBrowser/", "Yandex Browser"},
		{"Vivaldi/", "Vivaldi"},
		{"Edg/", "Edge"},
		{"EdgA/", "Edge"},
		{"EdgiOS/", "Edge"},
		{"Edge/", "Edge"},
		{"OPR/", "Opera"},
		{"Opera", "Opera"},
		{"FxiOS/", "Firefox"},
		{"Firefox/", "Firefox"},
		{"CriOS/", "Chrome"},
		{"Chromium/", "Chromium"},
		{"HeadlessChrome/", "Chrome"},
		{"Chrome/", "Chrome"},
		{"Version/", "Safari"}, // of all that claim to be Safari it alone says this, too
		{"MSIE ", "Internet Explorer"},
		{"Trident/", "Internet Explorer"},
		{"curl/", "curl"},
	}
}

// systemMarks are in the order in which they count, too.
func systemMarks() []mark {
	return []mark{
		{"OpenHarmony", "HarmonyOS"},
		{"HarmonyOS", "HarmonyOS"},
		{"Windows", "Windows"}, // a phone's names Android as well
		{"Android", "Android"},
		{"iPhone", "iOS"},
		{"iPod", "iOS"},
		{"iPad", "iPadOS"},
		{"CrOS", "ChromeOS"},
		{"Macintosh", "macOS"},
		{"FreeBSD", "FreeBSD"},
		{"Linux", "Linux"},
	}
}

// browserWords are the same for whoever reads them in whatever language.
func browserWords(userAgent string) string {
	browser, system := browserOf(userAgent)
	return joined(", ", browser, system)
}

// joined is what there is of the parts.
func joined(between string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), between)
}
