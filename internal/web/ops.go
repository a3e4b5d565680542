package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"scanlogin/internal/status"
	"scanlogin/internal/stream"
)

const (
	readyDeadline  = 2 * time.Second
	reportDeadline = 5 * time.Second
	// reportEvery is how often the page for the operator is told how all stands, and the
	// most often that the database is asked.
	reportEvery = 3 * time.Second
)

// Ops is what the operator's address serves, which is never the public one.
type Ops struct {
	// Ready returns what keeps this instance from being sent browsers.
	Ready   func(ctx context.Context) error
	Metrics prometheus.Gatherer
	// Stopping tells whether this instance is about to end.
	Stopping func() bool
	// Report says how all instances stand.
	Report func(ctx context.Context) (status.Report, error)
	Logger *slog.Logger

	page   *template.Template
	assets assets

	mu   sync.Mutex // one asks the database at a time, and the others wait for the answer
	last status.Report
	at   time.Time
}

// Handler serves /metrics, /healthz (the process answers), /readyz, which is 200 while Ready
// returns nil, and the page / that says how all stands. What is wrong is told in words, and
// logged. /debug/pprof/ is Go's own: where time and memory go.
func (o *Ops) Handler(files fs.FS) (http.Handler, error) {
	var err error
	if o.assets, err = hashAssets(files); err != nil {
		return nil, fmt.Errorf("reading the static files: %w", err)
	}
	o.page, err = template.New("status.html").Funcs(template.FuncMap{"asset": o.assets.url}).ParseFS(files, "templates/status.html")
	if err != nil {
		return nil, fmt.Errorf("reading the operator's page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", o.ready)
	mux.HandleFunc("GET /{$}", o.told(o.status))
	mux.HandleFunc("GET /status", o.told(o.statusJSON))
	mux.HandleFunc("GET /status/events", o.told(o.statusEvents))
	mux.HandleFunc("GET /static/", o.told(o.assets.serve))
	return mux, nil
}

func (o *Ops) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyDeadline)
	defer cancel()
	if err := o.Ready(ctx); err != nil {
		o.Logger.InfoContext(ctx, "not ready", "err", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable) // the operator's address
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// told answers with what went wrong, in words: these are for the operator.
func (o *Ops) told(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Cache-Control", "no-store")
		if err := h(w, r); err != nil && !errors.Is(err, context.Canceled) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}
}

// report is how all stands, as of reportEvery ago at most.
func (o *Ops) report(ctx context.Context) (status.Report, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.at) < reportEvery/2 {
		return o.last, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportDeadline)
	defer cancel()
	r, err := o.Report(ctx)
	if err == nil {
		o.last, o.at = r, time.Now()
	}
	return r, err
}

// view is what the page is made of: a report, or what keeps us from having one.
type view struct {
	status.Report

	Problem string
	At      time.Time
}

// status is the page as it stands now; its script goes on from there.
func (o *Ops) status(w http.ResponseWriter, r *http.Request) error {
	text, err := o.render(r.Context(), "status.html")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write([]byte(text))
	return err
}

// render shows a database that doesn't answer as well: that is when people look here.
func (o *Ops) render(ctx context.Context, name string) (string, error) {
	v := view{At: time.Now().UTC()}
	var err error
	if v.Report, err = o.report(ctx); err != nil {
		v.Problem = err.Error()
	}
	var b bytes.Buffer
	if err := o.page.ExecuteTemplate(&b, name, v); err != nil {
		return "", fmt.Errorf("rendering %s: %w", name, err)
	}
	return b.String(), nil
}

func (o *Ops) statusJSON(w http.ResponseWriter, r *http.Request) error {
	report, err := o.report(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// errStopping ends the streams of an instance that stops.
var errStopping = errors.New("web: shutting down")

// statusEvents streams the body of the page anew, every few seconds.
func (o *Ops) statusEvents(w http.ResponseWriter, r *http.Request) error {
	err := stream.Live(w, r, "status", reportEvery, func() (any, error) {
		if o.Stopping() {
			return nil, errStopping
		}
		return o.render(r.Context(), "body")
	})
	if errors.Is(err, errStopping) {
		return nil // the browser comes back by itself
	}
	return err
}
