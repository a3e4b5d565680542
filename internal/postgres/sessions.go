package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// CreateSession starts a session; account.ErrCredentials where the password was changed.
func (s Accounts) CreateSession(ctx context.Context, u account.User, n account.NewSession, ttl time.Duration) error {
	made, err := s.DB.Queries.CreateSession(ctx, pgstore.CreateSessionParams{
		AccountID: u.ID, PasswordChanges: u.PasswordChanges,
		TokenHash: n.Hash[:], SessionTtl: ttl, Replaces: n.Replaces[:], Browser: n.Browser, Place: n.Place,
		Address: audit.From(ctx).Addr, Instance: s.DB.Instance,
	})
	if err == nil && made == 0 {
		return account.ErrCredentials
	}
	return err
}

// SessionByHash finds a session that lives; account.ErrNoSession.
func (s Accounts) SessionByHash(ctx context.Context, hash [32]byte, idle time.Duration) (account.Session, time.Duration, error) {
	r, err := s.DB.Queries.SessionByHash(ctx, hash[:], idle)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.Session{}, 0, account.ErrNoSession
	}
	return account.Session{
		ID:      account.SessionID(r.ID),
		User:    account.User{ID: r.AccountID, ForeignID: r.ExternalID, Name: r.Name, CreatedAt: r.AccountCreatedAt, PasswordChanges: r.PasswordChanges},
		Browser: r.Browser, Place: r.Place,
		CreatedAt: r.CreatedAt, SeenAt: r.SeenAt, ExpiresAt: r.ExpiresAt,
	}, time.Duration(r.Unseen * float64(time.Second)), err
}

// SawSession notes that a session is used. A crash may forget it: the next use is noted.
func (s Accounts) SawSession(ctx context.Context, hash [32]byte, every time.Duration) (noted bool, err error) {
	n, err := s.DB.relaxed.SawSession(ctx, hash[:], every)
	return n > 0, err
}

// Sessions returns a user's sessions, the newest first.
func (s Accounts) Sessions(ctx context.Context, u account.User, idle time.Duration) ([]account.Session, error) {
	rows, err := s.DB.Queries.SessionsOf(ctx, u.ID, idle)
	if err != nil {
		return nil, err
	}
	sessions := make([]account.Session, len(rows))
	for i, r := range rows {
		sessions[i] = account.Session{
			ID: account.SessionID(r.ID), User: u, Browser: r.Browser, Place: r.Place,
			CreatedAt: r.CreatedAt, SeenAt: r.SeenAt, ExpiresAt: r.ExpiresAt,
		}
	}
	return sessions, nil
}

// DeleteSession ends a session.
func (s Accounts) DeleteSession(ctx context.Context, hash [32]byte) error {
	at := audit.From(ctx)
	return s.DB.Queries.DeleteSession(ctx, pgstore.DeleteSessionParams{
		TokenHash: hash[:],
		Address:   at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
	})
}

// EndSession ends another session of the user; account.ErrNotTheirs.
func (s Accounts) EndSession(ctx context.Context, userID int64, asks [32]byte, id account.SessionID, idle time.Duration) error {
	at := audit.From(ctx)
	return s.ask(ctx, userID, asks, func(q *pgstore.Queries) error {
		n, err := q.EndSession(ctx, pgstore.EndSessionParams{
			ID: login.ID(id), AccountID: userID, Idle: idle,
			Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
		})
		if err == nil && n == 0 {
			return account.ErrNotTheirs
		}
		return err
	})
}

// EndOtherSessions ends all sessions of the user but this one.
func (s Accounts) EndOtherSessions(ctx context.Context, userID int64, asks [32]byte, idle time.Duration) (ended int, err error) {
	err = s.ask(ctx, userID, asks, func(q *pgstore.Queries) error {
		ended, err = s.endOthers(ctx, q, userID, asks[:], idle, "others")
		return err
	})
	return ended, err
}

// forever is a time in which every session was seen.
const forever = 100 * 365 * 24 * time.Hour

// endOthers ends all sessions of the user but the one that is kept.
func (s Accounts) endOthers(ctx context.Context, q *pgstore.Queries, userID int64, kept []byte, idle time.Duration, why string) (int, error) {
	at := audit.From(ctx)
	n, err := q.EndOtherSessions(ctx, pgstore.EndOtherSessionsParams{
		AccountID: userID, Kept: kept, Idle: idle, Why: why,
		Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
	})
	return int(n), err
}

// ChangePasswordHash sets another password, keeps this session under another token and
// ends all others; account.ErrCredentials where somebody else has changed it meanwhile.
func (s Accounts) ChangePasswordHash(
	ctx context.Context, u account.User, hash string, session, rotated [32]byte, idle time.Duration,
) (ended int, err error) {
	at := audit.From(ctx)
	err = s.ask(ctx, u.ID, session, func(q *pgstore.Queries) error {
		n, err := q.ChangePassword(ctx, pgstore.ChangePasswordParams{
			Password: hash, ID: u.ID, PasswordChanges: u.PasswordChanges,
			Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return account.ErrCredentials
		}
		if err := note(ctx, q, u.ID, account.NoticePasswordChanged); err != nil {
			return err
		}
		if err := q.RotateSession(ctx, rotated[:], session[:]); err != nil {
			return err
		}
		ended, err = s.endOthers(ctx, q, u.ID, rotated[:], idle, "password_changed")
		return err
	})
	return ended, err
}

// EndSessions ends all sessions of the user; why is the detail in the audit log.
func (s Accounts) EndSessions(ctx context.Context, userID int64, why string) error {
	return s.DB.tx(ctx, func(q *pgstore.Queries) error {
		if err := q.LockAccount(ctx, userID); err != nil {
			return err
		}
		_, err := s.endOthers(ctx, q, userID, nil, forever, why)
		return err
	})
}

// ask is a transaction for a session that asks for something, which has to be there still:
// of two that end each other at once, one is left. account.ErrNoSession.
func (s Accounts) ask(ctx context.Context, userID int64, session [32]byte, f func(q *pgstore.Queries) error) error {
	return s.DB.tx(ctx, func(q *pgstore.Queries) error {
		if err := q.LockAccount(ctx, userID); err != nil {
			return err
		}
		n, err := q.HoldSession(ctx, session[:], userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return account.ErrNoSession
		}
		return f(q)
	})
}

// Unfollowed ends the sessions of whoever is tied to this WeChat user, and the tie too
// where unbind says so. It returns how many sessions that were.
func (s Accounts) Unfollowed(ctx context.Context, openid string, unbind bool) (sessions int, err error) {
	err = s.DB.tx(ctx, func(q *pgstore.Queries) error {
		if err := q.LockAccountOfOpenID(ctx, s.AppID, openid); err != nil {
			return err
		}
		// A login of theirs that completes right now is waited for, or waits for us.
		if err := q.LockTie(ctx, s.AppID, openid); err != nil {
			return err
		}
		n, err := q.EndSessionsOfOpenID(ctx, pgstore.EndSessionsOfOpenIDParams{Appid: s.AppID, Openid: openid, Instance: s.DB.Instance})
		if err == nil && unbind {
			_, err = q.UnbindOpenID(ctx, pgstore.UnbindOpenIDParams{Appid: s.AppID, Openid: openid, Instance: s.DB.Instance})
		}
		sessions = int(n)
		return err
	})
	return sessions, err
}
