package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// claimSteps is how many scenes a claim tries. The ring makes the next scene the one
// that has rested longest, so a few misses in a row mean that the pool is full; a pool
// that is smaller than this is searched whole.
const claimSteps = 16

// errRollback ends a transaction whose statement found nothing to change.
var errRollback = errors.New("postgres: nothing changed")

// Logins keeps the logins of one Official Account. It implements login.Store.
type Logins struct {
	DB    *DB
	AppID string
}

// Claim walks the ring until it finds a free scene.
func (s Logins) Claim(ctx context.Context, id login.ID, ttl, rest time.Duration) (login.Login, error) {
	for range claimSteps {
		scene, err := s.DB.Queries.Claim(ctx, pgstore.ClaimParams{Login: id, Ttl: ttl, Rest: rest})
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return login.Login{}, err
		}
		return login.Login{Ref: login.Ref{Scene: scene, ID: id}, State: login.Waiting, ExpiresIn: ttl}, nil
	}
	return login.Login{}, login.ErrExhausted
}

// SetTicket gives a waiting login its code.
func (s Logins) SetTicket(ctx context.Context, ref login.Ref, t login.Ticket) error {
	n, err := s.DB.Queries.SetTicket(ctx, pgstore.SetTicketParams{Ticket: t.Ticket, Url: t.URL, ID: ref.Scene, Login: ref.ID})
	if err == nil && n == 0 {
		return login.ErrEnded
	}
	return err
}

// Abandon frees a scene whose code nobody has seen.
func (s Logins) Abandon(ctx context.Context, ref login.Ref) error {
	return s.DB.Queries.Abandon(ctx, ref.Scene, ref.ID)
}

// Join counts one more stream of a login.
func (s Logins) Join(ctx context.Context, ref login.Ref) (login.Login, error) {
	r, err := s.DB.Queries.Join(ctx, ref.Scene, ref.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return login.Login{}, login.ErrEnded
	}
	if err != nil {
		return login.Login{}, err
	}
	return newLogin(ref, r.State, r.Ticket, r.Url, r.ExpiresIn), nil
}

// Leave counts one stream less for each ref.
func (s Logins) Leave(ctx context.Context, refs []login.Ref) error {
	scenes, ids := make([]int32, len(refs)), make([]login.ID, len(refs))
	for i, r := range refs {
		scenes[i], ids[i] = r.Scene, r.ID
	}
	return s.DB.Queries.Leave(ctx, scenes, ids)
}

// Current reads one login: it differs from one of which nothing was seen.
func (s Logins) Current(ctx context.Context, ref login.Ref) (login.Login, error) {
	ls, err := s.Look(ctx, []login.Watch{{Ref: ref}})
	if err != nil {
		return login.Login{}, err
	}
	if len(ls) != 1 {
		return login.Login{}, fmt.Errorf("looking at one login gave %d", len(ls))
	}
	return ls[0], nil
}

// Look finds what has changed of the watched logins, in one query.
func (s Logins) Look(ctx context.Context, watched []login.Watch) ([]login.Login, error) {
	p := pgstore.LookParams{
		Ids:    make([]int32, len(watched)),
		Logins: make([]login.ID, len(watched)),
		Seen:   make([]string, len(watched)),
	}
	for i, w := range watched {
		p.Ids[i], p.Logins[i], p.Seen[i] = w.Scene, w.ID, w.Seen.String()
	}
	rows, err := s.DB.Queries.Look(ctx, p)
	if err != nil {
		return nil, err
	}
	logins := make([]login.Login, len(rows))
	for i, r := range rows {
		logins[i] = newLogin(login.Ref{Scene: r.ID, ID: r.Login}, r.State, r.Ticket, r.Url, r.ExpiresIn)
	}
	return logins, nil
}

// newLogin reads a row: one that is out of time has expired, whatever it says, and so
// has a login whose scene is held by another (it has no state).
func newLogin(ref login.Ref, state, ticket, url string, expiresIn float64) login.Login {
	l := login.Login{
		Ref:       ref,
		Ticket:    login.Ticket{Ticket: ticket, URL: url},
		ExpiresIn: time.Duration(expiresIn * float64(time.Second)),
	}
	s, ok := login.ParseState(state)
	if !ok || s != login.Completed && l.ExpiresIn <= 0 {
		s = login.Expired
	}
	l.State = s
	return l
}

// Scan records a scan, or finds out what an earlier one led to.
func (s Logins) Scan(ctx context.Context, scan login.Scan, bindTTL time.Duration) (login.Outcome, login.ID, error) {
	hit, err := s.DB.Queries.Scan(ctx, pgstore.ScanParams{
		Openid: scan.OpenID, BindTtl: bindTTL, ID: scan.Scene, Ticket: scan.Ticket, Appid: s.AppID,
	})
	if err == nil {
		return outcome(hit.Known), *hit.Login, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return login.Stale, login.ID{}, err
	}
	was, err := s.DB.Queries.Scanned(ctx, pgstore.ScannedParams{Openid: scan.OpenID, ID: scan.Scene, Ticket: scan.Ticket})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return login.Stale, login.ID{}, nil
	case err != nil:
		return login.Stale, login.ID{}, err
	case !was.Same:
		return login.Used, login.ID{}, nil
	}
	return outcome(was.Known), *was.Login, nil
}

func outcome(known bool) login.Outcome {
	if known {
		return login.LoggedIn
	}
	return login.MustBind
}

// Complete turns an authenticated login into a session.
func (s Logins) Complete(ctx context.Context, ref login.Ref, session [32]byte, ttl time.Duration) error {
	n, err := s.DB.Queries.Complete(ctx, pgstore.CompleteParams{
		TokenHash: session[:], SessionTtl: ttl, ID: ref.Scene, Login: ref.ID, Appid: s.AppID,
	})
	if err == nil && n == 0 {
		return s.whyNot(ctx, ref, func(st login.State) error {
			if st == login.Authenticated {
				return login.ErrEnded // the tie was removed since the scan
			}
			return login.ErrNotReady
		})
	}
	return err
}

// Bind ties the WeChat user to the account, and turns the login into a session.
func (s Logins) Bind(ctx context.Context, ref login.Ref, userID int64, session [32]byte, ttl time.Duration) error {
	err := s.DB.tx(ctx, func(q *pgstore.Queries) error {
		n, err := q.Bind(ctx, pgstore.BindParams{
			TokenHash: session[:], SessionTtl: ttl, ID: ref.Scene, Login: ref.ID, Appid: s.AppID, AccountID: userID,
		})
		if err == nil && n == 0 {
			return errRollback
		}
		return err
	})
	if errors.Is(err, errRollback) {
		return s.whyNot(ctx, ref, func(st login.State) error {
			if st == login.BindRequired {
				return login.ErrTied
			}
			return login.ErrNotReady
		})
	}
	return err
}

// whyNot finds the reason for a transition that changed nothing.
func (s Logins) whyNot(ctx context.Context, ref login.Ref, alive func(login.State) error) error {
	l, err := s.Current(ctx, ref)
	if err != nil {
		return err
	}
	if l.State == login.Completed || l.State == login.Expired {
		return login.ErrEnded
	}
	return alive(l.State)
}

// ResizePool makes the pool of scenes 1..size, for every instance.
func (db *DB) ResizePool(ctx context.Context, size int32) error {
	if err := db.Queries.ResizePool(ctx, size); err != nil {
		return fmt.Errorf("resizing the pool to %d scenes: %w", size, err)
	}
	return nil
}
