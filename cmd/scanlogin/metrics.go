package main

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"scanlogin/internal/limit"
	"scanlogin/internal/postgres"
	"scanlogin/internal/stream"
	"scanlogin/internal/web"
)

// newRemoved counts what the housekeeper removes.
func newRemoved() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "scanlogin_rows_removed_total", Help: "Rows that were over and are removed by this instance, scenes that were made to forget, and months of the audit log, by table.",
	}, []string{"table"})
}

// newLimited counts what is refused. Every limit is there from the start, so that the first
// refusal is an increase.
func newLimited() *prometheus.CounterVec {
	limited := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "scanlogin_rate_limited_total", Help: "Requests that this instance refused because somebody did too much, by limit.",
	}, []string{"limit"})
	for _, name := range limit.Names() {
		limited.WithLabelValues(name)
	}
	return limited
}

// newUnaudited counts what the audit log lacks.
func newUnaudited() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "scanlogin_audit_dropped_total", Help: "Refusals that are in no row of the audit log: there were too many different ones at once, or the database was away at the end.",
	})
}

// registerMetrics exports what this instance knows of itself.
func registerMetrics(r prometheus.Registerer, hub *stream.Hub, site func() web.Stats, quota postgres.Quota) {
	counter := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 {
			return float64(value())
		})
	}
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "scanlogin_streams_open", Help: "Event streams that are open.",
		}, func() float64 { return float64(hub.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "scanlogin_codes_made_today", Help: "QR codes made since midnight in Shanghai, by all instances; NaN when the database doesn't say.",
		}, func() float64 { return codesMadeToday(quota) }),
		counter("scanlogin_streams_opened_total", "Event streams that were opened.",
			func() uint64 { return hub.Stats().Opened }),
		counter("scanlogin_events_pushed_total", "Events pushed into open streams.",
			func() uint64 { return hub.Stats().Pushed }),
		counter("scanlogin_sweep_hits_total", "Changes that no NOTIFY told of, found by the safety sweep.",
			func() uint64 { return hub.Stats().SweepHits }),
		counter("scanlogin_callbacks_turned_away_total", "Callbacks answered with 503 because too many were waiting already; WeChat pushes them again.",
			func() uint64 { return site().CallbacksTurnedAway }),
		counter("scanlogin_streams_turned_away_total", "Browsers told to come back a little later because too many were waiting already.",
			func() uint64 { return site().StreamsTurnedAway }),
	)
}

func codesMadeToday(quota postgres.Quota) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n, err := quota.MadeToday(ctx)
	if err != nil {
		return math.NaN()
	}
	return float64(n)
}
