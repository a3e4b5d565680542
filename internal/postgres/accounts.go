package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/postgres/pgstore"
)

// Accounts keeps users, their ties to WeChat and their sessions. It implements
// account.Store.
type Accounts struct {
	DB    *DB
	AppID string // of the Official Account, for what its pushes say of a WeChat user; see [ForeignTies]
}

// ForeignTies is the AppID under which ties to users of the team's own are kept. So they
// and ties to accounts of ours can't be taken for each other, by a version either that knows
// nothing of them: a WeChat user has one of each, and the other is back after a switch.
func ForeignTies(appID string) string { return appID + " sql" }

// CreateUser adds a user; account.ErrNameTaken.
func (s Accounts) CreateUser(ctx context.Context, name, passwordHash string) (account.User, error) {
	at := audit.From(ctx)
	r, err := s.DB.Queries.CreateAccount(ctx, pgstore.CreateAccountParams{
		Name: name, Password: passwordHash,
		Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return account.User{}, account.ErrNameTaken
	}
	return account.User{ID: r.ID, Name: name, CreatedAt: r.CreatedAt}, err
}

// UserByName finds a user, without regard to case; account.ErrNoUser.
func (s Accounts) UserByName(ctx context.Context, name string) (account.User, string, error) {
	r, err := s.DB.Queries.AccountByName(ctx, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.User{}, "", account.ErrNoUser
	}
	return account.User{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt, PasswordChanges: r.PasswordChanges}, r.Password, err
}

// SetPasswordHash sets another password and ends every session; account.ErrNoUser. Who
// signs in with the old one right now is waited for and ended, or waits for us.
func (s Accounts) SetPasswordHash(ctx context.Context, userID int64, hash string) error {
	at := audit.From(ctx)
	return s.DB.tx(ctx, func(q *pgstore.Queries) error {
		n, err := q.SetPassword(ctx, pgstore.SetPasswordParams{
			Password: hash, ID: userID,
			Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return account.ErrNoUser
		}
		if err := note(ctx, q, userID, account.NoticePasswordChanged); err != nil {
			return err
		}
		_, err = s.endOthers(ctx, q, userID, nil, forever, "password_changed")
		return err
	})
}

// Disable takes password, ties and sessions from a user; account.ErrNoUser. Whoever binds or
// signs in right now is waited for and ended, or waits for us.
func (s Accounts) Disable(ctx context.Context, userID int64, noPassword string) error {
	at := audit.From(ctx)
	return s.DB.tx(ctx, func(q *pgstore.Queries) error {
		n, err := q.SetPassword(ctx, pgstore.SetPasswordParams{
			Password: noPassword, ID: userID,
			Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
		})
		if err == nil && n == 0 {
			err = account.ErrNoUser
		}
		if err != nil {
			return err
		}
		_, err = q.Unbind(ctx, pgstore.UnbindParams{
			AccountID: userID,
			Address:   at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
		})
		if err != nil {
			return err
		}
		_, err = s.endOthers(ctx, q, userID, nil, forever, "disabled")
		return err
	})
}

// Rehash replaces the hash of a password by another of the same one.
func (s Accounts) Rehash(ctx context.Context, userID int64, was, hash string) error {
	return s.DB.Queries.Rehash(ctx, pgstore.RehashParams{Password: hash, ID: userID, Was: was})
}

// ListUsers returns every user, by name.
func (s Accounts) ListUsers(ctx context.Context) ([]account.Listed, error) {
	rows, err := s.DB.Queries.ListAccounts(ctx)
	if err != nil {
		return nil, err
	}
	users := make([]account.Listed, len(rows))
	for i, r := range rows {
		users[i] = account.Listed{User: account.User{ID: r.ID, ForeignID: r.ExternalID, Name: r.Name, CreatedAt: r.CreatedAt}, Ties: int(r.Ties)}
	}
	return users, nil
}

// KeepForeign returns the row of a user of the team's own, made where there is none. It
// writes nothing where nothing has changed.
func (s Accounts) KeepForeign(ctx context.Context, f account.Foreign) (account.User, error) {
	u := account.User{ForeignID: f.ID, Name: f.Name}
	was, err := s.DB.Queries.ForeignAccount(ctx, pgstore.ForeignAccountParams{ExternalID: f.ID, ExternalName: f.Name, ExternalVersion: f.Version})
	if err == nil {
		u.ID, u.CreatedAt, u.PasswordChanges = was.ID, was.CreatedAt, was.PasswordChanges
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return u, err
	}
	err = s.DB.tx(ctx, func(q *pgstore.Queries) error {
		r, err := q.KeepForeign(ctx, pgstore.KeepForeignParams{ExternalID: f.ID, ExternalName: f.Name, ExternalVersion: f.Version})
		u.ID, u.CreatedAt, u.PasswordChanges = r.ID, r.CreatedAt, r.PasswordChanges
		if err != nil || !r.Renewed {
			return err
		}
		if u.PasswordChanges, err = q.RenewForeign(ctx, f.Version, r.ID); err != nil {
			return err
		}
		_, err = s.endOthers(ctx, q, r.ID, nil, forever, "password_changed")
		return err
	})
	return u, err
}

// ForeignUser finds the row of a user of the team's own; account.ErrNoUser.
func (s Accounts) ForeignUser(ctx context.Context, id string) (account.User, error) {
	r, err := s.DB.Queries.AccountByForeignID(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.User{}, account.ErrNoUser
	}
	return account.User{ID: r.ID, ForeignID: id, Name: r.ExternalName, CreatedAt: r.CreatedAt}, err
}

// ForeignID finds what the team knows a user by; account.ErrNoUser.
func (s Accounts) ForeignID(ctx context.Context, userID int64) (string, error) {
	id, err := s.DB.Queries.ForeignID(ctx, userID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && id == "" {
		return "", account.ErrNoUser
	}
	return id, err
}

// SomeForeignID finds the ID of any of the team's own users, or nothing.
func (s Accounts) SomeForeignID(ctx context.Context) (string, error) {
	id, err := s.DB.Queries.SomeForeignID(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// Unbind removes the user's ties, leaves word of it, and returns how many there were. Whoever
// ties one right now is waited for, or waits for us: nobody's tie goes without a word.
func (s Accounts) Unbind(ctx context.Context, userID int64) (ties int, err error) {
	err = s.DB.tx(ctx, func(q *pgstore.Queries) error {
		if err := q.LockAccount(ctx, userID); err != nil {
			return err
		}
		if err := note(ctx, q, userID, account.NoticeUnbound); err != nil {
			return err
		}
		at := audit.From(ctx)
		n, err := q.Unbind(ctx, pgstore.UnbindParams{
			AccountID: userID,
			Address:   at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
		})
		if err == nil && n == 0 {
			return errRollback
		}
		ties = int(n)
		return err
	})
	if errors.Is(err, errRollback) {
		return 0, nil
	}
	return ties, err
}

// Identities returns the user's ties, oldest first.
func (s Accounts) Identities(ctx context.Context, userID int64) ([]account.Identity, error) {
	bound, err := s.DB.Queries.Identities(ctx, userID)
	if err != nil {
		return nil, err
	}
	ties := make([]account.Identity, len(bound))
	for i, at := range bound {
		ties[i] = account.Identity{BoundAt: at}
	}
	return ties, nil
}
