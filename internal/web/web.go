// Package web is scanlogin over HTTP: the pages, the event stream, WeChat's callback and
// forward-auth. It turns requests into calls of the domain and results into answers;
// what is true is decided below it.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/trace"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
	"scanlogin/internal/stream"
	"scanlogin/internal/wechat"
)

// Config is what the web side needs to know of the settings.
type Config struct {
	PublicURL      *url.URL       // the origin that browsers see
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	PlaceHeader    string         // in which they say roughly where a browser is; empty: nobody does
	AllowedOrigins []string       // other origins that next may point to, and whose pages may embed a login
	Signup         bool           // whoever scans for the first time may make an account
	ForeignUsers   bool           // are the team's own: none is made here, nor is a password changed
	KeepTies       bool           // of who unfollows the Official Account; their sessions end in any case
	CookieDomain   string         // shares the session with sibling hosts; empty: this host alone
}

// Pushes keeps the replies to WeChat's pushes for their repeats, over all instances.
type Pushes interface {
	Reply(ctx context.Context, push []byte) (reply string, ok bool, err error)
	Save(ctx context.Context, push []byte, reply string) error
}

// Server answers everything that comes in from outside.
type Server struct {
	Config
	Logins     *login.Service
	Accounts   *account.Service
	Hub        *stream.Hub
	Callback   *wechat.Callback
	Pushes     Pushes
	Learn      func(ctx context.Context, originalID string) error // of a genuine push; nil: nothing to learn
	Forward    *wechat.Forwarder                                  // gets the pushes that aren't ours; nil: nobody
	Replies    Replies                                            // the words for the phone
	TellPhones func()                                             // phones of what has happened to an account, soon; nil: nobody does
	Limits     *limit.Limiter                                     // nil: everybody may do everything
	Audit      *audit.Recorder                                    // hears what was refused; nil: nobody does
	Metrics    *Metrics                                           // nil: nobody asks for them
	Tracer     trace.Tracer                                       // nil: no traces
	Logger     *slog.Logger

	assets   assets
	pages    pages
	embedded embeds
	headers  http.Header // of every answer; its values are shared
	foreign  *http.CrossOriginProtection

	pictures pictures
	heard    atomic.Int64 // when WeChat's last genuine push came, in ms since 1970

	extractIP echo.IPExtractor
	proxyHint sync.Once

	// One for each kind: a flood of one doesn't hold up the others, nor does WeChat, which
	// a login waits for that has no code ready.
	callbacks, checks, begins, resumes gate
}

// site is the name of the site for people.
func (s *Server) site() string { return s.PublicURL.Hostname() }

func (s *Server) secure() bool { return s.PublicURL.Scheme == "https" }
