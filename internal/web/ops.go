package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const readyDeadline = 2 * time.Second

// OpsHandler serves what is never on the public address: /metrics, /healthz (the process
// answers) and /readyz, which is 200 while ready returns nil. What is wrong is told in
// words, and logged. /debug/pprof/ is Go's own: where time and memory go.
func OpsHandler(ready func(context.Context) error, metrics prometheus.Gatherer, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyDeadline)
		defer cancel()
		if err := ready(ctx); err != nil {
			logger.InfoContext(ctx, "not ready", "err", err)
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // the operator's address
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	return mux
}
