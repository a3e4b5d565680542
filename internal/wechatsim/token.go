package wechatsim

import (
	"crypto/rand"
	"encoding/base64"
	"time"
)

// Limits of force_refresh, and how many dead tokens are remembered by their cause.
const (
	forcedPerDay  = 20
	forcedSpacing = 30 * time.Second
	tokenHandover = 5 * time.Minute
	deadTokens    = 64
)

// tokens is one store of access tokens: the stable ones and the ordinary ones know
// nothing of each other. Its methods want the server's lock.
// Source: getStableAccessToken, "access_token 的存储与更新".
type tokens struct {
	current, previous accessToken
	dead              []deadToken // oldest first, at most deadTokens
	forcedAt          time.Time
	forcedDay         string
	forcedCount       int
}

type accessToken struct {
	value   string
	expires time.Time
}

type deadToken struct {
	value string
	code  int // what a call with it gets
}

// handover is how long before its end a token is renewed, and how long the old
// and the new one work side by side.
func handover(ttl time.Duration) time.Duration { return min(tokenHandover, ttl/2) }

// stableToken answers stable_token: the same token while it has at least the
// handover to live, then a new one beside it.
func (t *tokens) stableToken(now time.Time, ttl time.Duration) accessToken {
	if t.current.value == "" || t.current.expires.Sub(now) < handover(ttl) {
		t.issue(now, ttl)
	}
	return t.current
}

// forceRefresh answers stable_token with force_refresh: a new token, and the old
// one is dead. Within 30 s of the last time nothing is refreshed. It reports false
// when the day's 20 are spent.
func (t *tokens) forceRefresh(now time.Time, ttl time.Duration) (accessToken, bool) {
	if !t.forcedAt.IsZero() && now.Sub(t.forcedAt) < forcedSpacing {
		return t.stableToken(now, ttl), true
	}
	if day := shanghai(now); t.forcedDay != day {
		t.forcedDay, t.forcedCount = day, 0
	}
	if t.forcedCount >= forcedPerDay {
		return accessToken{}, false
	}
	t.forcedCount++
	t.forcedAt = now
	t.revoke()
	t.issue(now, ttl)
	return t.current, true
}

// issue makes a new token; the one before lives on for the handover at most.
func (t *tokens) issue(now time.Time, ttl time.Duration) {
	t.bury(t.previous, codeTokenExpired)
	t.previous = t.current
	if end := now.Add(handover(ttl)); t.previous.expires.After(end) {
		t.previous.expires = end
	}
	t.current = accessToken{value: newTokenValue(), expires: now.Add(ttl)}
}

func (t *tokens) expire(now time.Time) {
	t.current.expires, t.previous.expires = now, now
}

func (t *tokens) revoke() {
	t.bury(t.previous, codeTokenInvalid)
	t.bury(t.current, codeTokenInvalid)
	t.current, t.previous = accessToken{}, accessToken{}
}

func (t *tokens) bury(a accessToken, code int) {
	if a.value == "" {
		return
	}
	if len(t.dead) == deadTokens {
		t.dead = t.dead[1:]
	}
	t.dead = append(t.dead, deadToken{a.value, code})
}

// check returns 0 for a token that works, the error code of one that no longer
// does, and false for one that this store never gave out.
func (t *tokens) check(value string, now time.Time) (code int, known bool) {
	for _, a := range []accessToken{t.current, t.previous} {
		switch {
		case a.value != value:
		case now.Before(a.expires):
			return 0, true
		default:
			return codeTokenExpired, true
		}
	}
	for _, d := range t.dead {
		if d.value == value {
			return d.code, true
		}
	}
	return 0, false
}

// newTokenValue is over 512 characters long: callers have to make room for that.
func newTokenValue() string {
	b := make([]byte, 390)
	rand.Read(b)
	return "94_" + base64.RawURLEncoding.EncodeToString(b)
}

// checkToken returns the error code that a call with this access token gets, 0 for none.
func (s *Server) checkToken(value string) int {
	if value == "" {
		return codeTokenMissing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, store := range []*tokens{&s.stable, &s.ordinary} {
		if code, known := store.check(value, now); known {
			return code
		}
	}
	if len(value) < 512 {
		return codeTokenMalformed
	}
	return codeTokenInvalid
}
