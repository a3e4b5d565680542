package web

import (
	"errors"
	"net/http"

	"scanlogin/internal/login"
)

// confirm takes the code that the person was sent who has scanned this browser's code. Of
// another browser's login it says nothing: the key decides whose code it has to be.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request) error {
	in, err := readInput(r)
	if err != nil {
		return err
	}
	key, ok := s.loginKey(r)
	if !ok {
		return login.ErrNotAsked
	}
	if in.Code == "" {
		return errMalformed
	}
	left, err := s.Logins.ConfirmCode(r.Context(), key, in.Code)
	if errors.Is(err, login.ErrCode) {
		a := answerTo(err)
		text := textsFor(r).Error(a.code)
		return writeJSON(w, a.status, map[string]any{"status": false, "tries_left": left, "err": text, "error": a.code, "message": text})
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"status": true})
}
