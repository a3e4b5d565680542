package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Store keeps scenes. Each method is one statement or one transaction; expiry is
// decided by the store's clock alone.
type Store interface {
	// Claim takes a free scene for the login and holds it for ttl; a scene is free when
	// its login ended at least rest ago. It comes with the ticket that was made ahead for
	// it, if any. ErrExhausted when it finds none.
	Claim(ctx context.Context, id ID, ttl, rest time.Duration) (Login, error)
	// SetTicket gives a waiting login its code. ErrEnded when it no longer holds the scene.
	SetTicket(ctx context.Context, ref Ref, t Ticket) error
	// SetOrigin notes what is known of the browser of a waiting login.
	SetOrigin(ctx context.Context, ref Ref, o Origin) error
	// OriginOf is what was noted for the login that shows this code; empty: nothing.
	OriginOf(ctx context.Context, scene int32, ticket string) (Origin, error)
	// Abandon frees a scene whose code nobody has seen, at once and without rest.
	Abandon(ctx context.Context, ref Ref) error
	// Join counts one more stream and returns the login. ErrEnded when it is expired,
	// completed, or no longer holds the scene.
	Join(ctx context.Context, ref Ref) (Login, error)
	// Leave counts one stream less for each ref, and expires the waiting logins that
	// no stream is left of.
	Leave(ctx context.Context, refs []Ref) error
	// Current returns the login as it is now, Expired when it no longer holds the scene.
	Current(ctx context.Context, ref Ref) (Login, error)
	// Look returns those whose state is no longer the one seen.
	Look(ctx context.Context, watched []Watch) ([]Login, error)
	// Scan records a scan of the login that holds the scene with this ticket now, and
	// gives its result bindTTL. The ID is the login to notify, also for a repeat by the
	// same person; it is zero where there is nothing to tell.
	Scan(ctx context.Context, s Scan, bindTTL time.Duration) (Outcome, ID, error)
	// Ask records a scan as Scan does, but asks first: within ttl for one of the secrets,
	// the first that the person isn't asked for already. The outcome is ToConfirm then.
	Ask(ctx context.Context, s Scan, by Confirm, secrets []string, ttl time.Duration) (Outcome, ID, error)
	// QuestionTo is what the person is asked who has scanned this code; ErrEnded when that
	// is nothing (any more).
	QuestionTo(ctx context.Context, s Scan) (Question, error)
	// Answer judges the number, empty for a refusal, that the person answers with, for all
	// that the person is asked: the right one confirms one login and gives its result
	// bindTTL, a refusal declines all, a wrong one counts for all. ErrNotAsked.
	Answer(ctx context.Context, a Answer, number string, bindTTL time.Duration) (Verdict, error)
	// AwaitsAnswer tells whether the person is asked for a number.
	AwaitsAnswer(ctx context.Context, openID string) (bool, error)
	// ConfirmCode judges the code that was typed into the browser of a scanned login. A
	// wrong one counts; it comes with how many tries are left, and 0 has declined the login.
	// ErrCode, ErrNotAsked, ErrEnded.
	ConfirmCode(ctx context.Context, ref Ref, code string, bindTTL time.Duration) (left int, err error)
	// AccountOf is whose an authenticated login is; 0 for any other login.
	AccountOf(ctx context.Context, ref Ref) (account int64, err error)
	// Complete turns an authenticated login into a session, and ends the session that it
	// replaces. ErrNotReady, ErrEnded.
	Complete(ctx context.Context, ref Ref, session Session, ttl time.Duration) error
	// Bind ties the WeChat user who scanned to the account and completes the login.
	// ErrNotReady, ErrEnded, ErrTied; an error of the accounts' where the owner's
	// password was changed meanwhile.
	Bind(ctx context.Context, ref Ref, owner Owner, session Session, ttl time.Duration) error
}

// Service tells the story of a login from the claim to the session.
type Service struct {
	Store Store
	// Tickets makes a QR code for a scene that lives for ttl.
	Tickets func(ctx context.Context, scene int32, ttl time.Duration) (Ticket, error)
	// Notify tells every instance to look at a login; it returns when that was sent.
	Notify func(ctx context.Context, id ID) error
	// Observe, where it isn't nil, hears of each step once it is over. It must not block.
	Observe func(ctx context.Context, step Step)
	// Confirm is how a scan is confirmed before it counts.
	Confirm Confirm
	// Admit is asked whether the account may sign in before a login becomes its session;
	// nil: it may.
	Admit func(ctx context.Context, account int64) error

	AppID      string        // of the Official Account, for the names of people in logs
	SceneTTL   time.Duration // how long a code can be scanned, and then a scan be confirmed
	SceneRest  time.Duration // how long a scene rests between two logins
	BindTTL    time.Duration // how long a scanned login may take to be completed
	SessionTTL time.Duration // of the web session that a login becomes

	Logger *slog.Logger
}

// Longest is how long a login can last: shown, asked about where that is on, then scanned.
func (s *Service) Longest() time.Duration {
	if s.Confirm == ConfirmOff {
		return s.SceneTTL + s.BindTTL
	}
	return 2*s.SceneTTL + s.BindTTL
}

// Begin starts the login that secret opens: it claims a scene and makes its code. On
// an error nothing is held: ErrExhausted, ErrNoTicket, or the store's.
func (s *Service) Begin(ctx context.Context, secret Secret) (Login, error) {
	step := Step{Name: "claim", Login: secret.ID(), Began: time.Now()}
	l, err := s.claim(ctx, &step)
	step.Err = err
	s.observe(ctx, step)
	return l, err
}

func (s *Service) claim(ctx context.Context, step *Step) (Login, error) {
	l, err := s.Store.Claim(ctx, step.Login, s.SceneTTL, s.SceneRest)
	if err != nil {
		return Login{}, fmt.Errorf("claiming a scene: %w", err)
	}
	step.Outcome = "ready"
	if l.Ticket == (Ticket{}) {
		step.Outcome = "made"
		l.Ticket, err = s.makeTicket(ctx, l)
	}
	if err == nil {
		s.log(ctx, "login waiting", l.ID, slog.Int("scene", int(l.Scene)), slog.String("code", step.Outcome))
		return l, nil
	}
	// The browser may be gone already, and with it ctx; the scene is given back anyway.
	// Where even that fails, expiry does it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := s.Store.Abandon(ctx, l.Ref); e != nil {
		err = errors.Join(err, e)
	}
	return Login{}, fmt.Errorf("making the code of scene %d: %w", l.Scene, err)
}

// SetOrigin notes what is known of this login's browser, for the words to the phone.
func (s *Service) SetOrigin(ctx context.Context, ref Ref, o Origin) error {
	if err := s.Store.SetOrigin(ctx, ref, o); err != nil {
		return fmt.Errorf("noting the origin of a login: %w", err)
	}
	return nil
}

// OriginOf is what was noted for the login that shows the code which was scanned; empty
// where nobody knows.
func (s *Service) OriginOf(ctx context.Context, scan Scan) (Origin, error) {
	o, err := s.Store.OriginOf(ctx, scan.Scene, scan.Ticket)
	if err != nil {
		return Origin{}, fmt.Errorf("asking for the origin of a login: %w", err)
	}
	return o, nil
}

// makeTicket makes the code of a login whose scene had none ready.
func (s *Service) makeTicket(ctx context.Context, l Login) (Ticket, error) {
	t, err := s.Tickets(ctx, l.Scene, l.ExpiresIn)
	if err != nil {
		return Ticket{}, errors.Join(ErrNoTicket, err)
	}
	return t, s.Store.SetTicket(ctx, l.Ref, t)
}

// Resume goes on with a login that this browser began, for one more stream of it.
// ErrEnded when there is nothing to go on with.
func (s *Service) Resume(ctx context.Context, k Key) (Login, error) {
	l, err := s.Store.Join(ctx, k.Ref())
	if err != nil {
		return Login{}, fmt.Errorf("resuming a login: %w", err)
	}
	return l, nil
}

// Look returns those of the watched logins whose state is no longer the one seen.
func (s *Service) Look(ctx context.Context, watched []Watch) ([]Login, error) {
	return s.Store.Look(ctx, watched)
}

// Gone tells that these streams have been gone for the grace period, one ref a stream.
func (s *Service) Gone(ctx context.Context, refs []Ref) error {
	for _, ref := range refs {
		s.log(ctx, "login left by a browser", ref.ID, slog.Int("scene", int(ref.Scene)))
	}
	return s.Store.Leave(ctx, refs)
}

// Scanned records a scan and tells the instance that streams the login. The outcome is
// for the words sent to the phone; an error means that nothing was recorded, so that
// WeChat should push again.
func (s *Service) Scanned(ctx context.Context, scan Scan) (Outcome, error) {
	began := time.Now()
	o, id, err := s.record(ctx, scan)
	s.observe(ctx, Step{"scan", id, began, o.String(), err})
	if err != nil {
		return Stale, fmt.Errorf("recording a scan of scene %d: %w", scan.Scene, err)
	}
	s.log(ctx, "login scanned", id,
		slog.Int("scene", int(scan.Scene)), slog.String("outcome", o.String()), slog.String("person", PersonOf(s.AppID, scan.OpenID)))
	if id != (ID{}) {
		s.notify(ctx, id)
	}
	return o, nil
}

func (s *Service) record(ctx context.Context, scan Scan) (Outcome, ID, error) {
	if s.Confirm == ConfirmOff {
		return s.Store.Scan(ctx, scan, s.BindTTL)
	}
	return s.Store.Ask(ctx, scan, s.Confirm, s.Confirm.newSecrets(), s.SceneTTL)
}

// QuestionTo is what the person who has scanned is asked, for a scan that was ToConfirm;
// ErrEnded where it was answered already.
func (s *Service) QuestionTo(ctx context.Context, scan Scan) (Question, error) {
	q, err := s.Store.QuestionTo(ctx, scan)
	if err != nil {
		return Question{}, fmt.Errorf("asking the person: %w", err)
	}
	return q, nil
}

// Answered judges what somebody wrote. ErrNotAsked when it is no answer to anything; words
// that are neither a number nor a refusal, of a person who is asked for a number, are a
// WrongNumber that doesn't count.
func (s *Service) Answered(ctx context.Context, a Answer) (Verdict, error) {
	what, number := a.read()
	if what == otherWords {
		asked, err := s.Store.AwaitsAnswer(ctx, a.OpenID)
		if err == nil && !asked {
			err = ErrNotAsked
		}
		return Verdict{Outcome: WrongNumber}, err
	}
	began := time.Now()
	v, err := s.Store.Answer(ctx, a, number, s.BindTTL)
	s.observe(ctx, Step{"answer", v.one(), began, v.Outcome.String(), err})
	if err != nil {
		return Verdict{}, fmt.Errorf("judging an answer: %w", err)
	}
	outcome, person := slog.String("outcome", v.Outcome.String()), slog.String("person", PersonOf(s.AppID, a.OpenID))
	if len(v.Changed) == 0 {
		s.log(ctx, "login answered", ID{}, outcome, person)
	}
	for _, id := range v.Changed {
		s.log(ctx, "login answered", id, outcome, person)
		s.notify(ctx, id)
	}
	return v, nil
}

// ConfirmCode judges the code that was typed into this browser. A wrong one is ErrCode, with
// how many tries are left: 0 is the end of the login. ErrNotAsked when there is nothing to
// confirm, ErrEnded after its end.
func (s *Service) ConfirmCode(ctx context.Context, k Key, code string) (left int, err error) {
	ref, began := k.Ref(), time.Now()
	left, err = s.Store.ConfirmCode(ctx, ref, plainWords(code), s.BindTTL)
	s.observe(ctx, Step{"confirm", ref.ID, began, "", err})
	if err == nil || errors.Is(err, ErrCode) {
		s.log(ctx, "login code typed", ref.ID, slog.Bool("right", err == nil), slog.Int("tries_left", left))
	}
	if err == nil || left == 0 && errors.Is(err, ErrCode) {
		s.notify(ctx, ref.ID)
	}
	if err != nil {
		err = fmt.Errorf("confirming a login: %w", err)
	}
	return left, err
}

// Complete turns this browser's login into a session. ErrNotReady before the scan,
// ErrEnded after the login's end, and what Admit says against the account; the login goes
// on then.
func (s *Service) Complete(ctx context.Context, k Key, session Session) error {
	return s.finish(ctx, "complete", k, func(ref Ref) error {
		if err := s.admit(ctx, ref); err != nil {
			return err
		}
		return s.Store.Complete(ctx, ref, session, s.SessionTTL)
	})
}

func (s *Service) admit(ctx context.Context, ref Ref) error {
	if s.Admit == nil {
		return nil
	}
	account, err := s.Store.AccountOf(ctx, ref)
	if err != nil || account == 0 { // what is wrong with it, Complete says
		return err
	}
	return s.Admit(ctx, account)
}

// Bind ties the WeChat user that this browser's login was scanned with to the account,
// and turns the login into a session. ErrNotReady when there is nothing to bind,
// ErrEnded after its end, ErrTied when the WeChat user got another account meanwhile.
func (s *Service) Bind(ctx context.Context, k Key, owner Owner, session Session) error {
	return s.finish(ctx, "bind", k, func(ref Ref) error {
		return s.Store.Bind(ctx, ref, owner, session, s.SessionTTL)
	})
}

func (s *Service) finish(ctx context.Context, step string, k Key, write func(Ref) error) error {
	ref, began := k.Ref(), time.Now()
	err := write(ref)
	s.observe(ctx, Step{step, ref.ID, began, "", err})
	if err != nil {
		return fmt.Errorf("completing a login: %w", err)
	}
	s.log(ctx, "login completed", ref.ID, slog.Int("scene", int(ref.Scene)), slog.String("by", step))
	s.notify(ctx, ref.ID) // the other tabs
	return nil
}

// notify is a hint: the row is written, and the sweep of whoever streams the login
// finds it where the hint is lost. So a failure is logged, not returned.
func (s *Service) notify(ctx context.Context, id ID) {
	if err := s.Notify(ctx, id); err != nil {
		s.Logger.WarnContext(ctx, "login changed but NOTIFY failed; the sweep will find it", "login", id, "err", err)
	}
}

// AwaitsBind returns nil where this browser's login was scanned by somebody without an
// account; ErrNotReady when there is nothing to bind, ErrEnded after the login's end.
func (s *Service) AwaitsBind(ctx context.Context, k Key) error {
	l, err := s.Store.Current(ctx, k.Ref())
	switch {
	case err != nil:
		return fmt.Errorf("reading a login: %w", err)
	case l.State == BindRequired:
		return nil
	case l.State.Ended():
		return ErrEnded
	}
	return ErrNotReady
}
