package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"scanlogin/internal/e2e/proc"
)

const aboutSoak = `
Streams that are held for an hour by two instances while codes run out and are renewed, connections
break and come back, and people log in. What the instances and the database hold is looked at once a
minute. By the first looks that count, everything has had its turn: codes have run out, sessions and
pushes have been removed. What leaks is larger in the last looks; and once everybody has left, what
the instances hold open is what they held before anybody came.
`

const (
	soakStreams = 15_000
	soakTTL     = 3 * time.Minute // of a code
	soakKeep    = 8 * time.Minute // of sessions; pushes stay as long, see the callback window
)

// look is what is held at one moment.
type look struct {
	after      time.Duration
	rss        float64 // MiB, of both instances
	goroutines float64
	files      float64
	tables     float64 // MiB, with their indexes
	scene      float64 // MiB, of the table that every login writes
	cpu        time.Duration
}

// benchSoak fails where something has grown, or where a login was lost.
func benchSoak(ctx context.Context, o options) (r result, err error) {
	streams := pick(o, soakStreams, 1500)
	w, err := startWorld(ctx, worldOptions{swarm: true, progress: os.Stderr, settings: map[string]string{
		"SCENE_POOL": strconv.Itoa(3 * streams), "SCENE_TTL": soakTTL.String(), "SESSION_TTL": soakKeep.String(),
		"WECHAT_CALLBACK_WINDOW": "90s", "CODES_READY_MAX": "0",
	}})
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	if err := w.tiePeople(ctx); err != nil {
		return result{}, err
	}
	before, err := w.look(ctx, time.Now())
	if err != nil {
		return result{}, err
	}
	report, looks, err := w.soak(ctx, o, streams)
	if err != nil {
		return result{}, err
	}
	// The browsers have gone; their grace, the codes on their screens and the connections to
	// and from WeChat that were kept for another request (90 s) are over now.
	if !proc.Pause(ctx, 2*time.Minute) {
		return result{}, ctx.Err()
	}
	after, err := w.look(ctx, time.Now())
	if err != nil {
		return result{}, err
	}
	return soakResult(before, after, looks, report), nil
}

// tiePeople ties nine in ten of swarm's people to an account: they are logged in, the
// others are asked for one and go away.
func (w *world) tiePeople(ctx context.Context) error {
	_, err := w.admin.Exec(ctx, `WITH a AS (INSERT INTO scanlogin.account (name, password) VALUES ('soak', '') RETURNING id)
		INSERT INTO scanlogin.wechat_identity (appid, openid, account_id)
		SELECT $1, 'oSWARM' || lpad(n::text, 22, '0'), a.id FROM a, generate_series(0, 899) n`, appID)
	return err
}

// soak puts on the load, and looks until it ends.
func (w *world) soak(ctx context.Context, o options, streams int) (swarmReport, []look, error) {
	var report swarmReport
	addrs := []string{w.instances[0].addr, w.instances[1].addr}
	done := make(chan error, 1)
	go func() {
		var err error
		// Opened over the life of a code, so that the codes run out evenly, too. What is late
		// only makes the latencies worthless, which aren't what an hour is for: the machine
		// may have other work.
		ramp := strconv.Itoa(streams / int(pick(o, soakTTL, 10*time.Second).Seconds()))
		report, err = w.swarm(ctx, addrs, "-streams", strconv.Itoa(streams), "-ramp", ramp, "-churn", "20", "-logins", "20", "-processes", "2",
			"-for", o.length.String(), "-grace", "20s", "-objective", "lost<1", "-objective", "errors<0.01%", "-objective", "unavailable<1", "-objective", "late<5%")
		done <- err
	}()
	start := time.Now()
	var looks []look
	tick := time.NewTicker(pick(o, time.Minute, 5*time.Second))
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err == nil && len(looks) < 2*fewLooks {
				err = errors.New("it was over before anything could be seen: -for is too short")
			}
			return report, looks, err
		case <-tick.C:
			l, err := w.look(ctx, start)
			if err != nil {
				return report, nil, errors.Join(err, <-done)
			}
			looks = append(looks, l)
		}
	}
}

func (w *world) look(ctx context.Context, start time.Time) (look, error) {
	l := look{after: time.Since(start)}
	for _, i := range w.instances {
		u, err := usageOf(i.pid())
		if err != nil {
			return l, err
		}
		n, err := goroutinesOf(ctx, i.ops)
		if err != nil {
			return l, err
		}
		l.rss, l.files, l.cpu, l.goroutines = l.rss+float64(u.rss)/(1<<20), l.files+float64(u.files), l.cpu+u.cpu, l.goroutines+float64(n)
	}
	const sizes = `SELECT sum(pg_total_relation_size(oid)) / 1048576.0, pg_total_relation_size('scanlogin.scene') / 1048576.0
		FROM pg_class WHERE relnamespace = 'scanlogin'::regnamespace AND relkind = 'r'`
	err := w.admin.QueryRow(ctx, sizes).Scan(&l.tables, &l.scene)
	return l, err
}

// fewLooks is how many looks make a figure.
const fewLooks = 5

func soakResult(before, after look, looks []look, report swarmReport) result {
	// The first quarter is for everything to have its turn.
	first, last := looks[len(looks)/4:][:fewLooks], looks[len(looks)-fewLooks:]
	t := table{Columns: []string{"both instances", "before", "first looks", "last looks", "after", "last / first"}}
	var targets []target
	for _, of := range []struct {
		what, unit string
		most       float64 // of the last looks beside the first
		value      func(look) float64
	}{
		{"resident memory", "MiB", 1.1, func(l look) float64 { return l.rss }},
		{"goroutines", "", 1.1, func(l look) float64 { return l.goroutines }},
		{"open files", "", 1.02, func(l look) float64 { return l.files }},
		{"tables and indexes", "MiB", 1.1, func(l look) float64 { return l.tables }},
		{"the table of scenes", "MiB", 1.1, func(l look) float64 { return l.scene }},
	} {
		one := func(ls ...look) figure {
			f := figure{Unit: of.unit}
			for _, l := range ls {
				f.add(of.value(l))
			}
			return f
		}
		grown := figure{Unit: "×"}
		grown.add(one(last...).median() / one(first...).median())
		t.Rows = append(t.Rows, row{of.what, []figure{one(before), one(first...), one(last...), one(after), grown}})
		targets = append(targets, atMost(of.what+" at the end beside the beginning", of.most, grown))
	}
	left := figure{Rounds: []float64{after.files - before.files}}
	targets = append(targets, atMost("files still open when all have left, beyond those before (connections of the pool)", 32, left))
	left = figure{Rounds: []float64{after.goroutines - before.goroutines}}
	targets = append(targets, atMost("goroutines likewise", 100, left))
	for _, o := range report.Objectives {
		targets = append(targets, target{"load", o.Objective, o.Reached, o.Met})
	}
	end := looks[len(looks)-1]
	load := table{Title: "What happened meanwhile", Columns: []string{"", ""}}
	for _, name := range []string{"opened", "expired", "hangups", "logins", "scans", "pushed", "completed"} {
		load.Rows = append(load.Rows, row{name, []figure{{Rounds: []float64{float64(report.Counts[name])}}}})
	}
	p := report.Latencies["push"]
	load.Rows = append(load.Rows,
		row{"scan to event, p50", []figure{{"ms", []float64{p.P50}}}},
		row{"scan to event, p99", []figure{{"ms", []float64{p.P99}}}},
		row{"scan to event, the worst", []figure{{"ms", []float64{p.Max}}}},
		row{"processor time of the instances", []figure{{"% of a core", []float64{100 * float64(end.cpu-before.cpu) / float64(end.after)}}}},
	)
	return result{Tables: []table{t, load}, Targets: targets, Charts: []chart{soakChart(looks)}}
}

// soakChart is each figure over time beside its value at the first look that counts.
func soakChart(looks []look) chart {
	c := chart{Name: "soak", Title: "An hour of churn: what is held, beside the first quarter's end", X: "minutes", Y: "×"}
	from := looks[len(looks)/4]
	for _, of := range []struct {
		name  string
		value func(look) float64
	}{
		{"memory", func(l look) float64 { return l.rss / from.rss }},
		{"open files", func(l look) float64 { return l.files / from.files }},
		{"goroutines", func(l look) float64 { return l.goroutines / from.goroutines }},
		{"tables", func(l look) float64 { return l.tables / from.tables }},
	} {
		l := line{Name: of.name}
		for _, k := range looks {
			l.Points = append(l.Points, point{k.after.Minutes(), of.value(k)})
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}

// failed is the error of a run that is judged, unlike a measurement.
func (r result) failed() error {
	var missed []error
	for _, t := range r.Targets {
		if !t.Met {
			missed = append(missed, fmt.Errorf("%s: %s, wanted %s", t.What, t.Reached, t.Target))
		}
	}
	return errors.Join(missed...)
}
