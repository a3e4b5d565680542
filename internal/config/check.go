package config

import (
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
)

const (
	// maxScenes keeps a mistyped pool from filling the database; WeChat
	// itself knows scene IDs up to 4294967295.
	maxScenes = 10_000_000
	// maxCodesReady is a tenth of what WeChat makes in a day: ready codes are renewed.
	maxCodesReady = 10_000
	// maxSceneTTL is the longest life of a temporary QR code, 2592000 s:
	// https://developers.weixin.qq.com/doc/offiaccount/Account_Management/Generating_a_Parametric_QR_Code.html
	maxSceneTTL = 30 * 24 * time.Hour
	// leastAudit is how long the database keeps the audit log whatever it is told.
	leastAudit = 180 * 24 * time.Hour
	forever    = time.Duration(math.MaxInt64)
)

// check notes what is wrong with values that could be parsed, and finishes
// those that need another setting for it.
func (l *loader) check(c *Config) {
	for _, s := range l.settings {
		if s.Required && l.values[s.Name] == "" {
			l.refuse(s.Name, "is required")
		}
	}
	l.checkDatabase(c)
	l.checkAccounts(c)
	l.checkAddresses(c)
	l.checkWeChat(c)
	l.checkTimes(c)
	l.checkCookieDomain(c)
	if c.Confirm != "off" && c.Confirm != "reply" && c.Confirm != "code" {
		l.refuse("CONFIRM", "is %s, which is none of off, reply and code", shown(c.Confirm))
	}
	if c.LogFormat != "" && c.LogFormat != "text" && c.LogFormat != "json" {
		l.refuse("LOG_FORMAT", "is %s, which is neither text nor json", shown(c.LogFormat))
	}
}

func (l *loader) checkDatabase(c *Config) {
	if !regexp.MustCompile(`^[!-~]{0,64}$`).MatchString(c.Instance) {
		l.refuse("INSTANCE", "is %s, which is not 1 to 64 printable characters of ASCII without spaces", shown(c.Instance))
	}
	l.checkConnection("DATABASE_URL", c.DatabaseURL)
	l.checkConnection("DATABASE_LISTEN_URL", c.DatabaseListenURL)
	if !regexp.MustCompile(`^[!-~]{0,63}$`).MatchString(c.DatabaseServiceRole) {
		l.refuse("DATABASE_SERVICE_ROLE", "is %s, which is not up to 63 printable characters of ASCII without spaces", shown(c.DatabaseServiceRole))
	}
	if !regexp.MustCompile(`^[a-z_][a-z0-9_]{0,40}$`).MatchString(c.DatabaseSchema) {
		l.refuse("DATABASE_SCHEMA", "is %s, which is not 1 to 41 of a-z, 0-9 and _, not beginning with a digit", shown(c.DatabaseSchema))
	}
}

// checkConnection takes what libpq takes, a URL or keyword=value pairs. The
// driver reads the rest.
func (l *loader) checkConnection(name string, url Secret) {
	text := url.Reveal()
	if text == "" || l.values[name] == "" {
		return
	}
	isURL := strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
	if !isURL && (strings.Contains(text, "://") || !strings.Contains(text, "=")) {
		l.refuse(name, "is not a postgres:// URL")
	}
}

func (l *loader) checkAccounts(c *Config) {
	l.checkConnection("ACCOUNTS_URL", c.AccountsURL)
	if c.Accounts != "builtin" && c.Accounts != "sql" {
		l.refuse("ACCOUNTS", "is %s, which is neither builtin nor sql", shown(c.Accounts))
		return
	}
	for _, name := range []string{"ACCOUNTS_URL", "ACCOUNTS_FIND_BY_NAME", "ACCOUNTS_VERIFY", "ACCOUNTS_FIND_BY_ID"} {
		set := l.values[name] != ""
		if c.Accounts == "sql" && !set && name != "ACCOUNTS_URL" {
			l.refuse(name, "is required with ACCOUNTS=sql")
		}
		if c.Accounts == "builtin" && set {
			l.refuse(name, "is set without ACCOUNTS=sql, so nobody is looked up by it")
		}
	}
	if c.Accounts == "sql" && c.Signup {
		l.refuse("SIGNUP", "is on with ACCOUNTS=sql: whoever wants an account gets it where your users are")
	}
}

func (l *loader) checkAddresses(c *Config) {
	l.checkAddress("ADDR", c.Addr)
	if c.OpsAddr != "" {
		l.checkAddress("OPS_ADDR", c.OpsAddr)
	}
	if sameSocket(c.Addr, c.OpsAddr) {
		l.refuse("OPS_ADDR", "is ADDR's address; metrics must not be public")
	}
	if c.PlaceHeader != "" && !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(c.PlaceHeader) {
		l.refuse("PLACE_HEADER", "is %s, which is not the name of a header", shown(c.PlaceHeader))
	}
	if c.PlaceHeader != "" && len(c.TrustedProxies) == 0 && !l.refused("TRUSTED_PROXIES") {
		l.refuse("PLACE_HEADER", "is set without TRUSTED_PROXIES, so nobody is believed")
	}
	if l.refused("PUBLIC_URL") {
		return
	}
	if c.PublicURL.Path != "" {
		l.refuse("PUBLIC_URL", "is %s, %v", shown(c.PublicURL.String()), errPath)
	}
}

func (l *loader) checkAddress(name, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !validPort(port, 0) || host != "" && !validHost(host) {
		l.refuse(name, "is %s, which is not host:port or :port", shown(addr))
	}
}

// sameSocket says whether two addresses can't be listened on at once.
// Port 0 is a port of its own each time.
func sameSocket(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || everyInterface(hostA) || everyInterface(hostB)
}

func everyInterface(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

func (l *loader) checkWeChat(c *Config) {
	l.checkPlain("WECHAT_APP_ID", c.WeChatAppID)
	l.checkPlain("WECHAT_APP_SECRET", c.WeChatAppSecret.Reveal())
	l.checkPlain("WECHAT_TOKEN", c.WeChatToken.Reveal())
	l.checkPlain("WECHAT_TOKEN_PREVIOUS", c.WeChatTokenPrevious.Reveal())
	l.checkKey("WECHAT_ENCODING_AES_KEY", c.WeChatEncodingAESKey)
	l.checkKey("WECHAT_ENCODING_AES_KEY_PREVIOUS", c.WeChatEncodingAESKeyPrevious)
	if c.WeChatEncodingAESKeyPrevious != "" && c.WeChatEncodingAESKey == "" {
		l.refuse("WECHAT_ENCODING_AES_KEY_PREVIOUS", "is set without WECHAT_ENCODING_AES_KEY, the key of now")
	}
	l.checkSecretURL("WECHAT_TOKEN_URL", c.WeChatTokenURL)
	l.checkSecretURL("WECHAT_FORWARD_URL", c.WeChatForwardURL)
	if u, err := url.Parse(c.WeChatForwardURL.Reveal()); err == nil && u.Host != "" && !l.refused("PUBLIC_URL") && u.Host == c.PublicURL.Host {
		l.refuse("WECHAT_FORWARD_URL", "leads to PUBLIC_URL itself, so every push would go round in circles")
	}
	if c.Unsubscribe != "unbind" && c.Unsubscribe != "keep" {
		l.refuse("UNSUBSCRIBE", "is %s, which is neither unbind nor keep", shown(c.Unsubscribe))
	}
}

func (l *loader) checkKey(name string, key Secret) {
	if key != "" && !regexp.MustCompile(`^[A-Za-z0-9+/]{43}$`).MatchString(key.Reveal()) {
		l.refuse(name, "is not 43 characters of A-Z, a-z, 0-9, + and /")
	}
}

// checkSecretURL checks a URL that may hold a key of its own and so isn't shown.
func (l *loader) checkSecretURL(name string, text Secret) {
	if text == "" {
		return
	}
	u, err := url.Parse(text.Reveal())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) {
		l.refuse(name, "is not an http:// or https:// URL with a host")
	}
}

// checkPlain refuses what can only have been pasted by mistake. It doesn't
// show the value, which may be a secret.
func (l *loader) checkPlain(name, value string) {
	if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		l.refuse(name, "holds a space, a line break or something else that can't be seen")
	}
}

func (l *loader) checkTimes(c *Config) {
	if c.ScenePool < 1 || c.ScenePool > maxScenes {
		l.refuse("SCENE_POOL", "is %d, which is not between 1 and %d", c.ScenePool, maxScenes)
	}
	if c.CodesReadyMin < 0 || c.CodesReadyMin > maxCodesReady {
		l.refuse("CODES_READY_MIN", "is %d, which is not between 0 and %d", c.CodesReadyMin, maxCodesReady)
	}
	if c.CodesReadyMax < 0 || c.CodesReadyMax > maxCodesReady {
		l.refuse("CODES_READY_MAX", "is %d, which is not between 0 and %d", c.CodesReadyMax, maxCodesReady)
	}
	if c.LimitPoolShare < 0 || c.LimitPoolShare > 100 {
		l.refuse("LIMIT_POOL_SHARE", "is %d, which is not between 0 and 100", c.LimitPoolShare)
	}
	if c.LimitTabs < 0 {
		l.refuse("LIMIT_TABS", "is %d, which is less than 0", c.LimitTabs)
	}
	l.checkDuration("SCENE_TTL", c.SceneTTL, time.Second, maxSceneTTL)
	l.checkDuration("SCENE_GRACE", c.SceneGrace, 0, forever)
	l.checkDuration("BIND_TTL", c.BindTTL, time.Second, forever)
	l.checkDuration("DRAIN_WINDOW", c.DrainWindow, time.Second, time.Minute)
	l.checkDuration("SESSION_TTL", c.SessionTTL, time.Minute, forever)
	l.checkDuration("SESSION_IDLE", c.SessionIdle, time.Second, forever)
	l.checkDuration("AUDIT_KEEP", c.AuditKeep, leastAudit, forever)
	// Callbacks carry whole seconds.
	l.checkDuration("WECHAT_CALLBACK_WINDOW", c.WeChatCallbackWindow, time.Second, forever)
	if l.values["SCENE_REST"] != "" { // else SCENE_TTL's problem is told once
		l.checkDuration("SCENE_REST", c.SceneRest, 0, forever)
	}
}

func (l *loader) checkDuration(name string, d, least, most time.Duration) {
	if d < least {
		l.refuse(name, "is %v, which is less than %v", d, least)
	}
	if d > most {
		l.refuse(name, "is %v, which is more than %v", d, most)
	}
}

// checkCookieDomain takes what a browser would take as the Domain of a cookie
// from PUBLIC_URL: RFC 6265, section 5.3, steps 5 and 6.
func (l *loader) checkCookieDomain(c *Config) {
	if c.CookieDomain == "" || l.refused("PUBLIC_URL") {
		return
	}
	c.CookieDomain = strings.ToLower(strings.TrimPrefix(c.CookieDomain, "."))
	host := c.PublicURL.Hostname()
	if c.CookieDomain == host {
		return
	}
	_, err := netip.ParseAddr(host)
	parent := err != nil && validHost(c.CookieDomain) && strings.HasSuffix(host, "."+c.CookieDomain)
	if !parent {
		l.refuse("COOKIE_DOMAIN", "is %s, which is neither PUBLIC_URL's host %s nor a parent domain of it", shown(c.CookieDomain), host)
	}
	if !strings.Contains(c.CookieDomain, ".") {
		l.refuse("COOKIE_DOMAIN", "is %s, a whole top-level domain, which browsers refuse", shown(c.CookieDomain))
	}
}
