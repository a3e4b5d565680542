package main

import (
	"errors"
	"path"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"scanlogin/internal/limit"
	"scanlogin/internal/login"
	"scanlogin/internal/web"
	"scanlogin/internal/wechat"
)

// metrics is what happens at this instance. Every series is there from the start, so that
// the first event is an increase. Labels have a few values that are known beforehand.
type metrics struct {
	site     *web.Metrics
	claims   *prometheus.CounterVec
	steps    *prometheus.HistogramVec
	repeated prometheus.Counter
	push     prometheus.Histogram
	calls    *prometheus.CounterVec
	callTime *prometheus.HistogramVec
	listens  prometheus.Counter
	lag      prometheus.Histogram
	removed  *prometheus.CounterVec
	limited  *prometheus.CounterVec
	dropped  prometheus.Counter // of the audit log's recorder
}

func newMetrics() *metrics {
	m := &metrics{
		site:     web.NewMetrics(),
		claims:   counters("scanlogin_claims_total", "Scenes that browsers asked this instance for, by outcome (got; exhausted: all are held or resting; no_code: WeChat made none; error: the database) and by how the code was had: ready before, made for it, or none.", "outcome", "code"),
		steps:    histograms("scanlogin_login_step_seconds", "How long the steps of logins took at this instance: the database's work, and in a claim WeChat's.", "step"),
		repeated: counter("scanlogin_scans_repeated_total", "Scans that were answered as an earlier one was: WeChat pushed it once more, or the same person scanned the code again."),
		push: histogram("scanlogin_scan_to_push_seconds",
			"From the arrival of WeChat's post at any instance to the event in the streams of this one. The clock of the instance that got the post says when that was: clocks that differ count in. Changes that no NOTIFY told of are not in it, see scanlogin_sweep_hits_total."),
		calls:    counters("scanlogin_wechat_calls_total", "Calls of WeChat's API by this instance, by endpoint and errcode: 0, one that scanlogin knows, other, or no_answer where none came.", "endpoint", "errcode"),
		callTime: histograms("scanlogin_wechat_call_seconds", "How long calls of WeChat's API took, however they ended.", "endpoint"),
		listens:  counter("scanlogin_listens_total", "Times that this instance began to LISTEN: once at its start, and once more whenever the connection was lost."),
		lag: histogram("scanlogin_notify_lag_seconds",
			"From a NOTIFY to its arrival, by the proof of life that this instance sends itself every 5 s; the wait for a connection to send it on is in it. One clock."),
		removed: counters("scanlogin_rows_removed_total", "Rows that were over and are removed by this instance, scenes that were made to forget, and months of the audit log, by table.", "table"),
		dropped: counter("scanlogin_audit_dropped_total", "Refusals that are in no row of the audit log: there were too many different ones at once, or the database was away at the end."),
		limited: counters("scanlogin_rate_limited_total", "Requests that this instance refused because somebody did too much, by limit.", "limit"),
	}
	m.begin()
	return m
}

// begin makes every series.
func (m *metrics) begin() {
	for _, of := range [][2]string{{"got", "ready"}, {"got", "made"}, {"exhausted", "none"}, {"no_code", "none"}, {"error", "none"}} {
		m.claims.WithLabelValues(of[0], of[1])
	}
	for _, step := range login.StepNames() {
		m.steps.WithLabelValues(step)
	}
	codes := []string{"0", "other", "no_answer"}
	for _, code := range wechat.Codes() {
		codes = append(codes, strconv.Itoa(code))
	}
	for _, endpoint := range append(wechat.Endpoints(), tokenServer) {
		m.callTime.WithLabelValues(path.Base(endpoint))
		for _, code := range codes {
			m.calls.WithLabelValues(path.Base(endpoint), code)
		}
	}
	for _, table := range []string{"web_session", "wechat_push", "confirmation", "wechat_codes", "scene", "rate_limit"} {
		m.removed.WithLabelValues(table)
	}
	for _, name := range limit.Names() {
		m.limited.WithLabelValues(name)
	}
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(histogramOpts(name, help))
}

func histograms(name, help string, label string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(histogramOpts(name, help), []string{label})
}

// histogramOpts are for times from a millisecond on: native, for servers that take them, and
// classic.
func histogramOpts(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help,
		Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// step counts what was done with a login.
func (m *metrics) step(s login.Step) {
	m.steps.WithLabelValues(s.Name).Observe(time.Since(s.Began).Seconds())
	if s.Name != "claim" {
		return
	}
	switch {
	case s.Err == nil:
		m.claims.WithLabelValues("got", s.Outcome).Inc()
	case errors.Is(s.Err, login.ErrExhausted):
		m.claims.WithLabelValues("exhausted", "none").Inc()
	case errors.Is(s.Err, login.ErrNoTicket):
		m.claims.WithLabelValues("no_code", "none").Inc()
	default:
		m.claims.WithLabelValues("error", "none").Inc()
	}
}

// pushed counts what the browsers of a login were told.
func (m *metrics) pushed(l login.Login) {
	if l.State == login.Expired || l.State == login.Declined {
		m.site.Login(l.State.String())
	}
}

// called counts a call of WeChat's API.
func (m *metrics) called(c wechat.Call) {
	endpoint := path.Base(c.Endpoint)
	m.callTime.WithLabelValues(endpoint).Observe(time.Since(c.Began).Seconds())
	m.calls.WithLabelValues(endpoint, errcode(c.Err)).Inc()
}

// errcode is one of a few, whatever WeChat may think of.
func errcode(err error) string {
	refusal, ok := errors.AsType[*wechat.APIError](err)
	switch {
	case err == nil:
		return "0"
	case !ok:
		return "no_answer"
	case refusal.Known():
		return strconv.Itoa(refusal.Code)
	}
	return "other"
}

// registry is all that this instance has to say of itself.
func (i *instance) registry(site func() web.Stats) prometheus.Gatherer {
	r, m := prometheus.NewRegistry(), i.metrics
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		m.site, m.claims, m.steps, m.repeated, m.push, m.calls, m.callTime, m.listens, m.lag, m.removed, m.limited, m.dropped,
		newShared(i.db, i.cfg), pool{i.db.Stat},
	)
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	counter := func(name, help string, value func() uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	gauge("scanlogin_build_info", "Always 1; which version runs.", prometheus.Labels{"version": version(), "go": runtime.Version()},
		func() float64 { return 1 })
	gauge("scanlogin_listening", "Whether notifications arrive at this instance: 1, else 0.", nil, func() float64 { return one(i.listener.Listening()) })
	gauge("scanlogin_streams_open", "Event streams that are open.", nil, func() float64 { return float64(i.hub.Len()) })
	for kind := range site().Waiting {
		gauge("scanlogin_requests_at_work", "Requests that are let in, 64 of a kind at most, by what they want.", prometheus.Labels{"request": kind},
			func() float64 { return float64(site().AtWork[kind]) })
		gauge("scanlogin_requests_waiting", "Requests that wait to be let in, 2048 of a kind at most, by what they want.", prometheus.Labels{"request": kind},
			func() float64 { return float64(site().Waiting[kind]) })
	}
	counter("scanlogin_streams_opened_total", "Event streams that were opened.", func() uint64 { return i.hub.Stats().Opened })
	counter("scanlogin_events_pushed_total", "Events pushed into open streams.", func() uint64 { return i.hub.Stats().Pushed })
	counter("scanlogin_sweep_hits_total", "Changes that no NOTIFY told of, found by the safety sweep.", func() uint64 { return i.hub.Stats().SweepHits })
	counter("scanlogin_callbacks_turned_away_total", "Callbacks answered with 503 because too many were waiting already; WeChat pushes them again.",
		func() uint64 { return site().CallbacksTurnedAway })
	counter("scanlogin_streams_turned_away_total", "Browsers told to come back a little later because too many were waiting already.",
		func() uint64 { return site().StreamsTurnedAway })
	return r
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
