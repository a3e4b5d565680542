package main

import (
	"testing"
	"time"
)

func TestObjectives(t *testing.T) {
	tl := newTally()
	for ms := range 1000 {
		tl.record("push", time.Duration(ms+1)*time.Millisecond)
		tl.record("push.service", time.Millisecond)
	}
	tl.add("errors.open: refused", 1)
	tl.add("errors.callback: status 503", 1)
	tl.add("requests", 1000)
	tl.add("errorsome", 50) // another count
	for text, met := range map[string]bool{
		"push.p50<501ms":       true,
		"push.p50<500ms":       false,
		"push.p99.9<=999500us": true,
		"push.max<1s":          false, // 1 s is not less
		"push.max>=1s":         true,
		"push.p50 > 499ms":     true,
		"push.service.p99<2ms": true,
		"qr.p99<1h":            false, // never measured
		"resume.max>0s":        false,
		"errors<3":             true,
		"errors<2":             false,
		"errors<0.2%":          false,
		"errors<=0.2%":         true,
		"lost<1":               true,
		"lost<1%":              true, // of none
		"requests>=1000":       true,
	} {
		o, err := parseObjective(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if v := o.judge(tl); v.Met != met {
			t.Errorf("%s: met is %t, reached %s", text, v.Met, v.Reached)
		}
	}
}

func TestObjectivesThatMeanNothing(t *testing.T) {
	for _, text := range []string{
		"", "push", "push<50ms", "push.p99", "push.p99<", "push.p99<50", "push.p99=50ms", "push.p0<1s", "push.p101<1s", "push.99th<1s",
		"after_answer.service.p50<1s", "pull.p99<1s", "lost<1ms", "losses<1", "pushed<1%", "errors<%", "push.pNaN<1s",
	} {
		if o, err := parseObjective(text); err == nil {
			t.Errorf("%q is taken for %+v", text, o)
		}
	}
}

// Figures of a generator that is behind are its own, so this is never left out.
func TestLateIsAlwaysAnObjective(t *testing.T) {
	if os := withLate(nil); len(os) != 1 || os[0].text != "late<1%" {
		t.Errorf("%+v", os)
	}
	own, err := parseObjective("late<5%")
	if err != nil {
		t.Fatal(err)
	}
	if os := withLate([]objective{own}); len(os) != 1 || os[0].limit != 5 {
		t.Errorf("%+v", os)
	}
}
