package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"

	"scanlogin/internal/config"
	"scanlogin/internal/limit"
	"scanlogin/internal/postgres"
)

// newLimiter is nil where there are no limits.
func newLimiter(cfg config.Config, db *postgres.DB, refused func(context.Context, limit.Refusal), logger *slog.Logger) (*limit.Limiter, error) {
	if !cfg.RateLimits {
		return nil, nil
	}
	l := &limit.Limiter{Store: postgres.Limits{DB: db}, Rules: rules(cfg), Refused: refused, Logger: logger}
	// Known to all instances and not to the database. With another AppSecret limits begin
	// anew, and browsers are strangers until they sign in.
	key, err := hkdf.Key(sha256.New, []byte(cfg.WeChatAppSecret.Reveal()), nil, "scanlogin rate limits", len(l.Secret))
	if err != nil {
		return nil, fmt.Errorf("deriving the secret of the limits: %w", err)
	}
	copy(l.Secret[:], key)
	return l, nil
}

func rules(cfg config.Config) limit.Rules {
	r := limit.Rules{
		Codes:            rate(cfg.LimitCodes).Stricter(poolShare(cfg)),
		CodesNetwork:     rate(cfg.LimitCodesNetwork),
		CodesDay:         rate(cfg.LimitCodesDay),
		Passwords:        rate(cfg.LimitPasswords),
		PasswordsAccount: rate(cfg.LimitPasswordsAccount),
		PasswordsAddress: rate(cfg.LimitPasswordsAddress),
		Signups:          rate(cfg.LimitSignups),
		Scans:            rate(cfg.LimitScans),
	}
	r.Passwords.Growing = true
	return r
}

func rate(r config.Rate) limit.Rate { return limit.Rate{Burst: r.Burst, Per: r.Per} }

// fewest is how many codes an address may have at once in the smallest pool: an office.
const fewest = 20

// poolShare keeps an address from taking more than its share of the pool, without counting
// what it holds. A scene is there again SCENE_TTL and SCENE_REST after it was claimed at the
// latest, but for those that somebody scans; who claims half of the share at once and half
// of it in that time holds all of it at most.
func poolShare(cfg config.Config) limit.Rate {
	if cfg.LimitPoolShare == 0 {
		return limit.Rate{}
	}
	share := int64(cfg.ScenePool) * int64(cfg.LimitPoolShare) / 100
	return limit.Rate{Burst: max(fewest, int32(share/2)), Per: cfg.SceneTTL + cfg.SceneRest}
}

// tabs is how many streams a login may have on an instance; 0: any number.
func tabs(cfg config.Config) int {
	if !cfg.RateLimits {
		return 0
	}
	return int(cfg.LimitTabs)
}
