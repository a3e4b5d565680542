package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// The classes of delays.
const (
	classOutside = "outside faults"
	classInside  = "inside faults"
	classAway    = "browser closed meanwhile"
)

// delays are from the answer to WeChat, and from the scan, to the event in the browser.
type delays struct{ fromAnswer, fromScan []time.Duration }

type latencies map[string]*delays

// add takes µs. An event may come before WeChat has its answer: that is no delay.
func (l latencies) add(class string, fromAnswer, fromScan int64) {
	d := l[class]
	if d == nil {
		d = &delays{}
		l[class] = d
	}
	d.fromAnswer = append(d.fromAnswer, time.Duration(max(0, fromAnswer))*time.Microsecond)
	d.fromScan = append(d.fromScan, time.Duration(max(0, fromScan))*time.Microsecond)
}

// quantile is the delay that a share of them, from 0 to 1, did not exceed.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(share*float64(len(sorted)-1))]
}

const (
	shownViolations = 5 // of a kind
	shownLines      = 40
)

// print writes the report as tables, and what shows the first violations.
func (r *report) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(what string, value any) { fmt.Fprintf(t, "%s\t%v\n", what, value) }
	row("seed", r.seed)
	row("length", r.length.Round(time.Second))
	row("browsers", r.browsers)
	row("logins tried", r.codes)
	row("logins finished", r.finished)
	row("scans", r.scans)
	row("scans acknowledged as a login", r.acked)
	row("scans of ended logins, refused", r.stale)
	row("pushes that WeChat gave up", r.unanswered)
	row("streams broken", r.broken)
	row("logins whose last answer was lost", r.answerLost)
	fired := make([]string, 0, len(r.faults))
	for _, kind := range slices.Sorted(maps.Keys(r.faults)) {
		fired = append(fired, fmt.Sprintf("%s %d", kind, r.faults[kind]))
	}
	row("faults fired", strings.Join(fired, ", "))
	for _, kind := range badKinds() {
		row(kind, r.count(kind))
	}
	fmt.Fprintf(t, "\nscan to event\tlogins\tp50\tp99\tmax\t(from the scan: p50\tp99\tmax)\n")
	for _, class := range []string{classOutside, classInside, classAway} {
		d := r.latencies[class]
		if d == nil {
			continue
		}
		slices.Sort(d.fromAnswer)
		slices.Sort(d.fromScan)
		fmt.Fprintf(t, "%s\t%d", class, len(d.fromScan))
		for _, of := range [][]time.Duration{d.fromAnswer, d.fromScan} {
			for _, share := range []float64{0.5, 0.99, 1} {
				fmt.Fprintf(t, "\t%.1f ms", float64(quantile(of, share).Microseconds())/1000)
			}
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.printViolations(out)
}

func (r *report) printViolations(out io.Writer) error {
	shown := map[string]int{}
	lines := json.NewEncoder(out)
	for _, v := range r.violations {
		if shown[v.kind]++; shown[v.kind] > shownViolations {
			continue
		}
		fmt.Fprintf(out, "\n%s: %s\n", v.kind, v.what)
		for n, e := range v.lines {
			if n == shownLines {
				fmt.Fprintf(out, "… %d more\n", len(v.lines)-n)
				break
			}
			if err := lines.Encode(e); err != nil {
				return err
			}
		}
	}
	return nil
}
