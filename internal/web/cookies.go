package web

import (
	"net/http"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
)

// The prefixes make the browser itself insist on Secure, and __Host- on this very host.
func (s *Server) loginCookieName() string {
	if s.secure() {
		return "__Host-scanlogin_login"
	}
	return "scanlogin_login"
}

func (s *Server) sessionCookieName() string {
	switch {
	case s.secure() && s.CookieDomain != "":
		return "__Secure-scanlogin_session"
	case s.secure():
		return "__Host-scanlogin_session"
	}
	return "scanlogin_session"
}

// setCookie sets a cookie that no script can read; an empty value removes it.
func (s *Server) setCookie(w http.ResponseWriter, name, value, domain string, ttl time.Duration) {
	maxAge := int(ttl.Seconds())
	if value == "" {
		maxAge = -1
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Domain: domain, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.secure(), SameSite: http.SameSiteLaxMode,
	})
}

// loginKey is the key of the login that this browser began.
func (s *Server) loginKey(r *http.Request) (login.Key, bool) {
	c, err := r.Cookie(s.loginCookieName())
	if err != nil {
		return login.Key{}, false
	}
	key, ok := login.ParseKey(c.Value)
	if ok {
		noteLogin(r, key.Secret.ID())
	}
	return key, ok
}

func (s *Server) setLoginKey(w http.ResponseWriter, k login.Key) {
	s.setCookie(w, s.loginCookieName(), k.Cookie(), "", s.Logins.Longest())
}

func (s *Server) dropLoginKey(w http.ResponseWriter) {
	s.setCookie(w, s.loginCookieName(), "", "", 0)
}

// sessionToken is the token that this browser's session cookie holds.
func (s *Server) sessionToken(r *http.Request) (account.Token, bool) {
	c, err := r.Cookie(s.sessionCookieName())
	if err != nil {
		return account.Token{}, false
	}
	return account.ParseToken(c.Value)
}

func (s *Server) setSession(w http.ResponseWriter, t account.Token) {
	s.setCookie(w, s.sessionCookieName(), t.Cookie(), s.CookieDomain, s.Accounts.SessionTTL)
}

// newSession is a session for this browser, in the place of the one that it has, and the
// token for its cookie.
func (s *Server) newSession(r *http.Request) (account.Token, account.NewSession) {
	token := account.NewToken()
	n := account.NewSession{Hash: token.Hash(), Browser: userAgent(r), Place: s.place(r)}
	if had, ok := s.sessionToken(r); ok {
		n.Replaces = had.Hash()
	}
	return token, n
}

func (s *Server) dropSession(w http.ResponseWriter) {
	s.setCookie(w, s.sessionCookieName(), "", s.CookieDomain, 0)
}

func (s *Server) knownCookieName() string {
	if s.secure() {
		return "__Host-scanlogin_known"
	}
	return "scanlogin_known"
}

// knownFor is how long a browser may leave an account alone and be no stranger to it.
const knownFor = 180 * 24 * time.Hour

// known is what says that this browser has signed in to an account before; empty: nothing.
func (s *Server) known(r *http.Request) string {
	c, err := r.Cookie(s.knownCookieName())
	if err != nil {
		return ""
	}
	return c.Value
}

func (s *Server) setKnown(w http.ResponseWriter, name string) {
	if token := s.Limits.Remember(name); token != "" {
		s.setCookie(w, s.knownCookieName(), token, "", knownFor)
	}
}

// session is the session of this browser; account.ErrNoSession when it has none.
func (s *Server) session(r *http.Request) (account.Session, error) {
	t, ok := s.sessionToken(r)
	if !ok {
		return account.Session{}, account.ErrNoSession
	}
	return s.Accounts.Session(r.Context(), t)
}
