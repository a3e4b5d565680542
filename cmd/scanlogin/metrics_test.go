package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/wechat"
)

// scraped is what Prometheus would read.
func scraped(t *testing.T, collectors ...prometheus.Collector) string {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(collectors...)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func TestClaimsAreCountedByWhatBecameOfThem(t *testing.T) {
	m := newMetrics()
	before := strings.Count(scraped(t, m.claims), "\n")
	for _, s := range []login.Step{
		{Outcome: "ready"},
		{Outcome: "ready"},
		{Outcome: "made"},
		{Err: fmt.Errorf("claiming: %w", login.ErrExhausted)},
		{Outcome: "made", Err: errors.Join(login.ErrNoTicket, errors.New("what WeChat says"))},
		{Err: errors.New("no database")},
	} {
		s.Name = "claim"
		m.step(s)
	}
	m.step(login.Step{Name: "scan", Outcome: "stale"})
	text := scraped(t, m.claims)
	wantLines(t, text,
		`scanlogin_claims_total{code="ready",outcome="got"} 2`,
		`scanlogin_claims_total{code="made",outcome="got"} 1`,
		`scanlogin_claims_total{code="none",outcome="exhausted"} 1`,
		`scanlogin_claims_total{code="none",outcome="no_code"} 1`,
		`scanlogin_claims_total{code="none",outcome="error"} 1`,
	)
	if n := strings.Count(text, "\n"); n != before {
		t.Errorf("%d lines, and %d at the start", n, before)
	}
}

// WeChat may answer with any number; the label has a few values.
func TestErrcodesAreBounded(t *testing.T) {
	m := newMetrics()
	before := strings.Count(scraped(t, m.calls), "\n")
	endpoint := wechat.Endpoints()[1]
	for _, err := range []error{
		nil, errors.New("connection refused"),
		fmt.Errorf("making a code: %w", &wechat.APIError{Code: 45009, Endpoint: endpoint}),
		&wechat.APIError{Code: 1, Endpoint: endpoint}, &wechat.APIError{Code: 987654321, Endpoint: endpoint},
	} {
		m.called(wechat.Call{Endpoint: endpoint, Began: time.Now(), Err: err})
	}
	m.called(wechat.Call{Endpoint: tokenServer, Began: time.Now()})
	text := scraped(t, m.calls)
	wantLines(t, text,
		`scanlogin_wechat_calls_total{endpoint="create",errcode="0"} 1`,
		`scanlogin_wechat_calls_total{endpoint="create",errcode="no_answer"} 1`,
		`scanlogin_wechat_calls_total{endpoint="create",errcode="45009"} 1`,
		`scanlogin_wechat_calls_total{endpoint="create",errcode="other"} 2`,
		`scanlogin_wechat_calls_total{endpoint="token_server",errcode="0"} 1`,
	)
	if n := strings.Count(text, "\n"); n != before {
		t.Errorf("%d lines, and %d at the start", n, before)
	}
}

// However many scrape, the database is asked once in a while; what it doesn't say is NaN, and
// no old number.
func TestTheDatabaseIsAskedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var err error
		s := &shared{ask: func() (postgres.Overview, error) {
			asked++
			return postgres.Overview{Free: 7, Held: int64(asked), TokenLeft: time.Minute}, err
		}}
		for range 3 {
			wantLines(t, scraped(t, s), `scanlogin_pool_scenes{state="free"} 7`, `scanlogin_pool_scenes{state="held"} 1`,
				`scanlogin_wechat_token_left_seconds 60`, `scanlogin_codes_budget 100000`)
		}
		time.Sleep(sharedFor)
		wantLines(t, scraped(t, s), `scanlogin_pool_scenes{state="held"} 2`)
		time.Sleep(sharedFor)
		err = errors.New("no database")
		for range 3 {
			wantLines(t, scraped(t, s), `scanlogin_pool_scenes{state="free"} NaN`, `scanlogin_codes_made_today NaN`)
		}
		if asked != 3 {
			t.Errorf("asked %d times", asked)
		}
	})
}
