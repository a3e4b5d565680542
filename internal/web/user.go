package web

import (
	"errors"
	"net/http"
	"strconv"

	"scanlogin/internal/account"
)

// user is the user centre.
func (s *Server) user(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if errors.Is(err, account.ErrNoSession) && !wantsJSON(r) {
		http.Redirect(w, r, "/login?next="+homePath, http.StatusSeeOther)
		return nil
	}
	if err != nil {
		return err
	}
	ties, err := s.Accounts.Identities(r.Context(), session.User.ID)
	if err != nil {
		return err
	}
	return render(s, w, r, http.StatusOK, "user.html", userPage{
		Username: session.User.Name, Identities: ties, SignedInAt: session.CreatedAt,
	})
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
	if wantsJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]any{"status": true})
	}
	http.Redirect(w, r, homePath, http.StatusSeeOther)
	return nil
}

// logout ends the session on every instance.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if t, ok := s.sessionToken(r); ok {
		if err := s.Accounts.SignOut(r.Context(), t); err != nil {
			return err
		}
	}
	s.dropSession(w)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// verify answers a proxy that asks whether to let a request through (nginx auth_request,
// forward-auth of Traefik and Caddy).
func (s *Server) verify(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	w.Header().Set("X-Auth-User", session.User.Name)
	w.Header().Set("X-Auth-User-Id", strconv.FormatInt(session.User.ID, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}
