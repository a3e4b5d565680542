package wechat

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Finding is one thing that was looked at. Text is a sentence for the account's
// owner: what was found or, where it isn't OK, what is wrong and where to put
// it right, by the words that stand in WeChat's console. It holds no secret.
type Finding struct {
	Name string
	OK   bool
	Text string
}

// CheckConfig is what the service is set to, as it stands in the settings:
// wrong keys too.
type CheckConfig struct {
	// APIURL is for CheckOffline, empty: WeChat's own. Check takes its client's.
	APIURL string

	Token, PreviousToken                   string
	EncodingAESKey, PreviousEncodingAESKey string

	// PublicURL is the origin where browsers and WeChat reach the service.
	PublicURL *url.URL
	// HTTP calls the PublicURL; where nil, a client with 10 s for a call.
	HTTP *http.Client
	// Now is the clock, time.Now where nil.
	Now func() time.Time

	appID string
}

// callbackPath is where the service takes WeChat's calls, below PublicURL.
const callbackPath = "/wechat/callback"

// Where things are in WeChat's console, mp.weixin.qq.com.
const (
	consoleBasics    = "设置与开发 → 基本配置"
	consoleAppID     = consoleBasics + " → 公众号开发信息 → 开发者ID(AppID)"
	consoleSecret    = consoleBasics + " → 公众号开发信息 → 开发者密码(AppSecret)"
	consoleAddresses = consoleBasics + " → 公众号开发信息 → IP白名单"
	consoleServer    = consoleBasics + " → 服务器配置"
	consoleRights    = "设置与开发 → 接口权限"
)

func good(name, format string, args ...any) Finding {
	return Finding{Name: name, OK: true, Text: fmt.Sprintf(format, args...)}
}

func bad(name, format string, args ...any) Finding {
	return Finding{Name: name, Text: fmt.Sprintf(format, args...)}
}

// CheckOffline looks at the settings alone. What it finds wrong can't work, so
// that a service need not start with it.
//
// Whether WeChat can reach PublicURL is only asked where APIURL is WeChat's
// own: a simulator calls any address.
func CheckOffline(cfg CheckConfig) []Finding {
	return []Finding{
		cfg.checkToken("WECHAT_TOKEN", cfg.Token),
		cfg.checkPreviousToken(),
		cfg.checkKey(),
		cfg.checkPreviousKey(),
		cfg.checkPublicURL(),
	}
}

func (cfg CheckConfig) checkToken(name, token string) Finding {
	const rule = "choose 3 to 32 letters and digits, and enter the same under " + consoleServer + " → 令牌(Token)"
	switch {
	case token == "":
		return bad(name, "%s is empty, so no callback can be verified: %s.", name, rule)
	case len(token) < 3 || len(token) > 32:
		return bad(name, "%s has %d characters, which WeChat doesn't take: %s.", name, len(token), rule)
	case cfg.callsWeChat() && strings.ContainsFunc(token, notAlphanumeric):
		return bad(name, "%s has other characters than letters and digits, which WeChat doesn't take: %s.", name, rule)
	}
	return good(name, "%s has the right form.", name)
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

func (cfg CheckConfig) checkPreviousToken() Finding {
	const name = "WECHAT_TOKEN_PREVIOUS"
	if cfg.PreviousToken == "" {
		return good(name, "No token is being replaced.")
	}
	return cfg.checkToken(name, cfg.PreviousToken)
}

func (cfg CheckConfig) checkKey() Finding {
	const name = "WECHAT_ENCODING_AES_KEY"
	if cfg.EncodingAESKey == "" {
		return good(name, "No key is set, so callbacks come in plain mode, where whoever sees one query can forge any message within WECHAT_CALLBACK_WINDOW.")
	}
	return checkKeyForm(name, cfg.EncodingAESKey)
}

func (cfg CheckConfig) checkPreviousKey() Finding {
	const name = "WECHAT_ENCODING_AES_KEY_PREVIOUS"
	switch {
	case cfg.PreviousEncodingAESKey == "":
		return good(name, "No key is being replaced.")
	case cfg.EncodingAESKey == "":
		return bad(name, "%s is set without WECHAT_ENCODING_AES_KEY: set that to the key under %s → 消息加解密密钥(EncodingAESKey).", name, consoleServer)
	}
	return checkKeyForm(name, cfg.PreviousEncodingAESKey)
}

func checkKeyForm(name, key string) Finding {
	if _, err := NewCipher(key, "any"); err != nil {
		return bad(name, "%s can't be a key (%s): copy all 43 characters from %s → 消息加解密密钥(EncodingAESKey).", name, inWords(err), consoleServer)
	}
	return good(name, "%s has the right form.", name)
}

func (cfg CheckConfig) checkPublicURL() Finding {
	const name = "PUBLIC_URL"
	u := cfg.PublicURL
	switch {
	case u == nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return bad(name, "PUBLIC_URL is no origin like https://login.example.com: set it to where %s → 服务器地址(URL) leads, without the path.", consoleServer)
	case !cfg.callsWeChat():
		return good(name, "WECHAT_API_URL isn't WeChat's own, so PUBLIC_URL may be any address.")
	case u.Port() != "" && u.Port() != "80" && u.Port() != "443":
		return bad(name, "WeChat calls no other ports than 80 and 443, not %s: put a proxy on port 443 before it, and set PUBLIC_URL and %s → 服务器地址(URL) to https://%s.", u.Port(), consoleServer, u.Hostname())
	case isPrivate(u.Hostname()):
		return bad(name, "WeChat can't reach %s from the Internet: set PUBLIC_URL and %s → 服务器地址(URL) to a public name.", u.Hostname(), consoleServer)
	}
	return good(name, "WeChat may call PUBLIC_URL; %s → 服务器地址(URL) has to be %s.", consoleServer, cfg.callbackURL())
}

// checkHTTPS is no reason not to start: WeChat calls http as well.
func (cfg CheckConfig) checkHTTPS() Finding {
	const name = "https"
	switch {
	case !cfg.callsWeChat():
		return good(name, "WECHAT_API_URL isn't WeChat's own, so PUBLIC_URL may do without https.")
	case cfg.PublicURL == nil || cfg.PublicURL.Scheme != "https":
		return bad(name, "PUBLIC_URL isn't https, so passwords and cookies pass in the clear: put a proxy with a certificate before it, and set PUBLIC_URL and %s → 服务器地址(URL) to https.", consoleServer)
	}
	return good(name, "PUBLIC_URL is https.")
}

// callsWeChat tells whether the API is WeChat's, not one that plays its part.
func (cfg CheckConfig) callsWeChat() bool {
	u, err := url.Parse(cmp.Or(cfg.APIURL, DefaultBaseURL))
	return err == nil && strings.HasSuffix(u.Hostname(), ".weixin.qq.com")
}

// isPrivate tells hosts that nobody outside reaches, as far as the name shows it.
func isPrivate(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return !addr.IsGlobalUnicast() || addr.IsPrivate()
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local")
}

func (cfg CheckConfig) callbackURL() *url.URL {
	origin := url.URL{Scheme: cfg.PublicURL.Scheme, Host: cfg.PublicURL.Host, Path: cfg.PublicURL.Path}
	return origin.JoinPath(callbackPath)
}

func (cfg CheckConfig) now() time.Time {
	if cfg.Now == nil {
		return time.Now()
	}
	return cfg.Now()
}

// Check looks at everything that login by QR code needs of the account, of the
// network and of the service behind PublicURL, which has to run: it does what
// CheckOffline does, calls WeChat's API, creates a QR code for 60 s, and sends
// the service what WeChat would send. Nothing of it changes a login.
//
// What needs something else that failed is left out: without an access token
// there is nothing to say of QR codes.
func (c *Client) Check(ctx context.Context, cfg CheckConfig) []Finding {
	cfg.APIURL, cfg.appID = c.BaseURL, c.AppID
	findings := CheckOffline(cfg)
	usable := allOK(findings)
	findings = append(findings, cfg.checkHTTPS())
	findings = append(findings, c.checkAPI(ctx, cfg.now)...)
	if !usable {
		return findings
	}
	return append(findings, cfg.checkCallback(ctx)...)
}

func allOK(findings []Finding) bool {
	for _, f := range findings {
		if !f.OK {
			return false
		}
	}
	return true
}

// inWords makes what others wrote a part of a sentence.
func inWords(err error) string {
	text := strings.TrimRight(shorten(err.Error()), ".")
	return strings.ReplaceAll(text, ". ", "; ")
}
