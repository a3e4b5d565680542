package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"scanlogin/internal/wechat"
)

// Metrics counts what comes in from outside and what becomes of it. Every series is there
// from the start, so that the first event is an increase.
type Metrics struct {
	callbacks     *prometheus.CounterVec
	logins        *prometheus.CounterVec
	sessionsEnded *prometheus.CounterVec
}

// NewMetrics makes them, all at 0.
func NewMetrics() *Metrics {
	m := &Metrics{
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scanlogin_callbacks_total",
			Help: "WeChat's posts to this instance, by kind (unread: refused before it was read) and verdict: what the phone was told, or why nothing came of it.",
		}, []string{"kind", "verdict"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scanlogin_logins_total",
			Help: "Logins that ended at this instance, by outcome. The first four begin a session; refused: a wrong name or password; declined and expired: told to a browser that streams here, so twice where a login is streamed by two instances.",
		}, []string{"outcome"}),
		sessionsEnded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scanlogin_sessions_ended_total",
			Help: "Sessions that somebody ended at this instance, by what ended them. Those that ran out are not among them: see scanlogin_rows_removed_total.",
		}, []string{"by"}),
	}
	for _, outcome := range []string{"completed", "bound", "signed_up", "password", "refused", "declined", "expired", "failed"} {
		m.logins.WithLabelValues(outcome)
	}
	for _, by := range []string{"logout", "revoked", "password_changed", "unfollowed"} {
		m.sessionsEnded.WithLabelValues(by)
	}
	for kind, verdicts := range verdicts() {
		for verdict := range strings.FieldsSeq(verdicts) {
			m.callbacks.WithLabelValues(kind, verdict)
		}
	}
	return m
}

// verdicts are what may become of a callback, by its kind.
func verdicts() map[string]string {
	const scan = "logged_in must_bind to_confirm used stale limited turned_away error "
	const other = "acknowledged duplicate forwarded forward_failed turned_away error "
	return map[string]string{
		"unread":      "bad_signature outside_window malformed wrong_mode foreign",
		"scan":        scan + other + "foreign",
		"subscribe":   scan + other + "foreign",
		"unsubscribe": other + "foreign",
		"text":        "logged_in must_bind declined wrong_number wrong_thrice stale foreign " + other,
		"other":       other + "foreign",
	}
}

// Describe is for a registry.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect is for a registry.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	m.callbacks.Collect(to)
	m.logins.Collect(to)
	m.sessionsEnded.Collect(to)
}

// Login counts one that has ended.
func (m *Metrics) Login(outcome string) { m.logins.WithLabelValues(outcome).Inc() }

func (m *Metrics) sessionEnded(by string, n int) {
	m.sessionsEnded.WithLabelValues(by).Add(float64(n))
}

// failed counts a login that we are to blame for.
func (m *Metrics) failed(r *http.Request) {
	switch {
	case r.Method != http.MethodPost:
	case r.URL.Path == "/login", r.URL.Path == "/login/complete", r.URL.Path == "/user/bind", r.URL.Path == "/user/signup":
		m.Login("failed")
	}
}

func (m *Metrics) callback(push wechat.Message, verdict string) {
	m.callbacks.WithLabelValues(kindOf(push), verdict).Inc()
}

// kindOf is one of a few words, whatever the push says.
func kindOf(m wechat.Message) string {
	switch {
	case m.MsgType == "":
		return "unread"
	case m.MsgType == "text":
		return "text"
	case m.MsgType != "event":
		return "other"
	}
	for _, kind := range []string{"scan", "subscribe", "unsubscribe"} {
		if strings.EqualFold(m.Event, kind) {
			return kind
		}
	}
	return "other"
}

// refusal is the verdict on a callback that ended in err.
func refusal(err error) string {
	for _, r := range []struct {
		err     error
		verdict string
	}{
		{wechat.ErrSignature, "bad_signature"},
		{wechat.ErrStale, "outside_window"},
		{wechat.ErrMode, "wrong_mode"},
		{wechat.ErrForeignAppID, "foreign"},
		{wechat.ErrForeignAccount, "foreign"},
		{wechat.ErrMalformed, "malformed"},
		{errMalformed, "malformed"},
		{errBusy, "turned_away"},
	} {
		if errors.Is(err, r.err) {
			return r.verdict
		}
	}
	return "error"
}
