package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// errRollback ends a transaction whose statement found nothing to change.
var errRollback = errors.New("postgres: nothing changed")

// Logins keeps the logins of one Official Account. It implements login.Store.
type Logins struct {
	DB    *DB
	AppID string // see [ForeignTies]
	// Repeated, where it isn't nil, is called for each scan that is answered as an earlier one
	// was: WeChat has pushed it once more, or the same person has scanned again.
	Repeated func()
}

// Claim walks the ring until it finds a free scene, together with whoever else wants one.
// What was sent is waited for, even when ctx ends meanwhile: the caller can give back the
// scene that it took, while nobody would know of one that was claimed for a caller who had
// left.
func (s Logins) Claim(ctx context.Context, id login.ID, ttl, rest time.Duration) (login.Login, error) {
	return s.DB.claims.do(ctx, claim{id: id, ttl: ttl, rest: rest})
}

// SetTicket gives a waiting login its code.
func (s Logins) SetTicket(ctx context.Context, ref login.Ref, t login.Ticket) error {
	n, err := s.DB.Queries.SetTicket(ctx, pgstore.SetTicketParams{Ticket: t.Ticket, Url: t.URL, ID: ref.Scene, Login: ref.ID})
	if err == nil && n == 0 {
		return login.ErrEnded
	}
	return err
}

// SetOrigin notes what is known of the browser of a waiting login.
func (s Logins) SetOrigin(ctx context.Context, ref login.Ref, o login.Origin) error {
	return s.DB.relaxed.SetOrigin(ctx, pgstore.SetOriginParams{Place: o.Place, Browser: o.Browser, ID: ref.Scene, Login: ref.ID})
}

// OriginOf is what was noted for the login that shows this code.
func (s Logins) OriginOf(ctx context.Context, scene int32, ticket string) (login.Origin, error) {
	r, err := s.DB.Queries.OriginOf(ctx, scene, ticket)
	if errors.Is(err, pgx.ErrNoRows) {
		return login.Origin{}, nil
	}
	return login.Origin{Place: r.Place, Browser: r.Browser}, err
}

// Abandon frees a scene whose code nobody has seen.
func (s Logins) Abandon(ctx context.Context, ref login.Ref) error {
	return s.DB.relaxed.Abandon(ctx, ref.Scene, ref.ID)
}

// Join counts one more stream of a login. Durable: with a watcher forgotten, the code would
// end under a browser that still shows it. Whoever comes at the same time is counted by the
// same statement.
func (s Logins) Join(ctx context.Context, ref login.Ref) (login.Login, error) {
	l, err := s.DB.joins.do(ctx, ref)
	if err != nil || l.State != login.Scanned {
		return l, err
	}
	return s.withQuestion(ctx, l)
}

// Leave counts one stream less for each ref. A stream that is counted once too often ends
// with its login's time, as after the crash of an instance.
func (s Logins) Leave(ctx context.Context, refs []login.Ref) error {
	scenes, ids := make([]int32, len(refs)), make([]login.ID, len(refs))
	for i, r := range refs {
		scenes[i], ids[i] = r.Scene, r.ID
	}
	return s.DB.relaxed.Leave(ctx, scenes, ids)
}

// Current reads one login: it differs from one of which nothing was seen.
func (s Logins) Current(ctx context.Context, ref login.Ref) (login.Login, error) {
	rows, err := s.look(ctx, []login.Watch{{Ref: ref}})
	if err != nil {
		return login.Login{}, err
	}
	if len(rows) != 1 {
		return login.Login{}, fmt.Errorf("looking at one login gave %d", len(rows))
	}
	return newLogin(ref, rows[0].State, rows[0].Ticket, rows[0].Url, rows[0].ExpiresIn)
}

// Look finds what has changed of the watched logins, in one query. One that a newer version
// has taken to a state of its own is left out: its streams stay, and hear of the next state
// that we know.
func (s Logins) Look(ctx context.Context, watched []login.Watch) ([]login.Login, error) {
	rows, err := s.look(ctx, watched)
	if err != nil {
		return nil, err
	}
	logins := make([]login.Login, 0, len(rows))
	for _, r := range rows {
		l, err := newLogin(login.Ref{Scene: r.ID, ID: r.Login}, r.State, r.Ticket, r.Url, r.ExpiresIn)
		if err == nil {
			logins = append(logins, l)
		}
	}
	return s.withQuestions(ctx, logins)
}

func (s Logins) look(ctx context.Context, watched []login.Watch) ([]pgstore.LookRow, error) {
	p := pgstore.LookParams{
		Ids:    make([]int32, len(watched)),
		Logins: make([]login.ID, len(watched)),
		Seen:   make([]string, len(watched)),
	}
	for i, w := range watched {
		p.Ids[i], p.Logins[i], p.Seen[i] = w.Scene, w.ID, w.Seen.String()
	}
	return s.DB.Queries.Look(ctx, p)
}

// newLogin fails on the state of a newer version, which runs beside this one during a
// deploy. ErrNotReady is the error that gives up nothing: the browser tries again, and may
// reach an instance that knows more.
func newLogin(ref login.Ref, state, ticket, url string, expiresIn float64) (login.Login, error) {
	s, ok := login.ParseState(state)
	if !ok {
		return login.Login{}, fmt.Errorf("scene %d is in a state that only a newer version knows, %q: %w", ref.Scene, state, login.ErrNotReady)
	}
	return login.Login{
		Ref:       ref,
		State:     s,
		Ticket:    login.Ticket{Ticket: ticket, URL: url},
		ExpiresIn: time.Duration(expiresIn * float64(time.Second)),
	}, nil
}

// Scan records a scan, or finds out what an earlier one led to.
func (s Logins) Scan(ctx context.Context, scan login.Scan, bindTTL time.Duration) (login.Outcome, login.ID, error) {
	hit, err := s.DB.Queries.Scan(ctx, pgstore.ScanParams{
		Openid: scan.OpenID, BindTtl: bindTTL, ID: scan.Scene, Ticket: scan.Ticket, Appid: s.AppID, Push: scan.Push,
		Instance: s.DB.Instance,
	})
	if err == nil {
		return outcome(hit.Known), *hit.Login, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return login.Stale, login.ID{}, err
	}
	return s.earlier(ctx, scan)
}

// earlier is what an earlier scan of the same code has led to.
func (s Logins) earlier(ctx context.Context, scan login.Scan) (login.Outcome, login.ID, error) {
	was, err := s.DB.Queries.Scanned(ctx, pgstore.ScannedParams{Openid: scan.OpenID, ID: scan.Scene, Ticket: scan.Ticket})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return login.Stale, login.ID{}, err
	}
	if err == nil && was.Same {
		s.repeated()
		return outcome(was.Known), *was.Login, nil
	}
	// The scene may have gone on to somebody else since this very push was answered.
	kept, keptErr := s.DB.Queries.PushReply(ctx, scan.Push)
	switch o := login.ParseOutcome(kept); {
	case keptErr == nil && o != login.ToConfirm: // that is over, so there is nothing to confirm
		s.repeated()
		return o, login.ID{}, nil
	case keptErr != nil && !errors.Is(keptErr, pgx.ErrNoRows):
		return login.Stale, login.ID{}, keptErr
	case keptErr != nil && err == nil:
		return login.Used, login.ID{}, nil
	}
	return login.Stale, login.ID{}, nil
}

func (s Logins) repeated() {
	if s.Repeated != nil {
		s.Repeated()
	}
}

func outcome(known bool) login.Outcome {
	if known {
		return login.LoggedIn
	}
	return login.MustBind
}

// AccountOf is whose a login is that can be completed.
func (s Logins) AccountOf(ctx context.Context, ref login.Ref) (int64, error) {
	id, err := s.DB.Queries.AccountOf(ctx, ref.Scene, ref.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

// Complete turns an authenticated login into a session. ErrEnded also where the tie was
// removed since the scan.
func (s Logins) Complete(ctx context.Context, ref login.Ref, session login.Session, ttl time.Duration) error {
	return s.end(ctx, ref, login.Authenticated, login.ErrEnded, func() (int64, error) {
		return s.DB.Queries.Complete(ctx, pgstore.CompleteParams{
			ID: ref.Scene, Login: ref.ID, Appid: s.AppID,
			TokenHash: session.Hash[:], SessionTtl: ttl, Replaces: session.Replaces[:], Browser: session.Browser, Place: session.Place,
			Address: audit.From(ctx).Addr, Instance: s.DB.Instance,
		})
	})
}

// Bind ties the WeChat user to the account, and turns the login into a session.
// account.ErrCredentials where the password was changed since it was proved.
func (s Logins) Bind(ctx context.Context, ref login.Ref, owner login.Owner, session login.Session, ttl time.Duration) error {
	return s.end(ctx, ref, login.BindRequired, login.ErrTied, func() (n int64, err error) {
		err = s.DB.tx(ctx, func(q *pgstore.Queries) error {
			if n, err = q.Vouch(ctx, owner.ID, owner.PasswordChanges); err != nil {
				return err
			}
			if n == 0 {
				return account.ErrCredentials
			}
			n, err = q.Bind(ctx, pgstore.BindParams{
				ID: ref.Scene, Login: ref.ID, Appid: s.AppID, AccountID: owner.ID,
				TokenHash: session.Hash[:], SessionTtl: ttl, Replaces: session.Replaces[:], Browser: session.Browser, Place: session.Place,
				Address: audit.From(ctx).Addr, Instance: s.DB.Instance,
			})
			if err == nil && n == 0 {
				return errRollback
			}
			if err != nil {
				return err
			}
			return note(ctx, q, owner.ID, account.NoticeBound)
		})
		if errors.Is(err, errRollback) {
			return 0, nil
		}
		return n, err
	})
}

// end runs the write that ends a login which is in state from. Where that changed
// nothing it finds out why: otherwise is the reason where the state was the right one.
func (s Logins) end(ctx context.Context, ref login.Ref, from login.State, otherwise error, write func() (int64, error)) error {
	// Twice, because the scan may arrive between the write and the look.
	for range 2 {
		n, err := write()
		if err != nil || n > 0 {
			return err
		}
		l, err := s.Current(ctx, ref)
		switch {
		case err != nil:
			return err
		case l.State.Ended():
			return login.ErrEnded
		case l.State != from:
			return login.ErrNotReady
		}
	}
	return otherwise
}

// ResizePool makes the pool of scenes 1..size, for every instance.
func (db *DB) ResizePool(ctx context.Context, size int32) error {
	if err := db.Queries.ResizePool(ctx, size); err != nil {
		return fmt.Errorf("resizing the pool to %d scenes: %w", size, err)
	}
	return nil
}
