package web

import (
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"scanlogin/internal/account"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
	"scanlogin/internal/wechat"
)

// What is wrong with a request itself.
var (
	errForeign   = errors.New("web: sent by a page of another origin")
	errMalformed = errors.New("web: malformed request")
	errTooLarge  = errors.New("web: request too large")
	errMediaType = errors.New("web: neither a form nor JSON")
	errCurrent   = errors.New("web: not the current password")
	errSignIn    = errors.New("web: sign-in refused") // as account.ErrCredentials, but nothing was scanned
)

// unstored is a push whose result could not be stored: WeChat shall try again.
type unstored struct{ error }

func (e unstored) Unwrap() error { return e.error }

// retryAfter is the seconds after which WeChat pushes again by itself.
const retryAfter = "5"

// answer is what the outside gets to see of an error.
type answer struct {
	err    error
	status int
	code   string // in JSON, and the key of the words for people
}

// answers is the one table of errors and statuses; the first match counts.
func answers() []answer {
	return []answer{
		{login.ErrNotReady, http.StatusConflict, "not_ready"},
		{login.ErrEnded, http.StatusGone, "expired"},
		{login.ErrNotAsked, http.StatusConflict, "nothing_to_confirm"},
		{login.ErrCode, http.StatusForbidden, "wrong_code"},
		{login.ErrTied, http.StatusConflict, "already_bound"},
		{errSignIn, http.StatusUnauthorized, "invalid_credentials"},
		{errCurrent, http.StatusForbidden, "wrong_password"},
		{account.ErrCredentials, http.StatusForbidden, "invalid_credentials"},
		{account.ErrNoUser, http.StatusForbidden, "account_gone"},
		{account.ErrUnanswered, http.StatusServiceUnavailable, "unavailable"},
		{account.ErrNameTaken, http.StatusConflict, "username_taken"},
		{account.ErrName, http.StatusBadRequest, "invalid_username"},
		{account.ErrPassword, http.StatusBadRequest, "invalid_password"},
		{account.ErrNotTheirs, http.StatusNotFound, "no_such_session"},
		{account.ErrNoSession, http.StatusUnauthorized, "unauthenticated"},
		{limit.ErrRefused, http.StatusTooManyRequests, "rate_limited"},
		{errForeign, http.StatusForbidden, "forbidden"},
		{errMalformed, http.StatusBadRequest, "bad_request"},
		{errMediaType, http.StatusUnsupportedMediaType, "bad_request"},
		{errTooLarge, http.StatusRequestEntityTooLarge, "too_large"},
		{errBusy, http.StatusServiceUnavailable, "busy"},
		{wechat.ErrMalformed, http.StatusBadRequest, "bad_request"},
		{wechat.ErrSignature, http.StatusForbidden, "bad_signature"},
		{wechat.ErrMode, http.StatusForbidden, "wrong_mode"},
		{wechat.ErrForeignAppID, http.StatusForbidden, "foreign_appid"},
		{wechat.ErrForeignAccount, http.StatusForbidden, "foreign_account"},
		{wechat.ErrStale, http.StatusForbidden, "stale"},
		{echo.ErrNotFound, http.StatusNotFound, "not_found"},
		{echo.ErrMethodNotAllowed, http.StatusMethodNotAllowed, "method_not_allowed"},
	}
}

// answerTo finds what to say of err. What the table doesn't know is our fault.
func answerTo(err error) answer {
	if _, ok := errors.AsType[unstored](err); ok {
		return answer{err, http.StatusServiceUnavailable, "unavailable"}
	}
	for _, a := range answers() {
		if errors.Is(err, a.err) {
			a.err = err
			return a
		}
	}
	return answer{err, http.StatusInternalServerError, "internal"}
}

// answerError is where every error of a handler ends: logged where it is ours, and told
// in the form that the client asked for.
func (s *Server) answerError(err error, c echo.Context) {
	r, w := c.Request(), c.Response()
	a := answerTo(err)
	if a.status >= http.StatusInternalServerError && !errors.Is(err, errBusy) { // those are too many
		s.Metrics.failed(r)
		s.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if w.Committed {
		return
	}
	if err := s.writeAnswer(w, r, a); err != nil {
		s.Logger.DebugContext(r.Context(), "answering", "path", r.URL.Path, "err", err)
	}
}

func (s *Server) writeAnswer(w http.ResponseWriter, r *http.Request, a answer) error {
	s.setRetryAfter(w, r, a)
	text := textsFor(r).Error(a.code)
	switch {
	case r.URL.Path == "/user/bind" || r.URL.Path == "/user/signup" || r.URL.Path == "/login/confirm":
		return writeJSON(w, a.status, map[string]any{"status": false, "err": text, "error": a.code, "message": text})
	case answersJSON(r) || r.URL.Path == "/login/complete":
		return writeJSON(w, a.status, map[string]any{"error": a.code, "message": text})
	case wantsPage(r):
		return render(s, w, r, a.status, "error.html", errorPage{Status: a.status, Message: text})
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(a.status)
	_, err := w.Write([]byte(a.code + "\n"))
	return err
}

func wantsJSON(r *http.Request) bool { return accepts(r, "application/json") }

// answersJSON is also for whoever sends JSON and doesn't say what to answer with.
func answersJSON(r *http.Request) bool {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return wantsJSON(r) || mediaType == "application/json" && !wantsPage(r)
}

func wantsPage(r *http.Request) bool { return accepts(r, "text/html") }

func accepts(r *http.Request, mediaType string) bool {
	return slices.ContainsFunc(strings.Split(r.Header.Get("Accept"), ","), func(part string) bool {
		name, _, _ := strings.Cut(part, ";")
		return strings.EqualFold(strings.TrimSpace(name), mediaType)
	})
}
