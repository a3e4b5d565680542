package wechatsim

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error codes of the platform.
const (
	codeBusy           = -1
	codeTokenInvalid   = 40001
	codeGrantType      = 40002
	codeOpenID         = 40003
	codeMessageType    = 40008
	codeAppID          = 40013
	codeTokenMalformed = 40014
	codeActionInfo     = 40053
	codeURL            = 40066
	codeAppSecret      = 40125
	codeAddress        = 40164
	codeTokenMissing   = 41001
	codeAppIDMissing   = 41002
	codeSecretMissing  = 41004
	codeTokenExpired   = 42001
	codeNeedsPost      = 43002
	codeEmptyContent   = 44004
	codeContentSize    = 45002
	codeDailyQuota     = 45009
	codeMinuteQuota    = 45011
	codeOutOfTime      = 45015
	codeOutOfCount     = 45047
	codeDataFormat     = 47001
	codeUnauthorized   = 48001
	codeBanned         = 48004
)

const (
	maxBody  = 64 << 10
	maxScene = math.MaxUint32
)

// apiError is an answer of the platform that says no.
type apiError int

func (e apiError) Error() string { return fmt.Sprintf("errcode %d: %s", int(e), e.text()) }

// text is errmsg without the rid. The wording is the platform's.
func (e apiError) text() string {
	switch int(e) {
	case codeBusy:
		return "system error"
	case codeTokenInvalid:
		return "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
	case codeGrantType:
		return "invalid grant_type"
	case codeOpenID:
		return "invalid openid"
	case codeMessageType:
		return "invalid message type"
	case codeAppID:
		return "invalid appid"
	case codeTokenMalformed:
		return "invalid access_token"
	case codeActionInfo:
		return "invalid action info"
	case codeURL:
		return "invalid url"
	case codeAppSecret:
		return "invalid appsecret"
	case codeTokenMissing:
		return "access_token missing"
	case codeAppIDMissing:
		return "appid missing"
	case codeSecretMissing:
		return "appsecret missing"
	case codeTokenExpired:
		return "access_token expired"
	case codeNeedsPost:
		return "require POST method"
	case codeDailyQuota:
		return "reach max api daily quota limit"
	case codeMinuteQuota:
		return "api minute-quota reach limit, must slower, retry next minute"
	case codeEmptyContent:
		return "empty content"
	case codeContentSize:
		return "content size out of limit"
	case codeOutOfTime:
		return "response out of time limit or subscription is canceled"
	case codeOutOfCount:
		return "out of response count limit"
	case codeDataFormat:
		return "data format error"
	case codeUnauthorized:
		return "api unauthorized"
	case codeBanned:
		return "api forbidden for irregularities"
	default:
		return "error"
	}
}

// message is errmsg as remote gets it: 40164 names the caller's address, all end in a rid.
func (e apiError) message(remote string) string {
	text := e.text()
	if int(e) == codeAddress {
		host, _, err := net.SplitHostPort(remote)
		if err != nil {
			host = remote
		}
		text = fmt.Sprintf("invalid ip %s ipv6 ::ffff:%s, not in whitelist", host, host)
	}
	var b [8]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s rid: %08x-%x-%x", text, time.Now().Unix(), b[:4], b[4:])
}

// endpoint makes a handler of call: with the faults, the counts, and status 200 whatever happens.
func (s *Server) endpoint(name string, call func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		code, latency := s.apiFault(name)
		if !s.sleep(r.Context(), latency) {
			return // the caller is gone
		}
		var answer any
		err := error(apiError(code))
		if code == 0 {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			answer, err = call(r)
		}
		s.countCall(name, err != nil)
		if err != nil {
			failure, ok := errors.AsType[apiError](err)
			if !ok {
				failure = codeDataFormat
			}
			answer = map[string]any{"errcode": int(failure), "errmsg": failure.message(r.RemoteAddr)}
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// authorized wraps a call that needs an access token.
func (s *Server) authorized(call func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if code := s.checkToken(r.URL.Query().Get("access_token")); code != 0 {
			return nil, apiError(code)
		}
		return call(r)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // only a caller that hung up makes this fail
}

type tokenRequest struct {
	GrantType    string `json:"grant_type"`
	AppID        string `json:"appid"`
	Secret       string `json:"secret"`
	ForceRefresh bool   `json:"force_refresh"`
}

func (s *Server) checkCredentials(q tokenRequest) error {
	switch {
	case q.GrantType != "client_credential":
		return apiError(codeGrantType)
	case q.AppID == "":
		return apiError(codeAppIDMissing)
	case q.AppID != s.cfg.AppID:
		return apiError(codeAppID)
	case q.Secret == "":
		return apiError(codeSecretMissing)
	case q.Secret != s.cfg.AppSecret:
		return apiError(codeAppSecret)
	}
	return nil
}

// apiStableToken is POST /cgi-bin/stable_token.
func (s *Server) apiStableToken(r *http.Request) (any, error) {
	var q tokenRequest
	if err := readJSON(r, &q); err != nil {
		return nil, err
	}
	if err := s.checkCredentials(q); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !q.ForceRefresh {
		return tokenAnswer(s.stable.stableToken(now, s.cfg.TokenTTL), now), nil
	}
	t, ok := s.stable.forceRefresh(now, s.cfg.TokenTTL)
	if !ok {
		return nil, apiError(codeDailyQuota)
	}
	return tokenAnswer(t, now), nil
}

// apiToken is /cgi-bin/token: a new token at every call.
func (s *Server) apiToken(r *http.Request) (any, error) {
	q := tokenRequest{GrantType: r.FormValue("grant_type"), AppID: r.FormValue("appid"), Secret: r.FormValue("secret")}
	if err := s.checkCredentials(q); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.ordinary.issue(now, s.cfg.TokenTTL)
	return tokenAnswer(s.ordinary.current, now), nil
}

func tokenAnswer(t accessToken, now time.Time) any {
	return map[string]any{"access_token": t.value, "expires_in": int(t.expires.Sub(now) / time.Second)}
}

type codeRequest struct {
	ExpireSeconds *int64 `json:"expire_seconds"`
	ActionName    string `json:"action_name"`
	ActionInfo    struct {
		Scene struct {
			ID  int64  `json:"scene_id"`
			Str string `json:"scene_str"`
		} `json:"scene"`
	} `json:"action_info"`
}

// apiCreateCode is POST /cgi-bin/qrcode/create for codes that expire. As on the
// real platform a request without the inner scene makes a code for scene 0, and a
// life that is too long is cut: expire_seconds in the answer tells.
func (s *Server) apiCreateCode(r *http.Request) (any, error) {
	var q codeRequest
	if err := readJSON(r, &q); err != nil {
		return nil, err
	}
	scene := q.ActionInfo.Scene
	switch {
	case q.ActionName == "QR_SCENE" && scene.ID >= 0 && scene.ID <= maxScene:
		scene.Str = ""
	case q.ActionName == "QR_STR_SCENE" && len(scene.Str) <= 64:
		scene.ID = 0
	default: // the permanent QR_LIMIT_ kinds too
		return nil, apiError(codeActionInfo)
	}
	code, ok := s.createCode(scene.ID, scene.Str, codeLife(q.ExpireSeconds), s.publicURL(r))
	if !ok {
		return nil, apiError(codeDailyQuota)
	}
	return map[string]any{
		"ticket":         code.Ticket,
		"expire_seconds": int(code.ExpiresAt.Sub(code.CreatedAt) / time.Second),
		"url":            code.URL,
	}, nil
}

func codeLife(seconds *int64) time.Duration {
	if seconds == nil || *seconds <= 0 {
		return defaultCodeLife
	}
	return time.Duration(min(*seconds, int64(maxCodeLife/time.Second))) * time.Second
}

// publicURL is the base of the urls in QR codes.
func (s *Server) publicURL(r *http.Request) string {
	switch {
	case s.cfg.PublicURL != "":
		return strings.TrimRight(s.cfg.PublicURL, "/")
	case r.TLS != nil:
		return "https://" + r.Host
	default:
		return "http://" + r.Host
	}
}

// apiCallbackIP is GET /cgi-bin/getcallbackip: the cheapest call that proves a token.
func (s *Server) apiCallbackIP(*http.Request) (any, error) {
	return map[string]any{"ip_list": []string{"127.0.0.1"}}, nil
}

func readJSON(r *http.Request, into any) error {
	if r.Method != http.MethodPost {
		return apiError(codeNeedsPost)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, into) != nil {
		return apiError(codeDataFormat)
	}
	return nil
}

// showCode is GET /cgi-bin/showqrcode?ticket=: the picture, which mp.weixin.qq.com serves.
func (s *Server) showCode(w http.ResponseWriter, r *http.Request) {
	code, err := s.codeByTicket(r.URL.Query().Get("ticket"))
	if err != nil || code.Expired(time.Now()) {
		http.NotFound(w, r)
		return
	}
	img, err := picture(code.URL)
	if err != nil {
		s.log.ErrorContext(r.Context(), "draw a QR code", "error", err)
		http.Error(w, "the QR code could not be drawn", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(img)))
	w.Header().Set("Cache-Control", "private, max-age=60")
	_, _ = w.Write(img) // only a caller that hung up makes this fail
}
