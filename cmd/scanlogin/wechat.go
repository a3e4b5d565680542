package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"scanlogin/internal/config"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/wechat"
)

// ticketDeadline is how long a browser waits for WeChat to make its code, before it is
// told that WeChat can't be reached. It answers in 50 to 500 ms on a good day.
const ticketDeadline = 4 * time.Second

// newClient is WeChat's API for this account.
func newClient(cfg config.Config) *wechat.Client {
	transport := http.DefaultTransport
	if t, ok := transport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = 32 // codes are made ahead many at once
		transport = t
	}
	return &wechat.Client{
		AppID:     cfg.WeChatAppID,
		AppSecret: cfg.WeChatAppSecret.Reveal(),
		BaseURL:   cfg.WeChatAPIURL.String(),
		HTTP:      &http.Client{Transport: transport, Timeout: 10 * time.Second},
	}
}

// fetchToken asks for an access token: WeChat, or the team's own token server.
func fetchToken(cfg config.Config, client *wechat.Client) func(context.Context) (string, time.Duration, error) {
	own := cfg.WeChatTokenURL.Reveal()
	if own == "" {
		return client.StableToken
	}
	fetch := wechat.TokenFromURL(client.HTTP, own)
	return func(ctx context.Context) (string, time.Duration, error) {
		began := time.Now()
		token, expiresIn, err := fetch(ctx)
		if client.Called != nil {
			client.Called(ctx, wechat.Call{Endpoint: tokenServer, Began: began, Err: err})
		}
		return token, expiresIn, err
	}
}

// tokenServer is the team's own in the place of an endpoint of WeChat's.
const tokenServer = "token_server"

// sharedClient is WeChat's API with the access token that all instances share.
func sharedClient(cfg config.Config, db *postgres.DB, called func(context.Context, wechat.Call), logger *slog.Logger) *wechat.Client {
	client := newClient(cfg)
	client.Called = called
	client.Token = postgres.Tokens{DB: db, AppID: cfg.WeChatAppID, Fetch: fetchToken(cfg, client), Failed: func(err error) {
		logger.Warn("no new access token; going on with the old one while it works", "err", err)
	}}
	return client
}

// tickets makes QR codes by the WeChat API, with what all instances know of its quota.
func tickets(cfg config.Config, client *wechat.Client, db *postgres.DB, logger *slog.Logger) func(context.Context, int32, time.Duration) (login.Ticket, error) {
	quota := postgres.Quota{DB: db, AppID: cfg.WeChatAppID}
	return func(ctx context.Context, scene int32, ttl time.Duration) (login.Ticket, error) {
		ctx, cancel := context.WithTimeout(ctx, ticketDeadline)
		defer cancel()
		if err := quota.Check(ctx); err != nil {
			return login.Ticket{}, err
		}
		t, err := client.CreateQRCode(ctx, scene, ttl)
		if err != nil {
			return login.Ticket{}, errors.Join(err, blockFor(ctx, quota, err, logger))
		}
		if err := quota.Count(ctx); err != nil {
			logger.WarnContext(ctx, "a code is not counted", "err", err) // it is there all the same
		}
		return login.Ticket{Ticket: t.Ticket, URL: t.URL}, nil
	}
}

// readyMax is how many codes may lie ready: none where a code is shown for so long that
// WeChat wouldn't keep one that has lain ready before.
func readyMax(cfg config.Config) int32 {
	if cfg.SceneTTL+login.ReserveAge > wechat.MaxQRCodeTTL {
		return 0
	}
	return cfg.CodesReadyMax
}

// blockFor keeps all instances from asking again before WeChat's quota is there again.
func blockFor(ctx context.Context, quota postgres.Quota, err error, logger *slog.Logger) error {
	now := time.Now()
	var until time.Time
	switch {
	case errors.Is(err, wechat.ErrQuota):
		until = wechat.QuotaResets(now)
	case errors.Is(err, wechat.ErrRate):
		until = wechat.RateResets(now)
	default:
		return nil
	}
	logger.ErrorContext(ctx, "WeChat's quota of QR codes is spent; passwords still work", "until", until, "err", err)
	return quota.Block(ctx, until.Sub(now))
}

// newCallback reads and answers WeChat's pushes.
func newCallback(cfg config.Config, known func() string) (*wechat.Callback, error) {
	c := &wechat.Callback{
		Token:         cfg.WeChatToken.Reveal(),
		PreviousToken: cfg.WeChatTokenPrevious.Reveal(),
		AppID:         cfg.WeChatAppID,
		Window:        cfg.WeChatCallbackWindow,
		Known:         known,
	}
	var err error
	if c.Cipher, err = newCipher("WECHAT_ENCODING_AES_KEY", cfg.WeChatEncodingAESKey, cfg.WeChatAppID); err != nil {
		return nil, err
	}
	c.PreviousCipher, err = newCipher("WECHAT_ENCODING_AES_KEY_PREVIOUS", cfg.WeChatEncodingAESKeyPrevious, cfg.WeChatAppID)
	return c, err
}

// newCipher is nil for an empty key: plain mode.
func newCipher(setting string, key config.Secret, appID string) (*wechat.Cipher, error) {
	if key == "" {
		return nil, nil
	}
	c, err := wechat.NewCipher(key.Reveal(), appID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return c, nil
}

// newForwarder is nil where nobody wants the pushes that aren't ours.
func newForwarder(cfg config.Config) (*wechat.Forwarder, error) {
	if cfg.WeChatForwardURL == "" {
		return nil, nil
	}
	target, err := url.Parse(cfg.WeChatForwardURL.Reveal())
	if err != nil {
		return nil, errors.New("WECHAT_FORWARD_URL is not a URL") // the error would show it
	}
	return wechat.NewForwarder(target, cfg.WeChatToken.Reveal(), nil), nil
}

// checkConfig is what WeChat's self-check needs of the settings.
func checkConfig(cfg config.Config) wechat.CheckConfig {
	return wechat.CheckConfig{
		APIURL:                 cfg.WeChatAPIURL.String(),
		Token:                  cfg.WeChatToken.Reveal(),
		PreviousToken:          cfg.WeChatTokenPrevious.Reveal(),
		EncodingAESKey:         cfg.WeChatEncodingAESKey.Reveal(),
		PreviousEncodingAESKey: cfg.WeChatEncodingAESKeyPrevious.Reveal(),
		PublicURL:              cfg.PublicURL,
	}
}

var errChecks = errors.New("not everything is as WeChat needs it")

// checkOffline refuses settings that can't work with WeChat, each in a sentence. A
// PUBLIC_URL that WeChat can't call is a warning: it may call another address, which a
// proxy leads here.
func checkOffline(ctx context.Context, cfg config.Config, logger *slog.Logger) error {
	var wrong []error
	for _, f := range wechat.CheckOffline(checkConfig(cfg)) {
		switch {
		case f.OK:
		case f.Name == "PUBLIC_URL":
			logger.WarnContext(ctx, "WeChat may not reach this service", "why", f.Text)
		default:
			wrong = append(wrong, errors.New(f.Text))
		}
	}
	return errors.Join(wrong...)
}

func wechatCommand() command {
	var o, defaults simulateOptions
	return command{
		groups: config.WeChat,
		flags: func(f *flag.FlagSet) {
			o.register(f)
			defaults = o
		},
		run: func(ctx context.Context, p program, cfg config.Config, args []string) error {
			switch {
			case slices.Equal(args, []string{"simulate"}):
				return p.simulate(ctx, cfg, o)
			case slices.Equal(args, []string{"check"}) && o != defaults:
				return fmt.Errorf("wechat check takes no flags of wechat simulate; %w", errUsage)
			case slices.Equal(args, []string{"check"}):
				return p.checkWeChat(ctx, cfg)
			}
			return fmt.Errorf("wechat takes check or simulate; %w", errUsage)
		},
	}
}

// checkWeChat prints what it finds, a line each, and fails where something is wrong.
func (p program) checkWeChat(ctx context.Context, cfg config.Config) error {
	client := newClient(cfg)
	client.Token = wechat.NewMemoryTokens(fetchToken(cfg, client))
	var err error
	for _, f := range client.Check(ctx, checkConfig(cfg)) {
		mark := "ok   "
		if !f.OK {
			mark, err = "WRONG", errChecks
		}
		fmt.Fprintf(p.stdout, "%s  %-32s  %s\n", mark, f.Name, f.Text)
	}
	return err
}
