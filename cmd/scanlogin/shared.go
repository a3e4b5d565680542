package main

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
)

// codesADay is what WeChat makes for a verified account; for a test account, 10,000.
const codesADay = 100_000

// sharedFor is how long what the database says of all instances is good: whoever scrapes
// more often costs it nothing.
const sharedFor = 5 * time.Second

// shared is what the database says of all instances, by one query when somebody asks. Every
// instance reports the same numbers: take the maximum over them, not the sum.
type shared struct {
	ask func() (postgres.Overview, error)

	mu    sync.Mutex
	at    time.Time
	known postgres.Overview
	err   error
}

func newShared(db *postgres.DB, cfg config.Config) *shared {
	return &shared{ask: func() (postgres.Overview, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return db.Overview(ctx, cfg.WeChatAppID, cfg.SceneTTL, cfg.SceneRest)
	}}
}

// look is what is known now, no older than sharedFor.
func (s *shared) look() (postgres.Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) >= sharedFor {
		s.known, s.err = s.ask()
		s.at = time.Now()
	}
	return s.known, s.err
}

// Describe is for a registry.
func (s *shared) Describe(to chan<- *prometheus.Desc) {
	for _, m := range sharedMetrics(postgres.Overview{}) {
		to <- m.desc()
	}
}

// Collect is for a registry. What the database doesn't say is NaN.
func (s *shared) Collect(to chan<- prometheus.Metric) {
	known, err := s.look()
	for _, m := range sharedMetrics(known) {
		for value, n := range m.values {
			if err != nil {
				n = math.NaN()
			}
			labels := []string{value}
			if m.label == "" {
				labels = nil
			}
			to <- prometheus.MustNewConstMetric(m.desc(), prometheus.GaugeValue, n, labels...)
		}
	}
	to <- prometheus.MustNewConstMetric(budget(), prometheus.GaugeValue, codesADay)
}

// sharedMetric is a gauge by the values of a label, or with one value under "".
type sharedMetric struct {
	name, help, label string
	values            map[string]float64
}

func (m sharedMetric) desc() *prometheus.Desc {
	var labels []string
	if m.label != "" {
		labels = []string{m.label}
	}
	return prometheus.NewDesc(m.name, m.help+" Of all instances, and the same at each; NaN when the database doesn't say.", labels, nil)
}

func budget() *prometheus.Desc {
	return prometheus.NewDesc("scanlogin_codes_budget", "QR codes that WeChat makes a day for a verified account; a test account has 10,000.", nil, nil)
}

func sharedMetrics(o postgres.Overview) []sharedMetric {
	alone := func(n float64) map[string]float64 { return map[string]float64{"": n} }
	return []sharedMetric{
		{"scanlogin_pool_scenes", "Scenes, by whether they can be claimed, are held by a login, or rest after one.", "state", map[string]float64{
			"free": float64(o.Free), "held": float64(o.Held), "resting": float64(o.Resting),
		}},
		{"scanlogin_codes_ready", "QR codes that were made ahead and can be shown.", "", alone(float64(o.Ready))},
		{"scanlogin_codes_made_today", "QR codes made since midnight in Shanghai.", "", alone(float64(o.MadeToday))},
		{"scanlogin_codes_blocked_seconds", "For how long WeChat makes no more codes, because its quota is spent; 0: it does.", "", alone(o.BlockedFor.Seconds())},
		{"scanlogin_wechat_token_left_seconds", "For how long the access token works; 0: there is none.", "", alone(o.TokenLeft.Seconds())},
	}
}

// pool tells what the pool of database connections does.
type pool struct{ stat func() *pgxpool.Stat }

// Describe is for a registry.
func (p pool) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, to) }

// Collect is for a registry.
func (p pool) Collect(to chan<- prometheus.Metric) {
	now := p.stat()
	gauge := func(name, help string, n int32, state ...string) {
		var labels []string
		if len(state) > 0 {
			labels = []string{"state"}
		}
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, float64(n), state...)
	}
	counter := func(name, help string, n float64) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, n)
	}
	const states = "Connections of this instance to PostgreSQL, but for the one that listens, by what they do."
	gauge("scanlogin_db_connections", states, now.AcquiredConns(), "acquired")
	gauge("scanlogin_db_connections", states, now.IdleConns(), "idle")
	gauge("scanlogin_db_connections", states, now.ConstructingConns(), "connecting")
	gauge("scanlogin_db_connections_max", "Connections that there may be, pool_max_conns in DATABASE_URL.", now.MaxConns())
	counter("scanlogin_db_acquires_total", "Times that a connection was taken from the pool.", float64(now.AcquireCount()))
	counter("scanlogin_db_acquires_waited_total", "Times that this had to wait, for another to be done or for a new connection.", float64(now.EmptyAcquireCount()))
	counter("scanlogin_db_acquires_canceled_total", "Times that whoever waited gave up.", float64(now.CanceledAcquireCount()))
	counter("scanlogin_db_acquire_wait_seconds_total", "How long those that had a connection in the end have waited, all together.", now.EmptyAcquireWaitTime().Seconds())
}
