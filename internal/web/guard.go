package web

import (
	"net/http"
	"net/url"
	"strings"
)

// maxBody bounds what a request may bring: WeChat's pushes are the largest, and more
// than 64 KiB is refused there.
const maxBody = 64 << 10

// secureHeaders tell the browser to trust as little as the pages need.
func (s *Server) secureHeaders() http.Header {
	h := make(http.Header)
	// A form's redirect counts as its action: next may lead to an allowed origin.
	actions := strings.Join(append([]string{"'self'"}, s.AllowedOrigins...), " ")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; "+
		"img-src 'self' data:; connect-src 'self'; form-action "+actions+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin") // nothing here is part of another site's page
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
	if s.secure() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	return h
}

// isForeign tells whether a page of another origin sent the request that may not embed it,
// whatever its method: the event stream is a GET that begins a login.
func (s *Server) isForeign(r *http.Request) bool {
	unsafe := *r
	unsafe.Method = http.MethodPost
	return s.foreign.Check(&unsafe) != nil && !s.embeds(r)
}

// homePath is where a login leads when nobody asked for another place.
const homePath = "/user"

// next is the place to go to after a login: raw where it is a local path or lies in an
// allowed origin, else homePath.
func (s *Server) next(raw string) string {
	if s.allowedNext(raw) {
		return raw
	}
	return homePath
}

func (s *Server) allowedNext(raw string) bool {
	// What browsers read differently from url.Parse: a backslash is a slash to them, and
	// control characters vanish.
	if raw == "" || len(raw) > 2048 || strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '\\' }) {
		return false
	}
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Opaque != "" {
		return false
	}
	if u.Scheme == "" && u.Host == "" {
		return strings.HasPrefix(raw, "/") && !strings.HasPrefix(raw, "//")
	}
	origin := strings.ToLower(u.Scheme + "://" + u.Host)
	return origin == s.origin() || s.allows(origin)
}
