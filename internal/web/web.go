// Package web is scanlogin over HTTP: the pages, the event stream, WeChat's callback and
// forward-auth. It turns requests into calls of the domain and results into answers;
// what is true is decided below it.
package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/stream"
	"scanlogin/internal/wechat"
)

// Config is what the web side needs to know of the settings.
type Config struct {
	PublicURL      *url.URL       // the origin that browsers see
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	AllowedOrigins []string       // other origins that next may point to
	Signup         bool           // whoever scans for the first time may make an account
	CookieDomain   string         // shares the session with sibling hosts; empty: this host alone
}

// Server answers everything that comes in from outside.
type Server struct {
	Config
	Logins   *login.Service
	Accounts *account.Service
	Hub      *stream.Hub
	Callback *wechat.Callback
	Logger   *slog.Logger

	assets  assets
	pages   pages
	foreign *http.CrossOriginProtection
}

// site is the name of the site for people.
func (s *Server) site() string { return s.PublicURL.Hostname() }

func (s *Server) secure() bool { return s.PublicURL.Scheme == "https" }
