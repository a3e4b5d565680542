package web

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"go.opentelemetry.io/otel/trace"

	"scanlogin/internal/audit"
	"scanlogin/internal/login"
	"scanlogin/static"
)

// Handler routes every request, in the order in which a login meets the routes.
func (s *Server) Handler() (http.Handler, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	e := echo.New()
	e.HTTPErrorHandler = s.answerError
	e.IPExtractor = s.extractIP
	if s.Tracer != nil {
		e.Use(s.trace)
	}
	e.Use(s.logRequests, s.recover(), s.guard)

	get(e, "/", s.home)
	get(e, "/static/*", s.assets.serve)
	get(e, "/favicon.ico", s.assets.favicon)
	get(e, "/embed.js", s.embed)
	get(e, "/login", s.loginPage)
	e.GET("/login/events", named(s.events))

	get(e, "/wechat/callback", s.verifyCallback)
	e.POST("/wechat/callback", plain(s.callback)) // bounds itself

	s.postEmbedded(e, "/login/confirm", s.confirm)
	s.postEmbedded(e, "/login/complete", s.complete)
	s.postEmbedded(e, "/user/bind", s.bind)
	s.postEmbedded(e, "/user/signup", s.signup)
	s.post(e, "/login", s.passwordLogin)

	get(e, "/user", s.user)
	s.post(e, "/user/unbind", s.unbind)
	s.post(e, "/user/password", s.changePassword)
	s.post(e, "/user/notices", s.seen)
	get(e, "/user/sessions", s.sessions)
	s.post(e, "/user/sessions/revoke", s.revoke)
	s.post(e, "/logout", s.logout)
	get(e, "/auth/verify", s.verify)
	return e, nil
}

func (s *Server) prepare() (err error) {
	for _, g := range []*gate{&s.callbacks, &s.checks, &s.begins, &s.resumes} {
		g.build(atWork, waiting)
	}
	if s.Metrics == nil {
		s.Metrics = NewMetrics()
	}
	s.extractIP = s.ipExtractor()
	if s.assets, err = hashAssets(static.Files); err != nil {
		return fmt.Errorf("reading the static files: %w", err)
	}
	if s.pages, err = parsePages(static.Files, s.assets); err != nil {
		return fmt.Errorf("reading the templates: %w", err)
	}
	if s.embedded, err = s.buildEmbeds(static.Files); err != nil {
		return fmt.Errorf("building /embed.js: %w", err)
	}
	s.headers = s.secureHeaders()
	s.foreign = http.NewCrossOriginProtection()
	if err := s.foreign.AddTrustedOrigin(s.origin()); err != nil {
		return fmt.Errorf("trusting our own origin: %w", err)
	}
	return nil
}

func (s *Server) origin() string { return s.PublicURL.Scheme + "://" + s.PublicURL.Host }

// handler is how every handler here looks: net/http, and an error for the table in errors.go.
type handler func(w http.ResponseWriter, r *http.Request) error

// plain is the one place where a handler meets echo.
func plain(h handler) echo.HandlerFunc {
	return func(c echo.Context) error { return h(c.Response(), c.Request()) }
}

// named is h for what is about one login, whose ID goes into the line of the request: where
// the handler finds it, it says so by noteLogin.
func named(h handler) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := new(login.ID)
		r := c.Request()
		err := h(c.Response(), r.WithContext(context.WithValue(r.Context(), loginID{}, id)))
		c.Set("login", *id)
		return err
	}
}

type loginID struct{}

func noteLogin(r *http.Request, id login.ID) {
	if at, ok := r.Context().Value(loginID{}).(*login.ID); ok {
		*at = id
	}
}

// requestDeadline bounds what a request waits for: a database that doesn't answer must
// not collect requests.
const requestDeadline = 10 * time.Second

// bounded is h with a deadline: every handler but the stream, whose request may last, and
// the callback, which has a shorter one.
func bounded(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), requestDeadline)
		defer cancel()
		return h(w, r.WithContext(ctx))
	}
}

// get also answers HEAD, as people's monitors ask.
func get(e *echo.Echo, path string, h handler) {
	e.Match([]string{http.MethodGet, http.MethodHead}, path, plain(bounded(h)))
}

func (s *Server) post(e *echo.Echo, path string, h handler) { e.POST(path, plain(s.changing(h))) }

// changing is h for what changes something, bounded, and known where it comes from.
func (s *Server) changing(h handler) handler {
	return bounded(func(w http.ResponseWriter, r *http.Request) error {
		return h(w, r.WithContext(s.traced(r.Context(), r)))
	})
}

// traced is a context for what the request changes, which the audit log is to trace back.
func (s *Server) traced(ctx context.Context, r *http.Request) context.Context {
	return audit.With(ctx, audit.Where{Addr: s.address(r), Browser: userAgent(r), Place: s.place(r)})
}

// postEmbedded is for the steps of a login, which <scan-login> sends, too: see reachable.
func (s *Server) postEmbedded(e *echo.Echo, path string, h handler) {
	e.POST(path, named(s.changing(h)))
	e.OPTIONS(path, plain(s.preflight))
}

// ipExtractor believes the X-Forwarded-For of the configured proxies alone: by itself
// echo believes anybody's.
func (s *Server) ipExtractor() echo.IPExtractor {
	if len(s.TrustedProxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range s.TrustedProxies {
		trust = append(trust, echo.TrustIPRange(&net.IPNet{
			IP:   p.Addr().AsSlice(),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		}))
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

// logRequests writes one line a request: its path, never its query, and the code of what
// was wrong with it.
func (s *Server) logRequests(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		err := next(c)
		if err != nil {
			c.Error(err)
		}
		r := c.Request()
		line := []slog.Attr{
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", c.Response().Status),
			slog.Float64("took_ms", float64(time.Since(start).Microseconds())/1000), slog.String("ip", c.RealIP()),
		}
		if err != nil {
			line = append(line, slog.String("error", answerTo(err).code))
		}
		if id, ok := c.Get("login").(login.ID); ok && id != (login.ID{}) {
			line = append(line, slog.String("login", id.Short()))
		}
		if span := trace.SpanContextFromContext(r.Context()); span.IsSampled() {
			line = append(line, slog.String("trace_id", span.TraceID().String()))
		}
		s.Logger.LogAttrs(r.Context(), slog.LevelInfo, "request", line...)
		return nil
	}
}

// recover turns a panic into an answer and a line with its stack.
func (s *Server) recover() echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			s.Logger.ErrorContext(c.Request().Context(), "panic", "err", err, "stack", string(stack))
			return err
		},
	})
}

// guard sets what every answer has and refuses what a page of another origin sends, but for
// what it may embed.
func (s *Server) guard(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		maps.Copy(c.Response().Header(), s.headers)
		r := c.Request()
		s.shareWith(c.Response(), r)
		if s.foreign.Check(r) != nil && !s.embeds(r) {
			return errForeign
		}
		r.Body = http.MaxBytesReader(c.Response(), r.Body, maxBody)
		return next(c)
	}
}
