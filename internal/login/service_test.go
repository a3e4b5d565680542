package login_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/login"
)

// store is a login.Store of which a test writes what it needs.
type store struct {
	login.Store // what isn't written is not to be called: nil

	claim     func(ctx context.Context, id login.ID) (login.Login, error)
	setTicket func(ctx context.Context, ref login.Ref, t login.Ticket) error
	abandon   func(ctx context.Context, ref login.Ref) error
	current   func(ref login.Ref) (login.Login, error)
	scan      func(s login.Scan) (login.Outcome, login.ID, error)
	accountOf func(ref login.Ref) (int64, error)
	complete  func(ref login.Ref) error
	bind      func(ref login.Ref, userID int64) error
}

func (s store) Claim(ctx context.Context, id login.ID, ttl, rest time.Duration) (login.Login, error) {
	if ttl != 3*time.Minute || rest != time.Minute {
		return login.Login{}, errors.New("a ttl or rest that nobody asked for")
	}
	return s.claim(ctx, id)
}

func (s store) SetTicket(ctx context.Context, ref login.Ref, t login.Ticket) error {
	return s.setTicket(ctx, ref, t)
}
func (s store) Abandon(ctx context.Context, ref login.Ref) error { return s.abandon(ctx, ref) }

func (store) SetOrigin(context.Context, login.Ref, login.Origin) error { return nil }

func (store) OriginOf(context.Context, int32, string) (login.Origin, error) {
	return login.Origin{}, nil
}

func (s store) Current(_ context.Context, ref login.Ref) (login.Login, error) {
	return s.current(ref)
}

func (s store) Scan(_ context.Context, scan login.Scan, bindTTL time.Duration) (login.Outcome, login.ID, error) {
	if bindTTL != 10*time.Minute {
		return 0, login.ID{}, errors.New("a time to bind that nobody asked for")
	}
	return s.scan(scan)
}

func (s store) AccountOf(_ context.Context, ref login.Ref) (int64, error) { return s.accountOf(ref) }

func (s store) Complete(_ context.Context, ref login.Ref, _ login.Session, ttl time.Duration) error {
	if ttl != time.Hour {
		return errors.New("a session of another life")
	}
	return s.complete(ref)
}

func (s store) Bind(_ context.Context, ref login.Ref, owner login.Owner, _ login.Session, ttl time.Duration) error {
	if ttl != time.Hour {
		return errors.New("a session of another life")
	}
	return s.bind(ref, owner.ID)
}

var errBroken = errors.New("broken")

// service is one whose notifications and log can be read.
func service(s store) (svc *login.Service, told *[]login.ID, log *bytes.Buffer) {
	told, log = new([]login.ID), new(bytes.Buffer)
	return &login.Service{
		Store: s,
		Notify: func(_ context.Context, id login.ID) error {
			*told = append(*told, id)
			return nil
		},
		SceneTTL: 3 * time.Minute, SceneRest: time.Minute, BindTTL: 10 * time.Minute, SessionTTL: time.Hour,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}, told, log
}

func TestBegin(t *testing.T) {
	t.Parallel()
	code := login.Ticket{Ticket: "a ticket", URL: "an address"}
	for name, c := range map[string]struct {
		claim, ticket, set error
		leave              bool // the browser, while the ticket is made
		want               error
		gaveBack           bool
	}{
		"a code":                   {},
		"no scene":                 {claim: login.ErrExhausted, want: login.ErrExhausted},
		"no ticket":                {ticket: errBroken, want: login.ErrNoTicket, gaveBack: true},
		"why there is no ticket":   {ticket: errBroken, want: errBroken, gaveBack: true},
		"the database went":        {set: errBroken, want: errBroken, gaveBack: true},
		"the ticket came too late": {set: login.ErrEnded, want: login.ErrEnded, gaveBack: true},
		"the browser left":         {leave: true, want: context.Canceled, gaveBack: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := login.NewSecret()
			held := login.Ref{Scene: 7, ID: secret.ID()}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var gaveBack []login.Ref
			svc, _, log := service(store{
				claim: func(_ context.Context, id login.ID) (login.Login, error) {
					return login.Login{Ref: login.Ref{Scene: 7, ID: id}, State: login.Waiting, ExpiresIn: 3 * time.Minute}, c.claim
				},
				setTicket: func(_ context.Context, ref login.Ref, got login.Ticket) error {
					if ref != held || got != code {
						t.Errorf("%+v was set for %+v", got, ref)
					}
					return c.set
				},
				abandon: func(ctx context.Context, ref login.Ref) error {
					if err := ctx.Err(); err != nil {
						t.Errorf("the scene is given back under a context that has ended: %v", err)
					}
					if _, limited := ctx.Deadline(); !limited {
						t.Error("giving the scene back may take for ever")
					}
					gaveBack = append(gaveBack, ref)
					return nil
				},
			})
			svc.Tickets = func(ctx context.Context, scene int32, ttl time.Duration) (login.Ticket, error) {
				if scene != 7 || ttl != 3*time.Minute {
					t.Errorf("a ticket for scene %d and %v", scene, ttl)
				}
				if c.leave {
					leave()
					return login.Ticket{}, ctx.Err()
				}
				return code, c.ticket
			}
			l, err := svc.Begin(ctx, secret)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err == nil && (l.Ref != held || l.Ticket != code || l.State != login.Waiting) {
				t.Errorf("began %+v", l)
			}
			if c.gaveBack != (len(gaveBack) == 1) || c.gaveBack && gaveBack[0] != held {
				t.Errorf("gave back %v", gaveBack)
			}
			if strings.Contains(log.String(), code.Ticket) || strings.Contains(log.String(), secret.ID().String()) {
				t.Error("the log says too much: " + log.String())
			}
		})
	}
}

func TestWhatCouldNotBeGivenBackIsSaid(t *testing.T) {
	t.Parallel()
	svc, _, _ := service(store{
		claim: func(_ context.Context, id login.ID) (login.Login, error) {
			return login.Login{Ref: login.Ref{Scene: 7, ID: id}}, nil
		},
		abandon: func(context.Context, login.Ref) error { return errBroken },
	})
	svc.Tickets = func(context.Context, int32, time.Duration) (login.Ticket, error) {
		return login.Ticket{}, errors.New("no")
	}
	if _, err := svc.Begin(t.Context(), login.NewSecret()); !errors.Is(err, errBroken) || !errors.Is(err, login.ErrNoTicket) {
		t.Errorf("got %v, want both reasons", err)
	}
}

func TestAScanIsToldWhereItMatters(t *testing.T) {
	t.Parallel()
	id := login.NewSecret().ID()
	for _, c := range []struct {
		outcome login.Outcome
		id      login.ID
		err     error
	}{
		{login.LoggedIn, id, nil},
		{login.MustBind, id, nil},
		{login.Used, login.ID{}, nil},
		{login.Stale, login.ID{}, nil},
		{login.Stale, login.ID{}, errBroken},
	} {
		svc, told, log := service(store{scan: func(s login.Scan) (login.Outcome, login.ID, error) {
			return c.outcome, c.id, c.err
		}})
		got, err := svc.Scanned(t.Context(), login.Scan{Scene: 7, Ticket: "a ticket", OpenID: "an openid"})
		if got != c.outcome || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%v: got %v, %v", c.outcome, got, err)
		}
		if want := c.id != (login.ID{}); want != (len(*told) == 1) || want && (*told)[0] != id {
			t.Errorf("%v: told %v", c.outcome, *told)
		}
		if strings.Contains(log.String(), "a ticket") || strings.Contains(log.String(), "an openid") {
			t.Error("the log says too much: " + log.String())
		}
		if c.err == nil && !strings.Contains(log.String(), "outcome="+c.outcome.String()) {
			t.Error("the log doesn't say what came of it: " + log.String())
		}
	}
}

func TestAnEndIsToldToTheOtherTabs(t *testing.T) {
	t.Parallel()
	k := login.Key{Scene: 7, Secret: login.NewSecret()}
	for _, want := range []error{nil, login.ErrNotReady, login.ErrEnded, login.ErrTied} {
		end := func(ref login.Ref) error {
			if ref != k.Ref() {
				t.Errorf("ends %+v", ref)
			}
			return want
		}
		svc, told, _ := service(store{complete: end, bind: func(ref login.Ref, user int64) error {
			if user != 42 {
				t.Errorf("binds to user %d", user)
			}
			return end(ref)
		}})
		for _, err := range []error{svc.Complete(t.Context(), k, login.Session{}), svc.Bind(t.Context(), k, login.Owner{ID: 42}, login.Session{})} {
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		wantTold := 0
		if want == nil {
			wantTold = 2
		}
		if len(*told) != wantTold {
			t.Errorf("%v: told %v", want, *told)
		}
	}
}

// Whose login it is decides whether it becomes a session; of one that is nobody's (yet),
// the store says what is wrong.
func TestALoginOfSomebodyWhoMayNot(t *testing.T) {
	t.Parallel()
	errGone := errors.New("gone")
	k := login.Key{Scene: 7, Secret: login.NewSecret()}
	for name, c := range map[string]struct {
		account   int64
		look      error
		want      error
		completed bool
	}{
		"may":                    {account: 1, completed: true},
		"may not":                {account: 2, want: errGone},
		"nobody's":               {account: 0, completed: true},
		"the database went away": {look: errBroken, want: errBroken},
	} {
		completed := false
		svc, told, _ := service(store{
			accountOf: func(ref login.Ref) (int64, error) {
				if ref != k.Ref() {
					t.Errorf("asked for %+v", ref)
				}
				return c.account, c.look
			},
			complete: func(login.Ref) error { completed = true; return nil },
		})
		svc.Admit = func(_ context.Context, account int64) error {
			return map[int64]error{2: errGone, 0: errBroken}[account]
		}
		if err := svc.Complete(t.Context(), k, login.Session{}); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if completed != c.completed || (len(*told) > 0) != c.completed {
			t.Errorf("%s: completed = %v, told %v", name, completed, *told)
		}
	}
}

func TestAHintThatIsLostIsNoFailure(t *testing.T) {
	t.Parallel()
	svc, _, log := service(store{
		scan: func(login.Scan) (login.Outcome, login.ID, error) {
			return login.LoggedIn, login.NewSecret().ID(), nil
		},
		complete: func(login.Ref) error { return nil },
	})
	svc.Notify = func(context.Context, login.ID) error { return errBroken }
	if o, err := svc.Scanned(t.Context(), login.Scan{}); o != login.LoggedIn || err != nil {
		t.Errorf("the scan is recorded, and yet: %v, %v", o, err)
	}
	if err := svc.Complete(t.Context(), login.Key{Scene: 1}, login.Session{}); err != nil {
		t.Errorf("the login is completed, and yet: %v", err)
	}
	if strings.Count(log.String(), "level=WARN") != 2 {
		t.Error("nobody can see that hints are lost: " + log.String())
	}
}

func TestAwaitsBind(t *testing.T) {
	t.Parallel()
	for state, want := range map[login.State]error{
		login.Waiting: login.ErrNotReady, login.Scanned: login.ErrNotReady, login.Authenticated: login.ErrNotReady, login.BindRequired: nil,
		login.Completed: login.ErrEnded, login.Declined: login.ErrEnded, login.Expired: login.ErrEnded,
	} {
		svc, _, _ := service(store{current: func(ref login.Ref) (login.Login, error) {
			return login.Login{Ref: ref, State: state}, nil
		}})
		if err := svc.AwaitsBind(t.Context(), login.Key{Scene: 1}); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%v: got %v, want %v", state, err, want)
		}
	}
	svc, _, _ := service(store{current: func(login.Ref) (login.Login, error) { return login.Login{}, errBroken }})
	if err := svc.AwaitsBind(t.Context(), login.Key{Scene: 1}); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the store's", err)
	}
}
