package web

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/limit"
)

// address is where a request comes from: the connection, or what a trusted proxy says. The
// zero value where nobody can tell.
func (s *Server) address(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddr(s.extractIP(r))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// mayBegin counts a new code for whoever asks. It has a gate of its own: those who wait for
// WeChat to make a code don't hold up those who are refused one, nor the other way round.
func (s *Server) mayBegin(ctx context.Context, r *http.Request) error {
	if s.Limits == nil {
		return nil
	}
	ctx = s.traced(ctx, r)
	_, err := through(ctx, &s.checks, func() (struct{}, error) { return struct{}{}, s.Limits.Code(ctx, s.address(r)) })
	return err
}

// checkPassword finds whose name and password these are, for those who may still try.
func (s *Server) checkPassword(w http.ResponseWriter, r *http.Request, in input) (account.User, error) {
	try, err := s.Limits.Password(r.Context(), in.Username, s.address(r), s.known(r))
	if err != nil {
		return account.User{}, err
	}
	user, err := s.Accounts.Verify(r.Context(), in.Username, in.Password)
	if errors.Is(err, account.ErrUnanswered) { // nobody has learned anything
		try.Right(r.Context())
	}
	if err != nil {
		s.noteFailure(r, in.Username, err)
		return account.User{}, err
	}
	try.Right(r.Context())
	s.setKnown(w, in.Username)
	return user, nil
}

// noteFailure tells the audit log of a wrong password, or of a name that nobody has: for
// whoever tries them they are the same.
func (s *Server) noteFailure(r *http.Request, name string, err error) {
	if errors.Is(err, account.ErrCredentials) {
		s.Audit.Note(r.Context(), audit.Event{Kind: audit.SignInFailed, Detail: path.Base(r.URL.Path), Account: name})
	}
}

// createAccount makes an account, for those who may make one more.
func (s *Server) createAccount(_ http.ResponseWriter, r *http.Request, in input) (account.User, error) {
	if err := s.Limits.Signup(r.Context(), s.address(r)); err != nil {
		return account.User{}, err
	}
	return s.Accounts.Create(r.Context(), in.Username, in.Password)
}

// setRetryAfter says when to come back, where it is of use.
func (s *Server) setRetryAfter(w http.ResponseWriter, r *http.Request, a answer) {
	if wait, refused := s.refused(r, a.err); refused {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	if a.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
}

// refused tells for how long a limit keeps somebody waiting. Where a proxy has sent them of
// whom we don't know, everybody has its address, and the operator is told so, once.
func (s *Server) refused(r *http.Request, err error) (wait time.Duration, ok bool) {
	refusal, ok := errors.AsType[*limit.Refusal](err)
	if !ok {
		return 0, false
	}
	if r.Header.Get("X-Forwarded-For") != "" && !s.trusts(r.RemoteAddr) {
		s.proxyHint.Do(func() {
			s.Logger.WarnContext(r.Context(), "a rate limit was reached by requests with X-Forwarded-For from an address that is not in TRUSTED_PROXIES: everybody behind that proxy counts as one",
				"peer", r.RemoteAddr, "limit", refusal.Limit)
		})
	}
	return refusal.Wait, true
}
