package main

import (
	"context"
	"log/slog"

	"scanlogin/internal/account"
	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
)

// openUsers is where the team's own users are looked up; nil with ACCOUNTS=builtin.
func openUsers(ctx context.Context, cfg config.Config, logger *slog.Logger) (*postgres.Users, error) {
	if cfg.Accounts != "sql" {
		return nil, nil
	}
	return postgres.OpenUsers(ctx, cfg.AccountsURL.Reveal(), postgres.UserStatements{
		FindByName: cfg.AccountsFindByName, Verify: cfg.AccountsVerify, FindByID: cfg.AccountsFindByID,
	}, logger)
}

// accountsOf is the accounts of either kind.
func accountsOf(cfg config.Config, db *postgres.DB, users *postgres.Users, logger *slog.Logger) *account.Service {
	s := &account.Service{
		Store:      postgres.Accounts{DB: db, AppID: ties(cfg)},
		SessionTTL: cfg.SessionTTL, SessionIdle: cfg.SessionIdle,
		Logger: logger,
	}
	if users != nil { // an interface that holds a nil pointer isn't nil
		s.Users = users
	}
	return s
}

// ties is the AppID that ties are kept under.
func ties(cfg config.Config) string {
	if cfg.Accounts == "sql" {
		return postgres.ForeignTies(cfg.WeChatAppID)
	}
	return cfg.WeChatAppID
}
