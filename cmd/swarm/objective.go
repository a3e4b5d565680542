package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// objective is a bound on one figure of the summary.
type objective struct {
	text      string
	histogram string  // empty: of a count
	quantile  float64 // percent; 100 is the maximum
	count     string
	share     bool // of a count: percent of what it is counted among
	op        string
	limit     float64 // microseconds, a number, or percent
}

// verdict is an objective beside what was reached.
type verdict struct {
	Objective string `json:"objective"`
	Reached   string `json:"reached"`
	Met       bool   `json:"met"`
}

// latencies are the histograms, in the order of a login. Each has a second one, .service,
// from when the step was begun; only after_answer has none, as nobody begins it.
func latencies() []string {
	return []string{"ramp", "qr", "callback", "push", "after_answer", "complete", "bind", "resume"}
}

// among says of which count another one may be a share.
func among() map[string]string {
	return map[string]string{
		"errors": "requests", "late": "steps", "lost": "acknowledged", "unfinished": "logins", "unanswered": "opened",
		"expired": "opened", "unavailable": "opened", "reconnects": "opened", "changed": "opened",
	}
}

// parseObjective reads NAME<LIMIT. The error says what is wrong with it.
func parseObjective(s string) (objective, error) {
	m := regexp.MustCompile(`^\s*([\w.]+)\s*(<=|>=|<|>)\s*(\S+)\s*$`).FindStringSubmatch(s)
	if m == nil {
		return objective{}, fmt.Errorf("%q is no objective, as push.p99<50ms or lost<1 is", s)
	}
	o := objective{text: m[1] + m[2] + m[3], op: m[2]}
	if name, quantile, ok := strings.Cut(m[1], "."); ok && slices.Contains(latencies(), name) {
		return o, o.latency(name, quantile, m[3])
	}
	return o, o.number(m[1], m[3])
}

func (o *objective) latency(name, quantile, limit string) error {
	o.histogram = name
	if rest, ok := strings.CutPrefix(quantile, "service."); ok && name != "after_answer" {
		o.histogram, quantile = name+".service", rest
	}
	var err error
	if o.quantile, err = strconv.ParseFloat(strings.TrimPrefix(strings.Replace(quantile, "max", "p100", 1), "p"), 64); err != nil ||
		!(o.quantile > 0 && o.quantile <= 100) {
		return fmt.Errorf("%s: %q is no percentile, as p99.9 or max is", o.text, quantile)
	}
	d, err := time.ParseDuration(limit)
	if err != nil {
		return fmt.Errorf("%s: %q is no duration, as 50ms is", o.text, limit)
	}
	o.limit = float64(d) / float64(time.Microsecond)
	return nil
}

func (o *objective) number(name, limit string) error {
	o.count = name
	if !slices.Contains(countNames(), name) {
		return fmt.Errorf("%s: there is no figure %q; latencies need a percentile, the counts are %s", o.text, name, strings.Join(countNames(), ", "))
	}
	limit, o.share = strings.CutSuffix(limit, "%")
	if o.share && among()[name] == "" {
		return fmt.Errorf("%s: %s is no share of anything", o.text, name)
	}
	var err error
	if o.limit, err = strconv.ParseFloat(limit, 64); err != nil {
		return fmt.Errorf("%s: %q is no number", o.text, limit)
	}
	return nil
}

// withLate adds the objective without which no figure means anything.
func withLate(os []objective) []objective {
	if slices.ContainsFunc(os, func(o objective) bool { return o.count == "late" }) {
		return os
	}
	late, _ := parseObjective("late<1%") // is well-formed
	return append(os, late)
}

// judge compares. A latency that was never measured misses its objective: it would be
// met by a run in which nothing happened.
func (o objective) judge(t *tally) verdict {
	if o.histogram != "" {
		h, ok := t.Histograms[o.histogram]
		if !ok {
			return verdict{o.text, "never measured", false}
		}
		us := h.ValueAtPercentile(o.quantile)
		return verdict{o.text, milliseconds(us) + " ms", o.holds(float64(us))}
	}
	n := t.sum(o.count)
	if !o.share {
		return verdict{o.text, strconv.FormatInt(n, 10), o.holds(float64(n))}
	}
	percent := 100 * float64(n) / float64(max(1, t.sum(among()[o.count])))
	return verdict{o.text, fmt.Sprintf("%.3g%% (%d of %d)", percent, n, t.sum(among()[o.count])), o.holds(percent)}
}

func (o objective) holds(v float64) bool {
	switch o.op {
	case "<":
		return v < o.limit
	case "<=":
		return v <= o.limit
	case ">":
		return v > o.limit
	}
	return v >= o.limit
}

// milliseconds shows microseconds with three digits that mean something.
func milliseconds(us int64) string {
	switch ms := float64(us) / 1000; {
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 2, 64)
	case ms < 100:
		return strconv.FormatFloat(ms, 'f', 1, 64)
	default:
		return strconv.FormatFloat(ms, 'f', 0, 64)
	}
}
