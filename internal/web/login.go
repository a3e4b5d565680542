package web

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"scanlogin/internal/account"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
)

// home leads to where this browser belongs.
func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	_, err := s.session(r)
	switch {
	case err == nil:
		http.Redirect(w, r, homePath, http.StatusSeeOther)
	case errors.Is(err, account.ErrNoSession):
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	default:
		return err
	}
	return nil
}

// loginPage is the page with the code and the password form. It costs no scene: its
// script asks for one.
func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) error {
	next := r.URL.Query().Get("next")
	if !s.allowedNext(next) {
		next = ""
	}
	return render(s, w, r, http.StatusOK, "login.html", loginPage{Next: next, Signup: s.Signup})
}

// passwordLogin is the way in without WeChat.
func (s *Server) passwordLogin(w http.ResponseWriter, r *http.Request) error {
	in, err := readInput(r)
	if err != nil {
		return err
	}
	user, err := s.checkPassword(w, r, in)
	switch {
	case errors.Is(err, account.ErrCredentials):
		return s.refuseLogin(w, r, in, errSignIn)
	case errors.Is(err, limit.ErrRefused):
		return s.refuseLogin(w, r, in, err)
	case err != nil:
		return err
	}
	token, session := s.newSession(r)
	err = s.Accounts.SignIn(r.Context(), user, session)
	if errors.Is(err, account.ErrCredentials) { // changed while it was checked
		return s.refuseLogin(w, r, in, errSignIn)
	}
	if err != nil {
		return err
	}
	s.Metrics.Login("password")
	s.setSession(w, token)
	http.Redirect(w, r, s.next(in.Next), http.StatusSeeOther)
	return nil
}

// refuseLogin shows the page again, with what was typed but the password.
func (s *Server) refuseLogin(w http.ResponseWriter, r *http.Request, in input, why error) error {
	if errors.Is(why, errSignIn) {
		s.Metrics.Login("refused")
	}
	if wantsJSON(r) {
		return why
	}
	a := answerTo(why)
	s.setRetryAfter(w, r, a)
	page := loginPage{
		Username: in.Username, Signup: s.Signup,
		Error: textsFor(r).Error(a.code), Mistyped: errors.Is(why, errSignIn),
	}
	if s.allowedNext(in.Next) {
		page.Next = in.Next
	}
	return render(s, w, r, a.status, "login.html", page)
}

// complete turns this browser's login into its session, once.
func (s *Server) complete(w http.ResponseWriter, r *http.Request) error {
	in, err := readInput(r)
	if err != nil {
		return err
	}
	token, session := s.newSession(r)
	err = s.completeLogin(r, session)
	switch {
	case err == nil:
		s.Metrics.Login("completed")
		s.setSession(w, token)
		s.dropLoginKey(w)
	case errors.Is(err, account.ErrNoUser):
		s.dropLoginKey(w) // the next code is for somebody else
		return err
	case errors.Is(err, login.ErrEnded):
		// Another tab of this browser may have been faster.
		if _, e := s.session(r); e != nil {
			return errors.Join(err, notMissing(e))
		}
	default:
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"redirect": s.next(in.Next)})
}

func (s *Server) completeLogin(r *http.Request, session account.NewSession) error {
	key, ok := s.loginKey(r)
	if ok {
		return s.Logins.Complete(r.Context(), key, login.Session(session))
	}
	if _, signedIn := s.sessionToken(r); signedIn {
		return login.ErrEnded // another tab has taken the key away
	}
	return login.ErrNotReady
}

// notMissing is err unless it only says that there is no session.
func notMissing(err error) error {
	if errors.Is(err, account.ErrNoSession) {
		return nil
	}
	return err
}

// bind ties the WeChat user who scanned this browser's code to an account. Whose openid
// that is, the row knows; the request is not asked.
func (s *Server) bind(w http.ResponseWriter, r *http.Request) error {
	return s.bindTo(w, r, "bound", s.checkPassword)
}

// signup is bind to a new account. One that is made while the scan runs out stays: its
// owner has just chosen the password, and can sign in with it.
func (s *Server) signup(w http.ResponseWriter, r *http.Request) error {
	if !s.Signup {
		return echo.ErrNotFound
	}
	return s.bindTo(w, r, "signed_up", s.createAccount)
}

type findUser func(w http.ResponseWriter, r *http.Request, in input) (account.User, error)

func (s *Server) bindTo(w http.ResponseWriter, r *http.Request, outcome string, find findUser) error {
	in, err := readInput(r)
	if err != nil {
		return err
	}
	key, ok := s.loginKey(r)
	if !ok {
		return login.ErrNotReady
	}
	// Before the password: whoever has scanned nothing can't try passwords here.
	if err := s.Logins.AwaitsBind(r.Context(), key); err != nil {
		return err
	}
	user, err := find(w, r, in)
	if err != nil {
		if errors.Is(err, account.ErrCredentials) {
			s.Metrics.Login("refused")
		}
		return err
	}
	token, session := s.newSession(r)
	owner := login.Owner{ID: user.ID, PasswordChanges: user.PasswordChanges}
	if err := s.Logins.Bind(r.Context(), key, owner, login.Session(session)); err != nil {
		return err
	}
	s.tellPhones()
	s.Metrics.Login(outcome)
	s.setSession(w, token)
	s.dropLoginKey(w)
	return writeJSON(w, http.StatusOK, map[string]any{"status": true, "redirect": s.next(in.Next)})
}
