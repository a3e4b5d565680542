package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"scanlogin/internal/account"
)

// user is the user centre.
func (s *Server) user(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return s.leadToLogin(w, r, err)
	}
	return s.userCentre(w, r, session, http.StatusOK, "")
}

// userCentre is its page, with what was wrong with a new password.
func (s *Server) userCentre(w http.ResponseWriter, r *http.Request, session account.Session, status int, wrong string) error {
	ties, err := s.Accounts.Identities(r.Context(), session.User.ID)
	if err != nil {
		return err
	}
	notices, err := s.notices(r, session)
	if err != nil {
		return err
	}
	return render(s, w, r, status, "user.html", userPage{
		Username: session.User.Name, Identities: ties, SignedInAt: session.CreatedAt,
		OwnPassword: !s.ForeignUsers, PasswordError: wrong, Notices: notices,
	})
}

// leadToLogin sends a page that needs a session to where there are some.
func (s *Server) leadToLogin(w http.ResponseWriter, r *http.Request, err error) error {
	if !errors.Is(err, account.ErrNoSession) || wantsJSON(r) {
		return err
	}
	http.Redirect(w, r, "/login?next="+r.URL.Path, http.StatusSeeOther)
	return nil
}

// unbind removes the tie to WeChat; whoever is signed in stays so.
func (s *Server) unbind(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	if _, err := s.Accounts.Unbind(r.Context(), session.User.ID); err != nil {
		return err
	}
	s.tellPhones()
	if wantsJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]any{"status": true})
	}
	http.Redirect(w, r, homePath, http.StatusSeeOther)
	return nil
}

// changePassword sets another password for who knows the current one, and ends the other
// sessions: whoever may have learned the old password has nothing left.
func (s *Server) changePassword(w http.ResponseWriter, r *http.Request) error {
	if s.ForeignUsers {
		return echo.ErrNotFound
	}
	var in struct {
		Current  string `json:"current"`
		Password string `json:"password"`
	}
	err := readBody(r, &in, func(form url.Values) error {
		in.Current, in.Password = form.Get("current"), form.Get("password")
		return nil
	})
	if err != nil {
		return err
	}
	token, ok := s.sessionToken(r)
	if !ok {
		return account.ErrNoSession
	}
	session, err := s.Accounts.Session(r.Context(), token)
	if err != nil {
		return err
	}
	// A session that was stolen is no second door for guesses.
	try, err := s.Limits.Password(r.Context(), session.User.Name, s.address(r), s.known(r))
	if err != nil {
		return err
	}
	rotated, ended, err := s.Accounts.ChangePassword(r.Context(), token, in.Current, in.Password)
	if !errors.Is(err, account.ErrCredentials) {
		try.Right(r.Context())
	}
	if err != nil {
		s.noteFailure(r, session.User.Name, err)
		return s.refusePassword(w, r, err)
	}
	s.tellPhones()
	s.Metrics.sessionEnded("password_changed", ended)
	s.setSession(w, rotated)
	if answersJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]any{"status": true, "revoked": ended})
	}
	http.Redirect(w, r, homePath+"#password-changed", http.StatusSeeOther)
	return nil
}

// refusePassword shows the page again where there is something to correct.
func (s *Server) refusePassword(w http.ResponseWriter, r *http.Request, err error) error {
	if errors.Is(err, account.ErrCredentials) {
		err = errCurrent
	}
	if answersJSON(r) || !errors.Is(err, errCurrent) && !errors.Is(err, account.ErrPassword) {
		return err
	}
	session, e := s.session(r)
	if e != nil {
		return e
	}
	a := answerTo(err)
	return s.userCentre(w, r, session, a.status, textsFor(r).Error(a.code))
}

// logout ends the session on every instance.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if t, ok := s.sessionToken(r); ok {
		if err := s.Accounts.SignOut(r.Context(), t); err != nil {
			return err
		}
		s.Metrics.sessionEnded("logout", 1)
	}
	s.dropSession(w)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// verify answers a proxy that asks whether to let a request through (nginx auth_request,
// forward-auth of Traefik and Caddy).
func (s *Server) verify(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if errors.Is(err, account.ErrNoSession) && r.URL.Query().Has("redirect") && isNavigation(r) {
		http.Redirect(w, r, s.origin()+"/login?next="+url.QueryEscape(askedFor(r)), http.StatusFound)
		return nil
	}
	if err != nil {
		return err
	}
	w.Header().Set("X-Auth-User", session.User.Name)
	w.Header().Set("X-Auth-User-Id", session.User.PublicID())
	w.WriteHeader(http.StatusOK)
	return nil
}

// isNavigation tells whether the request that a proxy asks about is a browser's for a page.
// A script gets its 401: it can't do anything with another page.
func isNavigation(r *http.Request) bool {
	method := r.Header.Get("X-Forwarded-Method")
	return wantsPage(r) && (method == "" || method == http.MethodGet || method == http.MethodHead)
}

// askedFor is the URL that a proxy asks about. It is only ever a next, which has to be allowed
// when it is followed.
func askedFor(r *http.Request) string {
	h := r.Header
	return h.Get("X-Forwarded-Proto") + "://" + h.Get("X-Forwarded-Host") + h.Get("X-Forwarded-Uri")
}
