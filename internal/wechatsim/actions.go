package wechatsim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxUsers    = 10_000 // that the page may add
	shownCodes  = 50     // in state and on the page
	shownUsers  = 200
	maxName     = 32 // characters
	maxText     = 600
	recentlyEnd = 2 * time.Minute // how long the page shows an expired code
)

// requestError is a request that makes no sense; its text goes to the caller.
type requestError string

func (e requestError) Error() string { return string(e) }

var errCallback = errors.New("the callback was not verified")

// statusOf is the HTTP status for an action's error.
func statusOf(err error) int {
	if _, ok := errors.AsType[requestError](err); ok {
		return http.StatusBadRequest
	}
	switch {
	case errors.Is(err, ErrUnknownUser), errors.Is(err, ErrUnknownCode):
		return http.StatusNotFound
	case errors.Is(err, ErrFollower), errors.Is(err, ErrNotFollower):
		return http.StatusConflict
	case errors.Is(err, ErrCodeExpired):
		return http.StatusGone
	case errors.Is(err, ErrNoCallback), errors.Is(err, ErrClosed):
		return http.StatusServiceUnavailable
	case errors.Is(err, errCallback):
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}

// action makes a handler of do: it reads a form or JSON, and answers JSON, or
// leads a browser's plain form back to the page.
func (s *Server) action(do func(*http.Request, params) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		p, err := readParams(r)
		var answer any
		if err == nil {
			answer, err = do(r, p)
		}
		switch {
		case r.Context().Err() != nil:
			return // nobody waits for the answer
		case err != nil:
			writeJSON(w, statusOf(err), map[string]string{"error": err.Error()})
		case strings.Contains(r.Header.Get("Accept"), "text/html"):
			back := url.Values{"user": {p["openid"]}, "code": {p["code"]}}
			http.Redirect(w, r, "/?"+back.Encode(), http.StatusSeeOther)
		default:
			writeJSON(w, http.StatusOK, answer)
		}
	})
}

// params are the fields of a form, or of a flat JSON object.
type params map[string]string

func readParams(r *http.Request) (params, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // what can't be read is no JSON
	if kind == "application/json" {
		return jsonParams(r)
	}
	if err := r.ParseForm(); err != nil {
		return nil, requestError("the form can't be read")
	}
	p := params{}
	for key := range r.Form {
		p[key] = strings.TrimSpace(r.Form.Get(key))
	}
	return p, nil
}

func jsonParams(r *http.Request) (params, error) {
	var fields map[string]any
	dec := json.NewDecoder(r.Body)
	dec.UseNumber()
	if err := dec.Decode(&fields); err != nil {
		return nil, requestError("the body is not a JSON object")
	}
	p := params{}
	for key, v := range fields {
		switch v := v.(type) {
		case string:
			p[key] = strings.TrimSpace(v)
		case json.Number, bool:
			p[key] = fmt.Sprint(v)
		default:
			return nil, requestError(key + " has to be a string, a number or a boolean")
		}
	}
	return p, nil
}

// flag reads a boolean: true, 1, on.
func (p params) flag(key string) bool {
	on, err := strconv.ParseBool(p[key])
	return p[key] == "on" || (err == nil && on)
}

// count reads a number, -1 or more, into n; an absent field leaves it.
func (p params) count(key string, n *int) error {
	if p[key] == "" {
		return nil
	}
	v, err := strconv.Atoi(p[key])
	if err != nil || v < Always {
		return requestError(key + " has to be a number, -1 or more")
	}
	*n = v
	return nil
}

// user finds the user that a request names by openid or by user, the name.
func (s *Server) user(p params) (User, error) {
	switch {
	case p["openid"] != "":
		return s.userByOpenID(p["openid"])
	case p["user"] != "":
		u, err := s.userByName(p["user"])
		if err != nil {
			return User{}, fmt.Errorf("%w called %q; POST /sim/users with name=%[2]s adds one", err, p["user"])
		}
		p["openid"] = u.OpenID
		return u, nil
	}
	return User{}, requestError("user (a name) or openid is missing")
}

// code finds the code that a request names by ticket, by url, or by latest.
func (s *Server) code(p params) (Code, error) {
	switch {
	case p["ticket"] != "":
		return s.codeByTicket(p["ticket"])
	case p["url"] != "":
		return s.codeByURL(p["url"])
	case p["code"] != "": // what follows /q/, as the page says it
		return s.codeByURL(p["code"])
	case p.flag("latest"):
		return s.latestCode()
	}
	return Code{}, requestError("ticket, url or latest=true is missing")
}

func (s *Server) latestCode() (Code, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.codes.newest(1, open(time.Now()))
	if len(found) == 0 {
		return Code{}, fmt.Errorf("%w is open", ErrUnknownCode)
	}
	return found[0], nil
}

// simAddUser is POST /sim/users: name, follower.
func (s *Server) simAddUser(_ *http.Request, p params) (any, error) {
	name := p["name"]
	switch {
	case name == "":
		return nil, requestError("name is missing")
	case utf8.RuneCountInString(name) > maxName:
		return nil, requestError(fmt.Sprintf("name is longer than %d characters", maxName))
	}
	if _, err := s.userByName(name); err != nil && len(s.Users()) >= maxUsers {
		return nil, requestError("there are too many users already")
	}
	u := s.AddUser(name, p.flag("follower"))
	p["openid"] = u.OpenID
	return u, nil
}

type actionAnswer struct {
	User   string `json:"user"`
	OpenID string `json:"openid"`
	Delivery
}

// simScan is POST /sim/scan: user or openid; ticket, url or latest.
func (s *Server) simScan(r *http.Request, p params) (any, error) {
	u, err := s.user(p)
	if err != nil {
		return nil, err
	}
	code, err := s.code(p)
	if err != nil {
		return nil, err
	}
	d, err := s.Scan(r.Context(), u.OpenID, code.Ticket)
	return actionAnswer{u.Name, u.OpenID, d}, err
}

// simFollow is POST /sim/follow: user or openid.
func (s *Server) simFollow(r *http.Request, p params) (any, error) {
	u, err := s.user(p)
	if err != nil {
		return nil, err
	}
	d, err := s.Follow(r.Context(), u.OpenID)
	return actionAnswer{u.Name, u.OpenID, d}, err
}

// simUnsubscribe is POST /sim/unsubscribe: user or openid.
func (s *Server) simUnsubscribe(r *http.Request, p params) (any, error) {
	u, err := s.user(p)
	if err != nil {
		return nil, err
	}
	d, err := s.Unsubscribe(r.Context(), u.OpenID)
	return actionAnswer{u.Name, u.OpenID, d}, err
}

// simSay is POST /sim/say: user or openid; text.
func (s *Server) simSay(r *http.Request, p params) (any, error) {
	u, err := s.user(p)
	switch {
	case err != nil:
		return nil, err
	case p["text"] == "":
		return nil, requestError("text is missing")
	case utf8.RuneCountInString(p["text"]) > maxText:
		return nil, requestError(fmt.Sprintf("text is longer than %d characters", maxText))
	}
	d, err := s.Say(r.Context(), u.OpenID, p["text"])
	return actionAnswer{u.Name, u.OpenID, d}, err
}

// simVerify is POST /sim/verify: the console's check of the callback URLs.
func (s *Server) simVerify(r *http.Request, _ params) (any, error) {
	switch err := s.VerifyCallbacks(r.Context()); {
	case errors.Is(err, ErrNoCallback):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errCallback, err)
	}
	return map[string]any{"verified": s.account().Callbacks}, nil
}

// simFaults is POST /sim/faults. Fields that are absent stay as they are:
// clear; drop_tries, lose_replies, duplicates, lost_scenes (counts); api_latency,
// api_jitter and push_delay (durations); code with endpoint (default all) and calls (default 1, -1 for
// ever, 0 takes it back); tokens=expire or revoke.
func (s *Server) simFaults(_ *http.Request, p params) (any, error) {
	if what := p["tokens"]; what != "" && what != "expire" && what != "revoke" {
		return nil, requestError("tokens has to be expire or revoke")
	}
	f, err := s.editFaults(p.faults)
	if err != nil {
		return nil, requestError(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	switch p["tokens"] {
	case "expire":
		s.ExpireTokens()
	case "revoke":
		s.RevokeTokens()
	}
	return f, nil
}

// faults writes the request's fields into f.
func (p params) faults(f *Faults) error {
	if p.flag("clear") {
		*f = Faults{}
	}
	return errors.Join(
		p.count("drop_tries", &f.DropTries),
		p.count("lose_replies", &f.LoseReplies),
		p.count("duplicates", &f.Duplicates),
		p.count("lost_scenes", &f.LostScenes),
		p.latency("api_latency", &f.APILatency),
		p.latency("api_jitter", &f.APIJitter),
		p.latency("push_delay", &f.PushDelay),
		p.apiFault(f),
	)
}

func (p params) latency(name string, d *time.Duration) error {
	if p[name] == "" {
		return nil
	}
	v, err := time.ParseDuration(p[name])
	if err != nil || v < 0 || v > time.Minute {
		return requestError(name + " has to be a duration up to 1m, like 300ms")
	}
	*d = v
	return nil
}

func (p params) apiFault(f *Faults) error {
	if p["code"] == "" {
		return nil
	}
	var fault APIFault
	fault.Calls = 1
	if err := errors.Join(p.count("code", &fault.Code), p.count("calls", &fault.Calls)); err != nil {
		return err
	}
	endpoint := cmp.Or(p["endpoint"], AnyEndpoint)
	switch endpoint {
	case AnyEndpoint, EndpointStableToken, EndpointToken, EndpointQRCode, EndpointCallbackIP, EndpointSend:
	default:
		return requestError("endpoint has to be one of * stable_token token qrcode/create getcallbackip message/custom/send")
	}
	if f.API == nil {
		f.API = map[string]APIFault{}
	}
	if fault.Calls == 0 || fault.Code == 0 {
		delete(f.API, endpoint)
	} else {
		f.API[endpoint] = fault
	}
	return nil
}
