package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"scanlogin/internal/stream"
)

// registerMetrics exports what this instance knows of itself.
func registerMetrics(r prometheus.Registerer, hub *stream.Hub) {
	counter := func(name, help string, value func(stream.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 {
			return float64(value(hub.Stats()))
		})
	}
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "scanlogin_streams_open", Help: "Event streams that are open.",
		}, func() float64 { return float64(hub.Len()) }),
		counter("scanlogin_streams_opened_total", "Event streams that were opened.",
			func(s stream.Stats) uint64 { return s.Opened }),
		counter("scanlogin_events_pushed_total", "Events pushed into open streams.",
			func(s stream.Stats) uint64 { return s.Pushed }),
		counter("scanlogin_sweep_hits_total", "Changes that no NOTIFY told of, found by the safety sweep.",
			func(s stream.Stats) uint64 { return s.SweepHits }),
	)
}
