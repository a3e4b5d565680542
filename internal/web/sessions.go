package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scanlogin/internal/account"
)

const sessionsPath = "/user/sessions"

// listedSession is one session as its owner sees it: nothing of it opens anything.
type listedSession struct {
	ID        string    `json:"id"`
	Browser   string    `json:"browser"` // empty: unknown, as what follows
	System    string    `json:"system"`
	Place     string    `json:"place"`
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at"`
	Current   bool      `json:"current"`
}

// sessions lists where this user is signed in.
func (s *Server) sessions(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return s.leadToLogin(w, r, err)
	}
	all, err := s.Accounts.Sessions(r.Context(), session)
	if err != nil {
		return err
	}
	list := make([]listedSession, len(all))
	for i, one := range all {
		list[i] = listed(one, session)
	}
	if wantsJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]any{"sessions": list})
	}
	return render(s, w, r, http.StatusOK, "sessions.html", sessionsPage{Sessions: list})
}

func listed(one, current account.Session) listedSession {
	browser, system := browserOf(one.Browser)
	return listedSession{
		ID: one.ID.String(), Browser: browser, System: system, Place: one.Place,
		CreatedAt: one.CreatedAt.UTC(), SeenAt: one.SeenAt.UTC(), Current: one.ID == current.ID,
	}
}

// revoke ends one session of this user, or all others, on every instance.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	id, others, err := readRevoke(r)
	if err != nil {
		return err
	}
	token, ok := s.sessionToken(r)
	if !ok {
		return account.ErrNoSession
	}
	revoked, own := 1, false
	if others {
		revoked, err = s.Accounts.RevokeOthers(r.Context(), token)
	} else {
		own, err = s.Accounts.Revoke(r.Context(), token, id)
	}
	if err != nil {
		return err
	}
	s.Metrics.sessionEnded("revoked", revoked)
	next := sessionsPath
	if own { // that was a logout
		s.dropSession(w)
		next = "/login"
	}
	if answersJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]any{"status": true, "revoked": revoked})
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// readRevoke reads which session is to end, or that all others are.
func readRevoke(r *http.Request) (id account.SessionID, others bool, err error) {
	var in struct {
		ID     string `json:"id"`
		Others bool   `json:"others"`
	}
	err = readBody(r, &in, func(form url.Values) (err error) {
		in.ID = form.Get("id")
		if text := form.Get("others"); text != "" {
			in.Others, err = strconv.ParseBool(text)
		}
		return err
	})
	if err != nil {
		return id, false, err
	}
	id, isID := account.ParseSessionID(in.ID)
	if isID == in.Others || in.Others && in.ID != "" {
		return id, false, fmt.Errorf("%w: either an id, or others=true", errMalformed)
	}
	return id, in.Others, nil
}
