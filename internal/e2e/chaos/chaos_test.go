package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"scanlogin/internal/e2e/proc"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// binary builds the program as it is, or with some of its sources replaced.
func binary(t *testing.T, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scanlogin")
	if err := proc.Build(t.Context(), path, "cmd/scanlogin", append([]string{"-race"}, flags...)...); err != nil {
		t.Fatal(err)
	}
	return path
}

// short is a run in the time that a test may take.
func short(t *testing.T, binary string) options {
	seed := rand.Uint64N(1_000_000)
	if s := os.Getenv("CHAOS_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	return options{
		seed: seed, length: 40 * time.Second, warmUp: 3 * time.Second, calm: 12 * time.Second,
		settling: 45 * time.Second, browsers: 60, pool: 120, instances: 3, haste: 3, fast: true, binary: binary, say: t.Logf,
		timing: timing{
			TTL: 20 * time.Second, Grace: 8 * time.Second, Rest: 2 * time.Second, BindTTL: 5 * time.Minute,
			Exit: 25 * time.Second, // 10 s are promised, but not on a machine that runs all tests at once
		},
	}
}

// judged runs a world and returns what the checker says.
func judged(t *testing.T, o options) *report {
	t.Helper()
	entries, logs, err := run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("with CHAOS_SEED=%d; the logs are in %s", o.seed, logs)
		} else if err := os.RemoveAll(logs); err != nil {
			t.Error(err)
		}
	})
	r := check(entries)
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	if t.Failed() || len(r.violations) > 0 {
		if err := saveJournal(filepath.Join(logs, "journal"), entries); err != nil {
			t.Error(err)
		}
	}
	return r
}

// Every kind of fault once, and nothing is lost, nobody is logged in as somebody else.
func TestNothingIsLostInChaos(t *testing.T) {
	t.Parallel()
	o := short(t, binary(t))
	o.pair, o.faults = true, faultKinds()
	r := judged(t, o)
	for _, kind := range faultKinds() {
		if r.faults[kind] == 0 {
			t.Errorf("no fault of the kind %s", kind)
		}
	}
	if len(r.violations) > 0 {
		t.Errorf("%d violations", len(r.violations))
	}
}

// The checker has to notice when the program is broken on purpose.
func TestBrokenProgramsAreFoundOut(t *testing.T) {
	t.Parallel()
	const scenes = "internal/postgres/pgstore/scene.sql.go"
	for name, mutant := range map[string]struct {
		patches []patch
		pool    int
		want    string
	}{
		"no NOTIFY and no sweep": {
			patches: []patch{
				{"internal/postgres/notifier.go", "err := n.DB.Queries.Notify(ctx, n.Channel, payloads(hints))", "err := ctx.Err()"},
				{"internal/stream/look.go", "k.swept = true\n\t}\n}", "k.rest, k.swept = nil, true\n\t}\n}"},
			},
			pool: 60,
			want: badLost,
		},
		"a scan needs no ticket": {
			patches: []patch{{scenes, "s.ticket = $4 AND s.ticket <> ''", "length($4::text) > 0"}},
			pool:    26,
			want:    badOther,
		},
		"a claim takes scenes that are held": {
			patches: []patch{{scenes, " AND expires_at <= now() - step.rest", ""}},
			pool:    26,
			want:    badHeld,
		},
		"a login can be completed again": {
			patches: []patch{
				{scenes, "AND h.state = 'authenticated' AND i.appid", "AND h.state IN ('authenticated', 'completed') AND i.appid"},
				{scenes, "AND s.state = 'authenticated' AND s.expires_at > now()\n        AND s.openid", "AND s.openid"},
			},
			pool: 60,
			want: badTwice,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := short(t, binary(t, "-overlay", overlay(t, mutant.patches)))
			o.length, o.settling = 2*time.Minute, 5*time.Second
			o.browsers, o.pool, o.instances, o.haste = 20, mutant.pool, 2, 8
			o.timing.TTL, o.timing.Rest = 3*time.Minute, 0
			o.enough = func(entries []entry) bool { return check(settled(entries)).count(mutant.want) > 0 }
			r := judged(t, o)
			if r.count(mutant.want) == 0 {
				t.Errorf("nothing was found of: %s", mutant.want)
			}
		})
	}
}

// settled is a journal without the logins of which something may still be on its way.
func settled(entries []entry) []entry {
	recently := entries[len(entries)-1].At - (3 * time.Second).Microseconds()
	fresh := map[string]bool{}
	for _, e := range entries {
		if e.Ticket != "" && e.At > recently {
			fresh[e.Ticket] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return fresh[e.Ticket] })
}

func TestPlansAreRepeated(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		plan := makePlan(seed, faultKinds(), 5*time.Second, 150*time.Second, 3)
		if !slices.Equal(plan, makePlan(seed, faultKinds(), 5*time.Second, 150*time.Second, 3)) {
			t.Fatalf("seed %d plans differently each time", seed)
		}
		count := map[string]int{}
		for _, f := range plan {
			count[f.kind]++
			if f.at < 5*time.Second || f.at > 150*time.Second {
				t.Errorf("seed %d: %s", seed, f)
			}
			if f.kind == faultPromote && (f.at < 50*time.Second || f.at > 105*time.Second) {
				t.Errorf("seed %d promotes at %v", seed, f.at)
			}
		}
		for _, kind := range faultKinds() {
			if count[kind] == 0 || kind == faultPromote && count[kind] != 1 {
				t.Errorf("seed %d: %d times %s", seed, count[kind], kind)
			}
		}
	}
	if slices.Equal(makePlan(1, faultKinds(), 0, time.Minute, 3), makePlan(2, faultKinds(), 0, time.Minute, 3)) {
		t.Error("two seeds, one plan")
	}
}

func TestFaultsThatDoNotExist(t *testing.T) {
	t.Parallel()
	if _, err := parseKinds("kill,meteor"); err == nil {
		t.Error("meteor was taken")
	}
	if kinds, err := parseKinds("kill,cut"); err != nil || !slices.Equal(kinds, []string{"kill", "cut"}) {
		t.Errorf("%v, %v", kinds, err)
	}
}
