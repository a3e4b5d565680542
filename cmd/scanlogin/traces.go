package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"scanlogin/internal/login"
	"scanlogin/internal/wechat"
)

// flushDeadline bounds how long the last spans may take at the end.
const flushDeadline = time.Second

// traces makes spans of what is told to it once it is over. Nil: nobody wants any.
type traces struct {
	provider *sdktrace.TracerProvider
	trace.Tracer
}

// newTraces is nil unless OpenTelemetry's variables ask for traces: by an OTLP endpoint, or
// by OTEL_TRACES_EXPORTER=otlp. The exporter, the sampler and the batches read theirs
// themselves.
//
// Source: opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func newTraces(ctx context.Context, lookup func(string) (string, bool), logger *slog.Logger) (*traces, error) {
	on, err := tracesWanted(lookup)
	if err != nil || !on {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("making the exporter of traces: %w", err)
	}
	what, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(attribute.String("service.name", "scanlogin"), attribute.String("service.version", version())),
		resource.WithFromEnv()) // last: what it says counts
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("traces are lost", "err", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(what))
	return &traces{provider, provider.Tracer("scanlogin")}, nil
}

// tracesWanted refuses what would be dropped without a word.
func tracesWanted(lookup func(string) (string, bool)) (bool, error) {
	get := func(names ...string) string {
		for _, name := range names {
			if value, _ := lookup(name); value != "" {
				return value
			}
		}
		return ""
	}
	exporter := get("OTEL_TRACES_EXPORTER")
	protocol := get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch {
	case strings.EqualFold(get("OTEL_SDK_DISABLED"), "true"), exporter == "none":
		return false, nil
	case exporter == "" && get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is neither otlp nor none", exporter)
	case protocol != "" && protocol != "http/protobuf":
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not spoken here, only http/protobuf (port 4318 of most collectors)", protocol)
	}
	return true, nil
}

// stop sends what is left.
func (t *traces) stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushDeadline)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the error handler has heard of it
}

// tracer is for who makes spans by themselves; nil: nobody shall.
func (t *traces) tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.Tracer
}

// step makes the span of a step, and says in that of the request which login it is about.
func (t *traces) step(ctx context.Context, s login.Step) {
	if t == nil {
		return
	}
	which := loginAttribute(s.Login)
	trace.SpanFromContext(ctx).SetAttributes(which...)
	if s.Outcome != "" {
		which = append(which, attribute.String("scanlogin.outcome", s.Outcome))
	}
	t.span(ctx, "login "+s.Name, s.Began, s.Err, which...)
}

// called makes the span of a call of WeChat's API.
func (t *traces) called(ctx context.Context, c wechat.Call) {
	if t == nil {
		return
	}
	t.span(ctx, "wechat "+path.Base(c.Endpoint), c.Began, c.Err, attribute.String("scanlogin.errcode", errcode(c.Err)))
}

// pushed makes the span of what the browsers of a login were told, from the arrival of
// WeChat's post on, where there was one. It is a trace of its own, which the login's ID
// joins to the others.
func (t *traces) pushed(l login.Login, since time.Time) {
	if t == nil {
		return
	}
	now := time.Now()
	if since.IsZero() || since.After(now) { // clocks differ
		since = now
	}
	t.span(context.Background(), "login push", since, nil, append(loginAttribute(l.ID), attribute.String("scanlogin.state", l.State.String()))...)
}

func (t *traces) span(ctx context.Context, name string, began time.Time, err error, attributes ...attribute.KeyValue) {
	_, span := t.Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	if err != nil {
		span.SetAttributes(attribute.String("scanlogin.error", err.Error()))
		if !expected(err) {
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}

// expected tells what browsers and people do from what has gone wrong.
func expected(err error) bool {
	for _, e := range []error{login.ErrNotReady, login.ErrEnded, login.ErrTied, login.ErrNotAsked, login.ErrCode} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func loginAttribute(id login.ID) []attribute.KeyValue {
	if id == (login.ID{}) {
		return nil
	}
	return []attribute.KeyValue{attribute.String("scanlogin.login", id.Short())}
}
