package wechatsim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"scanlogin/internal/wechat"
)

// Mode is how pushes are protected, as chosen in the account's console.
type Mode string

// The console's modes.
const (
	Plain      Mode = "plain"      // the fields as they are
	Compatible Mode = "compatible" // the fields and their encryption side by side
	Safe       Mode = "safe"       // only the encryption
)

// Errors of what a person does with the phone.
var (
	ErrCodeExpired = errors.New("the QR code has expired")
	ErrUnknownCode = errors.New("no such QR code")
	ErrUnknownUser = errors.New("no such WeChat user")
	ErrFollower    = errors.New("the user follows the account already")
	ErrNotFollower = errors.New("the user does not follow the account")
	ErrNoCallback  = errors.New("no callback URL is configured")
	ErrClosed      = errors.New("the simulator is closed")
)

// Config describes one Official Account and how its platform behaves.
type Config struct {
	AppID, AppSecret string // required
	Token            string // callback token, required
	EncodingAESKey   string // 43 characters; empty: plain mode
	Mode             Mode   // default: Safe with a key, else Plain

	// CallbackURL and CallbackURLs are where pushes go. With several, every try
	// goes to the next one, so that a repeated push meets another instance.
	CallbackURL  string
	CallbackURLs []string

	// PublicURL is the base of the url that a QR code holds, as a phone reaches it.
	// Default: the scheme and Host that the API was called with.
	PublicURL string

	Name       string        // of the account, as the phone shows it; default "Scan Login"
	TokenTTL   time.Duration // life of an access token, default 2 h
	DailyCodes int           // QR codes a day (Asia/Shanghai), default 100,000

	PushTimeout time.Duration // for the answer to a push, default 5 s
	RetryGap    time.Duration // between the tries of a push, default 1 s; negative: none

	Logger *slog.Logger // default: discards
	HTTP   *http.Client // sends the pushes; default: an own one
}

// Server is one simulated Official Account. It is safe for concurrent use.
type Server struct {
	cfg        Config
	originalID string
	cipher     *wechat.Cipher // nil in plain mode
	client     *http.Client
	pages      *template.Template
	log        *slog.Logger

	ctx     context.Context // ends the pushes when the server closes
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards everything below
	closed   bool
	version  uint64 // grows with everything that the page shows
	users    people
	codes    codes
	stable   tokens
	ordinary tokens
	faults   Faults
	stats    Stats
	pushed   uint64 // round robin over the callbacks
	sent     uint64 // text messages, for their MsgId
}

// New returns a server for cfg. Its errors name the setting that is wrong.
func New(cfg Config) (*Server, error) {
	cfg, err := complete(cfg)
	if err != nil {
		return nil, fmt.Errorf("wechatsim: %w", err)
	}
	s := &Server{
		cfg:        cfg,
		originalID: originalID(cfg.AppID),
		client:     pushClient(cfg.HTTP),
		log:        cfg.Logger,
		users:      newPeople(),
		codes:      newCodes(),
	}
	if cfg.Mode != Plain {
		if s.cipher, err = wechat.NewCipher(cfg.EncodingAESKey, cfg.AppID); err != nil {
			return nil, fmt.Errorf("wechatsim: EncodingAESKey: %w", err)
		}
	}
	if s.pages, err = parsePages(); err != nil {
		return nil, fmt.Errorf("wechatsim: %w", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// complete checks cfg and fills in the defaults.
func complete(cfg Config) (Config, error) {
	if cfg.AppID == "" || cfg.AppSecret == "" || cfg.Token == "" {
		return cfg, errors.New("AppID, AppSecret and Token are required")
	}
	if cfg.Mode == "" {
		cfg.Mode = Plain
		if cfg.EncodingAESKey != "" {
			cfg.Mode = Safe
		}
	}
	switch {
	case cfg.Mode != Plain && cfg.Mode != Compatible && cfg.Mode != Safe:
		return cfg, fmt.Errorf("Mode %q is none of plain, compatible, safe", cfg.Mode)
	case cfg.Mode != Plain && cfg.EncodingAESKey == "":
		return cfg, fmt.Errorf("Mode %s needs an EncodingAESKey", cfg.Mode)
	}
	if cfg.CallbackURL != "" {
		cfg.CallbackURLs = append([]string{cfg.CallbackURL}, cfg.CallbackURLs...)
	}
	for _, raw := range cfg.CallbackURLs {
		if u, err := url.Parse(raw); err != nil || u.Host == "" {
			return cfg, fmt.Errorf("CallbackURL %q is not an absolute URL", raw)
		}
	}
	if cfg.Name == "" {
		cfg.Name = "Scan Login"
	}
	setDefault(&cfg.TokenTTL, 2*time.Hour)
	setDefault(&cfg.DailyCodes, 100_000)
	setDefault(&cfg.PushTimeout, 5*time.Second)
	setDefault(&cfg.RetryGap, time.Second)
	setDefault(&cfg.Logger, slog.New(slog.DiscardHandler))
	return cfg, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// pushClient returns a client that, like WeChat, follows no redirect. A client of
// its own keeps its connections apart, so that Close can end them.
func pushClient(given *http.Client) *http.Client {
	var c http.Client
	if given != nil {
		c = *given
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		own := t.Clone()
		own.MaxIdleConnsPerHost = 64
		c.Transport = own
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// originalID is the account's gh_ name, the ToUserName of its pushes.
func originalID(appID string) string {
	sum := sha256.Sum256([]byte("original id " + appID))
	return "gh_" + hex.EncodeToString(sum[:6])
}

// OriginalID is the account's own name in pushes and replies, like gh_21ee2dc92d7d.
func (s *Server) OriginalID() string { return s.originalID }

// Close ends the pushes in flight and waits for them. Actions after it return [ErrClosed].
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
	if s.cfg.HTTP == nil {
		s.client.CloseIdleConnections()
	}
}

// spawn runs f on a goroutine that Close waits for. It reports false after Close.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Go(f)
	return true
}

// sleep waits for d. It reports false when ctx or the server ended first.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil && s.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.ctx.Done():
		return false
	}
}

// shanghai is where WeChat's days begin. China has no daylight saving time, so no
// time zone data is needed.
func shanghai(t time.Time) string {
	return t.In(time.FixedZone("Asia/Shanghai", 8*60*60)).Format(time.DateOnly)
}
