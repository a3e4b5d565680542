package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// Ask records a scan that has to be confirmed, or finds out what an earlier one led to.
func (s Logins) Ask(ctx context.Context, scan login.Scan, by login.Confirm, secrets []string, ttl time.Duration) (login.Outcome, login.ID, error) {
	id, err := s.DB.Queries.Ask(ctx, pgstore.AskParams{
		Openid: scan.OpenID, Ttl: ttl, ID: scan.Scene, Ticket: scan.Ticket, Appid: s.AppID,
		Kind: by.String(), Secrets: secrets, Push: scan.Push, Instance: s.DB.Instance,
	})
	if err == nil {
		return login.ToConfirm, *id, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return login.Stale, login.ID{}, err
	}
	// The same person once more is asked the same once more.
	asked, err := s.questionTo(ctx, scan)
	if err == nil {
		s.repeated()
		return login.ToConfirm, asked.Login, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return login.Stale, login.ID{}, err
	}
	return s.earlier(ctx, scan)
}

// QuestionTo is what the person is asked who has scanned this code.
func (s Logins) QuestionTo(ctx context.Context, scan login.Scan) (login.Question, error) {
	r, err := s.questionTo(ctx, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return login.Question{}, login.ErrEnded
	}
	if err != nil {
		return login.Question{}, err
	}
	q, err := newQuestion(r.Kind)
	q.Code, q.Origin = r.Code, login.Origin{Place: r.Place, Browser: r.Browser}
	return q, err
}

func (s Logins) questionTo(ctx context.Context, scan login.Scan) (pgstore.QuestionToRow, error) {
	return s.DB.Queries.QuestionTo(ctx, pgstore.QuestionToParams{
		ID: scan.Scene, Ticket: scan.Ticket, Appid: s.AppID, Openid: scan.OpenID,
	})
}

// newQuestion fails on a kind of a newer version, as newLogin does on a state.
func newQuestion(kind string) (login.Question, error) {
	by, ok := login.ParseConfirm(kind)
	if !ok {
		return login.Question{}, fmt.Errorf("a scan is confirmed in a way that only a newer version knows, %q: %w", kind, login.ErrNotReady)
	}
	return login.Question{By: by}, nil
}

// withQuestions adds what the browsers of scanned logins are told. One that was answered
// since its state was read is left out: it has another state by now.
func (s Logins) withQuestions(ctx context.Context, logins []login.Login) ([]login.Login, error) {
	var scanned []login.ID
	for _, l := range logins {
		if l.State == login.Scanned {
			scanned = append(scanned, l.ID)
		}
	}
	if len(scanned) == 0 {
		return logins, nil
	}
	rows, err := s.DB.Queries.Questions(ctx, scanned)
	if err != nil {
		return nil, err
	}
	questions := make(map[login.ID]login.Question, len(rows))
	for _, r := range rows {
		if q, err := newQuestion(r.Kind); err == nil {
			q.Number = r.Number
			questions[r.Login] = q
		}
	}
	kept := logins[:0]
	for _, l := range logins {
		var known bool
		if l.Question, known = questions[l.ID]; known || l.State != login.Scanned {
			kept = append(kept, l)
		}
	}
	return kept, nil
}

// withQuestion is withQuestions for one scanned login. Where it was answered meanwhile, it
// is as it is then.
func (s Logins) withQuestion(ctx context.Context, l login.Login) (login.Login, error) {
	logins, err := s.withQuestions(ctx, []login.Login{l})
	if err != nil {
		return login.Login{}, err
	}
	if len(logins) == 1 {
		return logins[0], nil
	}
	l, err = s.Current(ctx, l.Ref)
	switch {
	case err != nil:
		return login.Login{}, err
	case l.State.Ended():
		return login.Login{}, login.ErrEnded
	case l.State == login.Scanned:
		return login.Login{}, login.ErrNotReady
	}
	return l, nil
}

// Answer judges what a person answers, and finds out what the same push led to before.
func (s Logins) Answer(ctx context.Context, a login.Answer, number string, bindTTL time.Duration) (login.Verdict, error) {
	rows, err := s.DB.Queries.Answer(ctx, pgstore.AnswerParams{
		Decline: number == "", Number: number, Appid: s.AppID, Openid: a.OpenID, Most: login.MaxTries, Push: a.Push, BindTtl: bindTTL,
		Instance: s.DB.Instance,
	})
	if err != nil {
		return login.Verdict{}, err
	}
	if len(rows) == 0 {
		return s.answered(ctx, a)
	}
	v := login.Verdict{Outcome: login.ParseOutcome(rows[0].Reply)}
	for _, r := range rows {
		if r.Login != nil {
			v.Changed = append(v.Changed, *r.Login)
			v.Origin = login.Origin{Place: r.Place, Browser: r.Browser}
		}
	}
	return v, nil
}

// answered is what was made of a push that comes once more.
func (s Logins) answered(ctx context.Context, a login.Answer) (login.Verdict, error) {
	kept, err := s.DB.Queries.PushReply(ctx, a.Push)
	if errors.Is(err, pgx.ErrNoRows) {
		return login.Verdict{}, login.ErrNotAsked
	}
	return login.Verdict{Outcome: login.ParseOutcome(kept)}, err
}

// AwaitsAnswer tells whether the person is asked for a number.
func (s Logins) AwaitsAnswer(ctx context.Context, openID string) (bool, error) {
	return s.DB.Queries.AwaitsAnswer(ctx, s.AppID, openID)
}

// ConfirmCode judges the code that was typed into a login's browser.
func (s Logins) ConfirmCode(ctx context.Context, ref login.Ref, code string, bindTTL time.Duration) (left int, err error) {
	at := audit.From(ctx)
	r, err := s.DB.Queries.ConfirmCode(ctx, pgstore.ConfirmCodeParams{
		Code: code, Login: ref.ID, ID: ref.Scene, Most: login.MaxTries, BindTtl: bindTTL,
		Address: at.Addr, Browser: at.Browser, Place: at.Place, Instance: s.DB.Instance,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, s.whyNotAsked(ctx, ref)
	case err == nil && !r.Fits:
		err = login.ErrCode
	}
	return int(r.TriesLeft), err
}

func (s Logins) whyNotAsked(ctx context.Context, ref login.Ref) error {
	l, err := s.Current(ctx, ref)
	switch {
	case err != nil:
		return err
	case l.State.Ended():
		return login.ErrEnded
	}
	return login.ErrNotAsked
}
