package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// report is the summary of a run, as -json writes it.
type report struct {
	Plan plan `json:"plan"`
	// RampSeconds is how long it took until the streams were held, WindowSeconds how long
	// the load lasted then; rates are of the window.
	RampSeconds   seconds `json:"ramp_seconds"`
	WindowSeconds seconds `json:"window_seconds"`
	// Counts are by name; with kinds as in "errors.open: connection refused".
	Counts map[string]int64 `json:"counts"`
	// Rates are logins, scans, pushed and hangups a second.
	Rates map[string]float64 `json:"rates"`
	// Latencies are by name: from when the step was due; with .service, from when it was
	// begun.
	Latencies   map[string]percentiles `json:"latencies"`
	Objectives  []verdict              `json:"objectives"`
	Passed      bool                   `json:"passed"`      // all objectives were met
	Interrupted bool                   `json:"interrupted"` // it ended before its time

	tally *tally
}

// percentiles are in milliseconds.
type percentiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

func newReport(p plan, t *tally, interrupted bool) report {
	r := report{
		Plan: p, RampSeconds: seconds(t.Ramp), WindowSeconds: seconds(t.Window), Counts: map[string]int64{}, Rates: map[string]float64{},
		Latencies: map[string]percentiles{}, Passed: true, Interrupted: interrupted, tally: t,
	}
	for _, name := range countNames() {
		r.Counts[name] = t.sum(name)
	}
	for key, n := range t.Counts {
		if strings.Contains(key, ".") {
			r.Counts[key] = n
		}
	}
	for _, name := range []string{"logins", "scans", "pushed", "hangups"} {
		if t.Window > 0 {
			r.Rates[name] = float64(t.sum(name)) / t.Window.Seconds()
		}
	}
	for name, h := range t.Histograms {
		ms := func(q float64) float64 { return float64(h.ValueAtPercentile(q)) / 1000 }
		r.Latencies[name] = percentiles{h.TotalCount(), ms(50), ms(90), ms(99), ms(99.9), float64(h.Max()) / 1000}
	}
	for _, o := range p.objectives {
		v := o.judge(t)
		r.Objectives = append(r.Objectives, v)
		r.Passed = r.Passed && v.Met
	}
	return r
}

func (r report) save(path string) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func (r report) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d streams held after %.1f s, then %.1f s of %g logins/s, %g scans/s and %g hang-ups/s, by %d process(es)\n\n",
		r.Plan.Streams, r.tally.Ramp.Seconds(), r.tally.Window.Seconds(), r.Plan.Logins, r.Plan.Scans, r.Plan.Churn, r.Plan.Processes)
	r.printCounts(w)
	fmt.Fprintln(out, "ms\tcount\tp50\tp90\tp99\tp99.9\tmax\tservice p50\tp99\tmax\t")
	for _, name := range latencies() {
		h, ok := r.tally.Histograms[name]
		if !ok {
			continue
		}
		fmt.Fprintf(out, "%s\t%d\t", name, h.TotalCount())
		for _, q := range []float64{50, 90, 99, 99.9, 100} {
			fmt.Fprint(out, milliseconds(h.ValueAtPercentile(q)), "\t")
		}
		if service, ok := r.tally.Histograms[name+".service"]; ok {
			for _, q := range []float64{50, 99, 100} {
				fmt.Fprint(out, milliseconds(service.ValueAtPercentile(q)), "\t")
			}
		}
		fmt.Fprintln(out)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, v := range r.Objectives {
		word := "met   "
		if !v.Met {
			word = "MISSED"
		}
		fmt.Fprintf(w, "%s  %s: %s\n", word, v.Objective, v.Reached)
	}
	if r.Interrupted {
		fmt.Fprintln(w, "interrupted: this is what came until then")
	}
	return nil
}

// printCounts leaves out what didn't happen, but for what nobody wants to happen.
func (r report) printCounts(w io.Writer) {
	always := []string{"lost", "unanswered", "errors", "late"}
	for _, name := range countNames() {
		n := r.Counts[name]
		if n == 0 && !slices.Contains(always, name) {
			continue
		}
		fmt.Fprintf(w, "%-17s %8d", name, n)
		if rate, ok := r.Rates[name]; ok {
			fmt.Fprintf(w, "  %.1f/s", rate)
		}
		fmt.Fprintln(w)
		for _, key := range slices.Sorted(maps.Keys(r.Counts)) {
			if kind, ok := strings.CutPrefix(key, name+"."); ok {
				fmt.Fprintf(w, "  %-15s %8d\n", kind, r.Counts[key])
			}
		}
	}
	fmt.Fprintln(w)
}

// progress shows how a run goes: a line that is written over once a second on a terminal,
// else a line every ten.
type progress struct {
	plan     plan
	w        io.Writer
	terminal bool
	start    time.Time
	shown    time.Time
	before   map[string]int64
}

func newProgress(p plan, w io.Writer) *progress {
	f, ok := w.(*os.File)
	now := time.Now()
	return &progress{plan: p, w: w, terminal: ok && term.IsTerminal(int(f.Fd())), start: now, shown: now, before: map[string]int64{}}
}

func (p *progress) line(t *tally) {
	now := time.Now()
	if !p.terminal && now.Sub(p.shown) < 9500*time.Millisecond {
		return
	}
	rate := func(name string) float64 {
		n := t.sum(name)
		r := float64(n-p.before[name]) / now.Sub(p.shown).Seconds()
		p.before[name] = n
		return r
	}
	text := fmt.Sprintf("%4.0f s  %d open  %.0f opened/s  %.0f logins/s  %.0f pushed/s", now.Sub(p.start).Seconds(), t.sum("open"),
		rate("opened"), rate("logins"), rate("pushed"))
	if h, ok := t.Histograms["push"]; ok {
		text += fmt.Sprintf("  push %s/%s ms (p50/p99)", milliseconds(h.ValueAtPercentile(50)), milliseconds(h.ValueAtPercentile(99)))
	}
	text += fmt.Sprintf("  %d errors  %d lost  %d late", t.sum("errors"), t.sum("lost"), t.sum("late"))
	p.shown = now
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.w, text)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
