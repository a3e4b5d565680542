package web

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/stream"
)

// retryIn is after how many seconds a browser tries again for a code that could not be
// had.
const retryIn = 5 * time.Second

// events streams this browser's login: the one that it began, else a new one. Trouble is
// told in the stream, because any status but 200 makes an EventSource stop for good.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	if s.isForeign(r) {
		return errForeign
	}
	if r.Header.Get("Last-Event-ID") != "" {
		w.WriteHeader(http.StatusNoContent) // its login has ended: the browser stops for good
		return nil
	}
	if s.Hub.Draining() {
		return stream.WriteOnce(w, r, s.Hub.Reconnect())
	}
	if key, ok := s.loginKey(r); ok {
		if err := s.resume(w, r, key); !errors.Is(err, login.ErrEnded) {
			return s.tell(w, r, err)
		}
	}
	return s.tell(w, r, s.begin(w, r))
}

// resume goes on with a login. It subscribes before it reads, so that what happens in
// between isn't missed.
func (s *Server) resume(w http.ResponseWriter, r *http.Request, key login.Key) error {
	sub := s.Hub.Subscribe(key.Secret.ID())
	defer sub.Cancel()
	if sub.TooMany() {
		return s.Limits.Tab(s.traced(r.Context(), r), retryIn)
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestDeadline)
	defer cancel()
	l, err := through(ctx, &s.resumes, func() (login.Login, error) { return s.Logins.Resume(ctx, key) })
	if err != nil {
		return err
	}
	return s.serve(w, r, sub, l)
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), requestDeadline)
	defer cancel()
	if err := s.mayBegin(ctx, r); err != nil {
		return err
	}
	secret := login.NewSecret()
	noteLogin(r, secret.ID())
	sub := s.Hub.Subscribe(secret.ID())
	defer sub.Cancel()
	l, err := through(ctx, &s.begins, func() (login.Login, error) { return s.Logins.Begin(ctx, secret) })
	if err != nil {
		if errors.Is(err, login.ErrExhausted) || errors.Is(err, login.ErrNoTicket) {
			s.Limits.NoCode(ctx, s.address(r))
		}
		return err
	}
	if o := s.originOf(r); o != (login.Origin{}) {
		if err := s.Logins.SetOrigin(ctx, l.Ref, o); err != nil {
			s.Logger.WarnContext(ctx, "a login goes without its origin", "login", l.ID, "err", err)
		}
	}
	s.setLoginKey(w, login.Key{Scene: l.Scene, Secret: secret})
	return s.serve(w, r, sub, l)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, sub *stream.Subscription, l login.Login) error {
	first, err := s.firstEvent(l)
	if err != nil {
		return err
	}
	return sub.Serve(w, r, l, first)
}

// firstEvent states where the login stands now.
func (s *Server) firstEvent(l login.Login) ([]byte, error) {
	if l.State != login.Waiting {
		return s.Hub.Event(l), nil
	}
	image, err := s.pictures.of(l.URL)
	if err != nil {
		return nil, fmt.Errorf("drawing the code of scene %d: %w", l.Scene, err)
	}
	return stream.QR(l, image), nil
}

// tell says in the stream why there is none.
func (s *Server) tell(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	if wait, refused := s.refused(r, err); refused {
		// Whoever shares an address doesn't come back together.
		return stream.WriteOnce(w, r, stream.Unavailable("rate_limited", wait+rand.N(retryIn)))
	}
	event := s.Hub.Reconnect()
	switch {
	case errors.Is(err, errBusy):
		return stream.WriteOnce(w, r, event) // counted; there are too many for a line each
	case errors.Is(err, login.ErrExhausted):
		event = stream.Unavailable("pool_exhausted", retryIn)
	case errors.Is(err, login.ErrNoTicket):
		event = stream.Unavailable("wechat_unavailable", retryAfterNoTicket(err))
	}
	s.Logger.WarnContext(r.Context(), "no login for a browser", "err", err)
	return stream.WriteOnce(w, r, event)
}

// longestRetry is how long a browser waits at most while there are no codes: the quota may
// be raised meanwhile, or somebody else's scene come with a code that was made ahead.
const longestRetry = time.Minute

// retryAfterNoTicket is after how long a browser tries again. While WeChat makes no codes
// for hours, thousands of pages that try every few seconds would keep the database busy.
func retryAfterNoTicket(err error) time.Duration {
	blocked, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err)
	if !ok {
		return retryIn
	}
	return min(max(retryIn, blocked.RetryAfter()), longestRetry) + rand.N(retryIn)
}
