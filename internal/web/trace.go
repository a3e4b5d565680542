package web

import (
	"net/http"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"scanlogin/internal/login"
)

// trace makes a span of each request that is a step of a login. A trusted proxy says by
// traceparent (W3C Trace Context) which trace it belongs to; anybody else could fill ours.
func (s *Server) trace(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		switch c.Path() {
		case "/login", "/login/events", "/login/confirm", "/login/complete", "/user/bind", "/user/signup", "/wechat/callback":
		default:
			return next(c)
		}
		r := c.Request()
		ctx := r.Context()
		if s.trusts(r.RemoteAddr) {
			ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
		}
		ctx, span := s.Tracer.Start(ctx, r.Method+" "+c.Path(), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("http.request.method", r.Method), attribute.String("http.route", c.Path())))
		defer span.End()
		c.SetRequest(r.WithContext(ctx))
		err := next(c)
		span.SetAttributes(attribute.Int("http.response.status_code", c.Response().Status))
		if c.Response().Status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		if id, ok := c.Get("login").(login.ID); ok && id != (login.ID{}) {
			span.SetAttributes(attribute.String("scanlogin.login", id.Short()))
		}
		return err
	}
}
