// Package config reads the program's settings from the environment and from
// flags of the same names, and reports everything that is wrong with them at
// once.
//
// The struct tags of [Config] are the one list of settings: [Load] reads by
// it, [Usage] prints it, [Settings] hands it to the documentation's tests.
package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"time"
)

// Config is every setting, checked. The zero value of a field that isn't
// required means that the setting is off.
//
// Tags: env is the variable, envDefault what stands where it is empty, shown
// describes a default that isn't a value, groups says which commands read it
// (see [Group]; none: all of them).
type Config struct {
	DatabaseURL       Secret `env:"DATABASE_URL" groups:"database" required:"true" example:"postgres://scanlogin:PASSWORD@db.example.com:5432/scanlogin" meaning:"PostgreSQL 13 or newer; several hosts and a transaction pooler are fine"`
	DatabaseListenURL Secret `env:"DATABASE_LISTEN_URL" groups:"database" shown:"DATABASE_URL" example:"postgres://scanlogin:PASSWORD@db.example.com:5432/scanlogin" meaning:"the direct connection for LISTEN, where DATABASE_URL goes through a pooler"`
	DatabaseSchema    string `env:"DATABASE_SCHEMA" groups:"database" envDefault:"scanlogin" example:"scanlogin" meaning:"the schema that holds every table and function"`

	DatabaseServiceRole string `env:"DATABASE_SERVICE_ROLE" groups:"database" example:"scanlogin_service" meaning:"the role that instances connect as, where another owns the tables: migrate up gives it what it needs"`

	Instance string `env:"INSTANCE" groups:"deeds" shown:"the host's name" example:"login-1" meaning:"what this instance is called, for the operator and in the audit log"`

	Accounts           string `env:"ACCOUNTS" groups:"accounts" envDefault:"builtin" example:"builtin" meaning:"builtin: users are kept here; sql: they are your own, looked up by the statements below (docs/accounts.md)"`
	AccountsURL        Secret `env:"ACCOUNTS_URL" groups:"accounts" shown:"DATABASE_URL" example:"postgres://accounts_reader:PASSWORD@db.example.com:5432/shop" meaning:"the database with your users"`
	AccountsFindByName string `env:"ACCOUNTS_FIND_BY_NAME" groups:"accounts" example:"SELECT uid AS id FROM shop.members WHERE login = $1" meaning:"who signs in by the name $1, as it was typed: column id"`
	AccountsVerify     string `env:"ACCOUNTS_VERIFY" groups:"accounts" example:"SELECT pw_hash = crypt($2, pw_hash) FROM shop.members WHERE uid = $1" meaning:"whether $2, as it was typed, is the password of the user with the id $1: one boolean"`
	AccountsFindByID   string `env:"ACCOUNTS_FIND_BY_ID" groups:"accounts" example:"SELECT uid AS id, login AS name FROM shop.members WHERE uid = $1" meaning:"the user with the id $1, as long as they may sign in: columns id and name, and version for what changes with the password"`

	Addr           string         `env:"ADDR" groups:"web" envDefault:":8080" example:":8080" meaning:"where public HTTP listens"`
	OpsAddr        string         `env:"OPS_ADDR" groups:"web" envDefault:"127.0.0.1:9090" example:"127.0.0.1:9090" meaning:"where /metrics, /healthz and /readyz listen; set to nothing: off"`
	PublicURL      *url.URL       `env:"PUBLIC_URL" groups:"web wechat" envDefault:"http://localhost:8080" example:"https://login.example.com" meaning:"the origin that browsers and WeChat see; https turns on Secure and __Host- cookies and HSTS"`
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES" groups:"web" example:"10.0.0.0/8,192.0.2.7" meaning:"addresses and CIDRs of proxies whose X-Forwarded-For is believed"`
	PlaceHeader    string         `env:"PLACE_HEADER" groups:"web" example:"CF-IPCity" meaning:"the header in which a trusted proxy says roughly where a browser is, for the words to the phone and the list of sessions"`

	WeChatAppID                  string        `env:"WECHAT_APP_ID" groups:"wechat" required:"true" example:"wx0123456789abcdef" meaning:"the Official Account's AppID"`
	WeChatAppSecret              Secret        `env:"WECHAT_APP_SECRET" groups:"wechat" required:"true" example:"(AppSecret from WeChat's console)" meaning:"the Official Account's AppSecret"`
	WeChatToken                  Secret        `env:"WECHAT_TOKEN" groups:"wechat" required:"true" example:"(the Token set in WeChat's console)" meaning:"the callback's token, 3 to 32 letters and digits"`
	WeChatEncodingAESKey         Secret        `env:"WECHAT_ENCODING_AES_KEY" groups:"wechat" example:"(the EncodingAESKey set in WeChat's console)" meaning:"the callback's key, 43 characters; when set, plain callbacks are refused (safe mode)"`
	WeChatTokenPrevious          Secret        `env:"WECHAT_TOKEN_PREVIOUS" groups:"wechat" example:"(the Token before the last change)" meaning:"the callback's token before a change, believed as well until you remove it"`
	WeChatEncodingAESKeyPrevious Secret        `env:"WECHAT_ENCODING_AES_KEY_PREVIOUS" groups:"wechat" example:"(the EncodingAESKey before the last change)" meaning:"the callback's key before a change, used as well until you remove it"`
	WeChatCallbackWindow         time.Duration `env:"WECHAT_CALLBACK_WINDOW" groups:"wechat" envDefault:"10m" example:"10m" meaning:"how far a callback's timestamp may be from now"`
	WeChatAPIURL                 *url.URL      `env:"WECHAT_API_URL" groups:"wechat" envDefault:"https://api.weixin.qq.com" example:"https://api.weixin.qq.com" meaning:"base of the WeChat API"`

	WeChatTokenURL   Secret `env:"WECHAT_TOKEN_URL" groups:"wechat" example:"https://token.internal.example.com/wechat" meaning:"your own token server, asked by GET for JSON with access_token and expires_in, instead of WeChat"`
	WeChatForwardURL Secret `env:"WECHAT_FORWARD_URL" groups:"wechat" example:"https://bot.internal.example.com/wechat" meaning:"who gets the pushes that are not about a login, and whose reply is passed back"`
	WeChatReplyTexts string `env:"WECHAT_REPLY_TEXTS" groups:"wechat" example:"/etc/scanlogin/replies.json" meaning:"a file with your own words for the phone"`
	Unsubscribe      string `env:"UNSUBSCRIBE" groups:"wechat" envDefault:"unbind" example:"unbind" meaning:"unbind or keep: what happens to the tie of whoever unfollows; their sessions end in any case"`
	CodesReadyMin    int32  `env:"CODES_READY_MIN" groups:"web" envDefault:"20" example:"20" meaning:"how many QR codes are kept ready when it is calm"`
	CodesReadyMax    int32  `env:"CODES_READY_MAX" groups:"web" envDefault:"1000" example:"1000" meaning:"how many at most when it is busy; 0: none, each is made when it is asked for"`

	ScenePool  int32         `env:"SCENE_POOL" groups:"web" envDefault:"10000" example:"10000" meaning:"scene IDs 1..N to claim from, so the number of QR codes at once"`
	SceneTTL   time.Duration `env:"SCENE_TTL" groups:"web" envDefault:"3m" example:"3m" meaning:"how long one QR code can be scanned"`
	SceneGrace time.Duration `env:"SCENE_GRACE" groups:"web" envDefault:"15s" example:"15s" meaning:"how long a scene survives its last stream, for reconnects"`
	SceneRest  time.Duration `env:"SCENE_REST" groups:"web" shown:"SCENE_TTL" example:"3m" meaning:"how long a released scene rests before it is claimed again"`
	BindTTL    time.Duration `env:"BIND_TTL" groups:"web" envDefault:"10m" example:"10m" meaning:"how long a scanned login waits to be bound or completed"`

	DrainWindow time.Duration `env:"DRAIN_WINDOW" groups:"web" envDefault:"5s" example:"5s" meaning:"over how long browsers are spread that an instance sends elsewhere, when it stops or its database is away"`

	AllowedOrigins []string      `env:"ALLOWED_ORIGINS" groups:"web" example:"https://app.example.com,https://wiki.example.com" meaning:"other origins that next may point to, and whose pages may embed the login"`
	CookieDomain   string        `env:"COOKIE_DOMAIN" groups:"web" example:"example.com" meaning:"shares the session with sibling hosts, for forward-auth; __Secure- cookies instead of __Host- then"`
	SessionTTL     time.Duration `env:"SESSION_TTL" groups:"web" envDefault:"720h" example:"720h" meaning:"how long a web session lasts"`
	SessionIdle    time.Duration `env:"SESSION_IDLE" groups:"web" envDefault:"168h" example:"168h" meaning:"how long it lasts without being used"`
	Confirm        string        `env:"CONFIRM" groups:"web" envDefault:"off" example:"reply" meaning:"off: a scan logs in; reply: the person answers in the chat with the number on the page; code: the person is sent a code, which the page asks for"`
	Signup         bool          `env:"SIGNUP" groups:"web" envDefault:"off" example:"on" meaning:"on: whoever scans for the first time may also create an account"`

	RateLimits            bool  `env:"RATE_LIMITS" groups:"web" envDefault:"on" example:"on" meaning:"off for tests behind one address"`
	LimitCodes            Rate  `env:"LIMIT_CODES" groups:"web" envDefault:"300/5m" example:"300/5m" meaning:"new QR codes for one address (of IPv6: /64)"`
	LimitCodesNetwork     Rate  `env:"LIMIT_CODES_NETWORK" groups:"web" envDefault:"1500/5m" example:"1500/5m" meaning:"new QR codes for one network (/24, of IPv6: /48)"`
	LimitCodesDay         Rate  `env:"LIMIT_CODES_DAY" groups:"web" envDefault:"5000/24h" example:"5000/24h" meaning:"the same for a day: at most a tenth of what WeChat makes"`
	LimitPoolShare        int32 `env:"LIMIT_POOL_SHARE" groups:"web" envDefault:"10" example:"10" meaning:"percent of SCENE_POOL that one address may take, but at least 20 codes at once; 0: no limit"`
	LimitPasswords        Rate  `env:"LIMIT_PASSWORDS" groups:"web" envDefault:"10/30m" example:"10/30m" meaning:"wrong passwords for one account from one network or known browser, with growing waits"`
	LimitPasswordsAccount Rate  `env:"LIMIT_PASSWORDS_ACCOUNT" groups:"web" envDefault:"100/1h" example:"100/1h" meaning:"wrong passwords for one account from anywhere but its known browsers"`
	LimitPasswordsAddress Rate  `env:"LIMIT_PASSWORDS_ADDRESS" groups:"web" envDefault:"100/10m" example:"100/10m" meaning:"wrong passwords from one address, for all accounts"`
	LimitSignups          Rate  `env:"LIMIT_SIGNUPS" groups:"web" envDefault:"60/1h" example:"60/1h" meaning:"new accounts from one address"`
	LimitScans            Rate  `env:"LIMIT_SCANS" groups:"web" envDefault:"30/1m" example:"30/1m" meaning:"scans by one WeChat user"`
	LimitTabs             int32 `env:"LIMIT_TABS" groups:"web" envDefault:"16" example:"16" meaning:"open streams of one login on an instance; 0: no limit"`

	AuditKeep time.Duration `env:"AUDIT_KEEP" groups:"web" envDefault:"9600h" example:"9600h" meaning:"how long the audit log is kept, by the month; 4320h at least"`

	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" example:"info" meaning:"debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" shown:"text on a terminal, else json" example:"json" meaning:"text or json"`
}

// Secure says that browsers come by https, so cookies get Secure.
func (c Config) Secure() bool { return c.PublicURL.Scheme == "https" }

// Origin is PUBLIC_URL as browsers write it in an Origin header: lower case,
// without the scheme's own port and without a slash at the end.
func (c Config) Origin() string { return c.PublicURL.Scheme + "://" + c.PublicURL.Host }

// Site is PUBLIC_URL's host, for people to read, with a port where it isn't
// the scheme's own.
func (c Config) Site() string { return c.PublicURL.Host }

// Group is a set of settings that a command reads. A command that doesn't
// read a setting neither demands it, nor takes its flag, nor minds what the
// environment says about it.
type Group uint8

// The groups, to be combined with |. The log's settings are in all of them.
const (
	Database Group = 1 << iota // DATABASE_*
	WeChat                     // WECHAT_* and PUBLIC_URL
	Deeds                      // INSTANCE, of what leaves traces in the audit log
	Web                        // the rest
	Accounts                   // ACCOUNTS*

	All = Database | WeChat | Deeds | Web | Accounts
)
