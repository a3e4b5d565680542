package config

import (
	stdcmp "cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// required is an environment with which everything loads.
func required() map[string]string {
	return map[string]string{
		"DATABASE_URL":      "postgres://scanlogin:dbsecret@db/scanlogin",
		"WECHAT_APP_ID":     "wx0123456789abcdef",
		"WECHAT_APP_SECRET": "appsecret",
		"WECHAT_TOKEN":      "tokensecret",
	}
}

func lookupIn(environment map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}
}

// loadWith loads everything from the required settings and name=value.
func loadWith(name, value string) (Config, error) {
	environment := required()
	environment[name] = value
	c, _, err := Load(All, lookupIn(environment), nil, nil)
	return c, err
}

func defaults() Config {
	return Config{
		DatabaseURL:          "postgres://scanlogin:dbsecret@db/scanlogin",
		DatabaseListenURL:    "postgres://scanlogin:dbsecret@db/scanlogin",
		DatabaseSchema:       "scanlogin",
		Accounts:             "builtin",
		AccountsURL:          "postgres://scanlogin:dbsecret@db/scanlogin",
		Addr:                 ":8080",
		OpsAddr:              "127.0.0.1:9090",
		PublicURL:            new(url.URL{Scheme: "http", Host: "localhost:8080"}),
		WeChatAppID:          "wx0123456789abcdef",
		WeChatAppSecret:      "appsecret",
		WeChatToken:          "tokensecret",
		WeChatCallbackWindow: 10 * time.Minute,
		WeChatAPIURL:         new(url.URL{Scheme: "https", Host: "api.weixin.qq.com"}),
		Unsubscribe:          "unbind",
		CodesReadyMin:        20,
		CodesReadyMax:        1000,
		ScenePool:            10000,
		SceneTTL:             3 * time.Minute,
		SceneGrace:           15 * time.Second,
		SceneRest:            3 * time.Minute,
		BindTTL:              10 * time.Minute,
		DrainWindow:          5 * time.Second,
		SessionTTL:           720 * time.Hour,
		SessionIdle:          168 * time.Hour,
		Confirm:              "off",
		RateLimits:           true,

		LimitCodes:            Rate{300, 5 * time.Minute},
		LimitCodesNetwork:     Rate{1500, 5 * time.Minute},
		LimitCodesDay:         Rate{5000, 24 * time.Hour},
		LimitPoolShare:        10,
		LimitPasswords:        Rate{10, 30 * time.Minute},
		LimitPasswordsAccount: Rate{100, time.Hour},
		LimitPasswordsAddress: Rate{100, 10 * time.Minute},
		LimitSignups:          Rate{60, time.Hour},
		LimitScans:            Rate{30, time.Minute},
		LimitTabs:             16,
		AuditKeep:             9600 * time.Hour,
		LogLevel:              slog.LevelInfo,
	}
}

func diff(want, got Config) string {
	return cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

func TestDefaults(t *testing.T) {
	c, rest, err := Load(All, lookupIn(required()), nil, nil)
	if err != nil || len(rest) != 0 {
		t.Fatalf("Load: %v, rest %q", err, rest)
	}
	if d := diff(defaults(), c); d != "" {
		t.Error(d)
	}
}

func TestSetToNothingCountsAsUnset(t *testing.T) {
	environment := required()
	for _, s := range Settings() {
		if !s.Required && s.Name != "OPS_ADDR" {
			environment[s.Name] = ""
		}
	}
	c, _, err := Load(All, lookupIn(environment), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(defaults(), c); d != "" {
		t.Error(d)
	}
}

func TestGoodValues(t *testing.T) {
	for name, test := range map[string]struct {
		value string
		want  func(*Config)
	}{
		"DATABASE_URL": {"host=db user=scanlogin", func(c *Config) {
			c.DatabaseURL, c.DatabaseListenURL, c.AccountsURL = "host=db user=scanlogin", "host=db user=scanlogin", "host=db user=scanlogin"
		}},
		"DATABASE_LISTEN_URL":     {"postgresql://direct/x", func(c *Config) { c.DatabaseListenURL = "postgresql://direct/x" }},
		"DATABASE_SCHEMA":         {"_login2", func(c *Config) { c.DatabaseSchema = "_login2" }},
		"ADDR":                    {"[::1]:80", func(c *Config) { c.Addr = "[::1]:80" }},
		"OPS_ADDR":                {"", func(c *Config) { c.OpsAddr = "" }},
		"PUBLIC_URL":              {"HTTPS://Login.Example.com:443/", func(c *Config) { c.PublicURL = new(url.URL{Scheme: "https", Host: "login.example.com"}) }},
		"WECHAT_ENCODING_AES_KEY": {strings.Repeat("k", 43), func(c *Config) { c.WeChatEncodingAESKey = Secret(strings.Repeat("k", 43)) }},
		"WECHAT_CALLBACK_WINDOW":  {"1h", func(c *Config) { c.WeChatCallbackWindow = time.Hour }},
		"WECHAT_API_URL":          {"http://sim:8090/wechat/", func(c *Config) { c.WeChatAPIURL = new(url.URL{Scheme: "http", Host: "sim:8090", Path: "/wechat"}) }},
		"WECHAT_TOKEN_PREVIOUS":   {"oldtoken", func(c *Config) { c.WeChatTokenPrevious = "oldtoken" }},
		"WECHAT_TOKEN_URL":        {"http://tokens/wechat?key=k", func(c *Config) { c.WeChatTokenURL = "http://tokens/wechat?key=k" }},
		"WECHAT_FORWARD_URL":      {"https://bot.example.com/x", func(c *Config) { c.WeChatForwardURL = "https://bot.example.com/x" }},
		"WECHAT_REPLY_TEXTS":      {"/etc/replies.json", func(c *Config) { c.WeChatReplyTexts = "/etc/replies.json" }},
		"UNSUBSCRIBE":             {"keep", func(c *Config) { c.Unsubscribe = "keep" }},
		"CODES_READY_MIN":         {"0", func(c *Config) { c.CodesReadyMin = 0 }},
		"CODES_READY_MAX":         {"0", func(c *Config) { c.CodesReadyMax = 0 }},
		"SCENE_POOL":              {"10000000", func(c *Config) { c.ScenePool = 10000000 }},
		"SCENE_TTL":               {"720h", func(c *Config) { c.SceneTTL, c.SceneRest = 720*time.Hour, 720*time.Hour }},
		"SCENE_GRACE":             {"0s", func(c *Config) { c.SceneGrace = 0 }},
		"SCENE_REST":              {"0s", func(c *Config) { c.SceneRest = 0 }},
		"DRAIN_WINDOW":            {"20s", func(c *Config) { c.DrainWindow = 20 * time.Second }},
		"BIND_TTL":                {"1.5s", func(c *Config) { c.BindTTL = 1500 * time.Millisecond }},
		"SESSION_TTL":             {"1m", func(c *Config) { c.SessionTTL = time.Minute }},
		"SESSION_IDLE":            {"1s", func(c *Config) { c.SessionIdle = time.Second }},
		"COOKIE_DOMAIN":           {"localhost", func(c *Config) { c.CookieDomain = "localhost" }},
		"CONFIRM":                 {"code", func(c *Config) { c.Confirm = "code" }},
		"SIGNUP":                  {"On", func(c *Config) { c.Signup = true }},
		"RATE_LIMITS":             {"off", func(c *Config) { c.RateLimits = false }},
		"LIMIT_CODES":             {"1/1s", func(c *Config) { c.LimitCodes = Rate{1, time.Second} }},
		"LIMIT_CODES_DAY":         {"1000000/720h", func(c *Config) { c.LimitCodesDay = Rate{1000000, 720 * time.Hour} }},
		"LIMIT_SCANS":             {"Off", func(c *Config) { c.LimitScans = Rate{} }},
		"LIMIT_POOL_SHARE":        {"0", func(c *Config) { c.LimitPoolShare = 0 }},
		"LIMIT_TABS":              {"0", func(c *Config) { c.LimitTabs = 0 }},
		"AUDIT_KEEP":              {"4320h", func(c *Config) { c.AuditKeep = 4320 * time.Hour }},
		"DATABASE_SERVICE_ROLE":   {"scanlogin_service", func(c *Config) { c.DatabaseServiceRole = "scanlogin_service" }},
		"INSTANCE":                {"login-1", func(c *Config) { c.Instance = "login-1" }},
		"LOG_LEVEL":               {"debug", func(c *Config) { c.LogLevel = slog.LevelDebug }},
		"LOG_FORMAT":              {"json", func(c *Config) { c.LogFormat = "json" }},
		"ALLOWED_ORIGINS": {" https://App.example.com/, http://x:80 https://[::1]:8443", func(c *Config) {
			c.AllowedOrigins = []string{"https://app.example.com", "http://x", "https://[::1]:8443"}
		}},
		"TRUSTED_PROXIES": {"10.1.2.3/8, 192.0.2.7,::1 ::ffff:192.0.2.8,::ffff:10.0.0.0/104", func(c *Config) {
			for _, p := range []string{"10.0.0.0/8", "192.0.2.7/32", "::1/128", "192.0.2.8/32", "10.0.0.0/8"} {
				c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := loadWith(name, test.value)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults()
			test.want(&want)
			if d := diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBadValues(t *testing.T) {
	for name, values := range map[string]map[string]string{ // value -> part of the reason
		"DATABASE_URL":                     {"": "is required", "mysql://db/x": "postgres://", "scanlogin": "postgres://"},
		"DATABASE_LISTEN_URL":              {"http://db": "postgres://"},
		"DATABASE_SCHEMA":                  {"1st": "a-z", "Big": "a-z", "a b": "a-z", "x;drop": "a-z", strings.Repeat("x", 42): "a-z"},
		"ACCOUNTS":                         {"ldap": "builtin nor sql", "SQL": "builtin nor sql"},
		"ACCOUNTS_URL":                     {"mysql://db/x": "postgres://", "postgres://db/x": "without ACCOUNTS=sql"},
		"ACCOUNTS_FIND_BY_NAME":            {"SELECT 1": "without ACCOUNTS=sql"},
		"ACCOUNTS_VERIFY":                  {"SELECT 1": "without ACCOUNTS=sql"},
		"ACCOUNTS_FIND_BY_ID":              {"SELECT 1": "without ACCOUNTS=sql"},
		"ADDR":                             {"8080": "host:port", "x:y": "host:port", ":65536": "host:port", "a b:1": "host:port", "::1:80": "host:port"},
		"OPS_ADDR":                         {"9090": "host:port", ":8080": "ADDR", "127.0.0.1:8080": "ADDR"},
		"CONFIRM":                          {"on": "off, reply and code", "Reply": "off, reply and code"},
		"WECHAT_APP_ID":                    {"": "is required", "wx 1": "space"},
		"WECHAT_APP_SECRET":                {"": "is required", "secret\n": "line break"},
		"WECHAT_TOKEN":                     {"": "is required", "to\x00ken": "can't be seen", "\u200btoken": "can't be seen"},
		"WECHAT_ENCODING_AES_KEY":          {strings.Repeat("k", 42): "43", strings.Repeat("k", 43) + "=": "43", strings.Repeat("k", 42) + "-": "43"},
		"WECHAT_ENCODING_AES_KEY_PREVIOUS": {strings.Repeat("k", 42): "43", strings.Repeat("k", 43): "without WECHAT_ENCODING_AES_KEY"},
		"WECHAT_TOKEN_PREVIOUS":            {"a b": "space"},
		"WECHAT_TOKEN_URL":                 {"tokens": "http://", "ftp://tokens/": "http://", "https://": "http://"},
		"WECHAT_FORWARD_URL":               {"bot:80": "http://", "http://localhost:8080/wechat/callback": "circles"},
		"UNSUBSCRIBE":                      {"delete": "unbind nor keep"},
		"PLACE_HEADER":                     {"City": "without TRUSTED_PROXIES", "a b": "header"},
		"CODES_READY_MIN":                  {"-1": "between", "10001": "between"},
		"CODES_READY_MAX":                  {"-1": "between", "lots": "whole number"},
		"WECHAT_CALLBACK_WINDOW":           {"0s": "less than 1s", "-1m": "less than 1s", "600": "duration"},
		"WECHAT_API_URL":                   {"api.weixin.qq.com": "http://", "https://a/?b": "query", "https://": "host"},
		"PUBLIC_URL": {
			"login.example.com": "http://", "ftp://x": "http://", "https://": "host", "https://x/login": "path", "https://x?": "query",
			"https://x#y": "fragment", "https://x:0": "port", "https://x:99999": "port", "https://例子.cn": "punycode",
			"https://u:p@x": "user", "http://[fe80::1%25eth0]": "host", "https://x..y": "host", "http://a b": "not a URL", "https:x": "host",
		},
		"ALLOWED_ORIGINS": {"https://ok.example, *": "http://", "https://*.example.com": "host", "https://x/path": "path", "null": "http://"},
		"TRUSTED_PROXIES": {"10.0.0.0/33": "CIDR", "proxy": "CIDR", "10.0.0.1:80": "CIDR"},
		"SCENE_POOL":      {"0": "between", "-1": "between", "10000001": "between", "2147483648": "whole number", "many": "whole number", "1.5": "whole number"},
		"SCENE_TTL":       {"999ms": "less than 1s", "720h1s": "more than 720h", "3": "duration", "3 minutes": "duration"},
		"SCENE_GRACE":     {"-1s": "less than 0s"},
		"SCENE_REST":      {"-1s": "less than 0s"},
		"BIND_TTL":        {"0s": "less than 1s"},
		"DRAIN_WINDOW":    {"0s": "less than 1s", "2m": "more than 1m0s"},
		"SESSION_TTL":     {"59s": "less than 1m"},
		"AUDIT_KEEP":      {"4319h": "less than 4320h", "0": "less than 4320h", "a year": "duration"},
		"INSTANCE":        {"login 1": "printable", strings.Repeat("x", 65): "1 to 64", "上海": "ASCII"},
		"SESSION_IDLE":    {"999ms": "less than 1s", "0": "less than 1s", "a week": "duration"},
		"COOKIE_DOMAIN":   {"example.com": "parent", "localhost:8080": "parent", "host": "parent"},
		"SIGNUP":          {"yes": "on nor off"},
		"RATE_LIMITS":     {"1": "on nor off"},
		"LIMIT_CODES": {
			"60": "60/1m", "60/m": "60/1m", "0/1m": "60/1m", "-1/1m": "60/1m", "60/0s": "60/1m", "60/721h": "60/1m",
			"1000001/1m": "60/1m", "1.5/1m": "60/1m", "/": "60/1m", "60/1m/1m": "60/1m", "on": "60/1m",
		},
		"LIMIT_POOL_SHARE": {"101": "between", "-1": "between", "10%": "whole number"},
		"LIMIT_TABS":       {"-1": "less than 0"},
		"LOG_LEVEL":        {"loud": "debug, info"},
		"LOG_FORMAT":       {"xml": "text nor json"},
	} {
		for value, want := range values {
			_, err := loadWith(name, value)
			problem, ok := errors.AsType[*SettingError](err)
			if !ok || problem.Setting.Name != name || !strings.Contains(problem.Reason, want) {
				t.Errorf("%s=%q: %v, want %q", name, value, err, want)
				continue
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%q: more than one line or problem: %v", name, value, err)
			}
		}
	}
}

func TestProblemNamesVariableFlagAndExample(t *testing.T) {
	_, err := loadWith("SCENE_TTL", "3")
	const want = `SCENE_TTL (or --scene-ttl) is "3", which is not a duration such as 90s, 3m or 720h; example: SCENE_TTL=3m`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCookieDomain(t *testing.T) {
	for _, test := range []struct{ public, domain, want string }{
		{"https://login.example.com", "login.example.com", "login.example.com"},
		{"https://login.example.com", ".Example.com", "example.com"},
		{"https://login.example.com:8443", "example.com", "example.com"},
		{"http://login.example.com", "example.com", "example.com"},
		{"https://login.example.com", "com", ""},
		{"https://login.example.com", "ample.com", ""},
		{"https://login.example.com", "sub.login.example.com", ""},
		{"https://login.example.com", "login.example.com:443", ""},
		{"https://login.example.com", ".", ""},
		{"https://192.0.2.7", "2.7", ""},
		{"https://192.0.2.7", "192.0.2.7", "192.0.2.7"},
	} {
		environment := required()
		environment["PUBLIC_URL"], environment["COOKIE_DOMAIN"] = test.public, test.domain
		c, _, err := Load(All, lookupIn(environment), nil, nil)
		if c.CookieDomain != test.want || (err != nil) != (test.want == "") {
			t.Errorf("COOKIE_DOMAIN=%s at %s: %q, %v, want %q", test.domain, test.public, c.CookieDomain, err, test.want)
		}
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, _, err := Load(All, lookupIn(map[string]string{
		"SCENE_TTL":     "soon",
		"PUBLIC_URL":    "nowhere",
		"COOKIE_DOMAIN": "example.com", // can't be judged without PUBLIC_URL
		"LOG_FORMAT":    "xml",
		"ADDR":          "x",
	}), nil, nil)
	var names []string
	for line := range strings.Lines(fmt.Sprint(err)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	want := []string{
		"DATABASE_URL", "ADDR", "PUBLIC_URL", "WECHAT_APP_ID", "WECHAT_APP_SECRET", "WECHAT_TOKEN", "SCENE_TTL", "LOG_FORMAT",
	}
	if !slices.Equal(names, want) {
		t.Errorf("problems of %q, want %q:\n%v", names, want, err)
	}
}

func TestAccountsOfYourOwn(t *testing.T) {
	environment := required()
	environment["ACCOUNTS"], environment["SIGNUP"] = "sql", "on"
	_, _, err := Load(All, lookupIn(environment), nil, nil)
	var names []string
	for line := range strings.Lines(fmt.Sprint(err)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if want := []string{"ACCOUNTS_FIND_BY_NAME", "ACCOUNTS_VERIFY", "ACCOUNTS_FIND_BY_ID", "SIGNUP"}; !slices.Equal(names, want) {
		t.Errorf("problems of %q, want %q:\n%v", names, want, err)
	}
	want := defaults()
	want.Accounts, want.AccountsFindByName, want.AccountsVerify, want.AccountsFindByID = "sql", "by name", "verify", "by id"
	delete(environment, "SIGNUP")
	environment["ACCOUNTS_FIND_BY_NAME"], environment["ACCOUNTS_VERIFY"], environment["ACCOUNTS_FIND_BY_ID"] = "by name", "verify", "by id"
	for _, where := range []Secret{"", "postgres://reader@shop/shop"} {
		environment["ACCOUNTS_URL"] = where.Reveal()
		want.AccountsURL = stdcmp.Or(where, want.DatabaseURL)
		c, _, err := Load(All, lookupIn(environment), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(want, c); d != "" {
			t.Error(d)
		}
	}
	if _, _, err := Load(Database, lookupIn(environment), nil, nil); err != nil {
		t.Errorf("Database minds the settings of Accounts: %v", err)
	}
}

func TestPlaceHeader(t *testing.T) {
	environment := required()
	environment["PLACE_HEADER"], environment["TRUSTED_PROXIES"] = "CF-IPCity", "10.0.0.0/8"
	c, _, err := Load(All, lookupIn(environment), nil, nil)
	if err != nil || c.PlaceHeader != "CF-IPCity" {
		t.Errorf("%q, %v", c.PlaceHeader, err)
	}
}

func TestGroups(t *testing.T) {
	environment := required()
	environment["SCENE_TTL"], environment["PUBLIC_URL"] = "soon", "nowhere"
	delete(environment, "WECHAT_TOKEN")
	c, _, err := Load(Database, lookupIn(environment), nil, nil)
	if err != nil {
		t.Errorf("Database minds the settings of others: %v", err)
	}
	if c.DatabaseListenURL != "postgres://scanlogin:dbsecret@db/scanlogin" || c.WeChatAppID != "" || c.SceneTTL != 3*time.Minute {
		t.Errorf("Database reads %+v", c)
	}
	_, _, err = Load(WeChat, lookupIn(environment), nil, nil)
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 2 ||
		!strings.HasPrefix(lines[0], "PUBLIC_URL ") || !strings.HasPrefix(lines[1], "WECHAT_TOKEN ") {
		t.Errorf("WeChat: %v, want problems with PUBLIC_URL and WECHAT_TOKEN", err)
	}
	_, _, err = Load(Database, lookupIn(environment), nil, []string{"--scene-ttl=1m"})
	if _, ok := errors.AsType[*UsageError](err); !ok {
		t.Errorf("Database with --scene-ttl: %v, want a UsageError", err)
	}
	if _, _, err = Load(Database, lookupIn(environment), nil, []string{"--log-level=debug"}); err != nil {
		t.Errorf("Database with --log-level: %v", err)
	}
}

func TestFlags(t *testing.T) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	migrate := flags.Bool("migrate", true, "")
	environment := required()
	environment["SCENE_TTL"], environment["BIND_TTL"] = "1m", "2m"
	c, rest, err := Load(All, lookupIn(environment), flags, []string{
		"up", "--scene-ttl=5m", "-addr", ":80", "--migrate=false", "alice", "--ops-addr=", "--bind-ttl=", "--", "--addr=:81", "-x",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.SceneTTL, want.SceneRest, want.Addr, want.OpsAddr = 5*time.Minute, 5*time.Minute, ":80", ""
	if d := diff(want, c); d != "" {
		t.Error(d)
	}
	if *migrate {
		t.Error("--migrate=false has no effect")
	}
	if want := []string{"up", "alice", "--addr=:81", "-x"}; !slices.Equal(rest, want) {
		t.Errorf("rest %q, want %q", rest, want)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"--databse-url=dbsecret"},
		{"---database-url=dbsecret"},
		{"--=dbsecret"},
		{"--addr"},
		{"up", "--nonsense"},
		{"--migrate=maybe"},
	} {
		flags := flag.NewFlagSet("serve", flag.ContinueOnError)
		flags.Bool("migrate", true, "")
		_, _, err := Load(All, lookupIn(nil), flags, args)
		if usage, ok := errors.AsType[*UsageError](err); !ok || strings.ContainsAny(usage.Error(), "\n=") {
			t.Errorf("%q: %v, want a UsageError of one line", args, err)
		}
		if strings.Contains(fmt.Sprint(err), "dbsecret") {
			t.Errorf("%q: the error shows the value: %v", args, err)
		}
	}
	for _, args := range [][]string{{"-h"}, {"up", "--help"}} {
		if _, _, err := Load(All, lookupIn(nil), nil, args); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v, want %v", args, err, flag.ErrHelp)
		}
	}
}

func TestNoErrorShowsASecret(t *testing.T) {
	const secret = "hunter2"
	for _, s := range Settings() {
		for _, value := range []string{
			secret + " \n\x00", "://" + secret, "https://user:" + secret + "@x/y?z#", "postgres://u:" + secret + "@h h/%zz", "https://ok, " + secret + "@",
		} {
			if !holdsSecret(s) && !strings.Contains(value, "@") {
				continue
			}
			_, err := loadWith(s.Name, value)
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s=%q: the error shows the secret: %v", s.Name, value, err)
			}
		}
	}
}

// holdsSecret says whether the setting's field is a [Secret].
func holdsSecret(s Setting) bool {
	return slices.Contains([]string{
		"DATABASE_URL", "DATABASE_LISTEN_URL", "ACCOUNTS_URL", "WECHAT_APP_SECRET", "WECHAT_TOKEN", "WECHAT_ENCODING_AES_KEY",
		"WECHAT_TOKEN_PREVIOUS", "WECHAT_ENCODING_AES_KEY_PREVIOUS", "WECHAT_TOKEN_URL", "WECHAT_FORWARD_URL",
	}, s.Name)
}

func TestConfigCannotBePrintedWithItsSecrets(t *testing.T) {
	key := strings.Repeat("k", 43)
	c, err := loadWith("WECHAT_ENCODING_AES_KEY", key)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%5.1s"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", &c)
		fmt.Fprintf(&out, verb+"\n", c.DatabaseURL)
		fmt.Fprintf(&out, verb+"\n", []Secret{c.WeChatToken})
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("config", "all", c, "one", c.WeChatAppSecret)
	}
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"dbsecret", "appsecret", "tokensecret", key} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret)} {
			if strings.Contains(out.String(), form) {
				t.Errorf("printed with the secret %q", form)
			}
		}
	}
	if c.WeChatToken.Reveal() != "tokensecret" || c.WeChatToken.String() != "[set]" || Secret("").String() != "[empty]" {
		t.Error("Reveal or String is wrong")
	}
}

func TestPublicNames(t *testing.T) {
	for value, want := range map[string]struct {
		secure       bool
		origin, site string
	}{
		"https://Login.example.com:443/": {true, "https://login.example.com", "login.example.com"},
		"http://localhost:8080":          {false, "http://localhost:8080", "localhost:8080"},
		"http://[::1]:80":                {false, "http://[::1]", "[::1]"},
	} {
		c, err := loadWith("PUBLIC_URL", value)
		if err != nil {
			t.Fatal(err)
		}
		if c.Secure() != want.secure || c.Origin() != want.origin || c.Site() != want.site {
			t.Errorf("%s: %v, %s, %s, want %+v", value, c.Secure(), c.Origin(), c.Site(), want)
		}
	}
}
