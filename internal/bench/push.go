package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"scanlogin/internal/e2e/proc"
)

const aboutPush = `
From a callback that is sent to the ` + "`bind-required`" + ` event in its browser. The callback goes to any of
the instances, and the browser's stream is on any, so two of three events cross over. Beside it "bare",
the least that does this: as many processes with the same endpoints on the same PostgreSQL, which take
the scene out of the body unchecked, UPDATE its row, NOTIFY, and write to the stream when they hear of
it. ` + "`cmd/swarm`" + ` drives both through the same HTTP, in turn, at random moments (Poisson); time runs from
when a callback is really sent. Streams are opened beforehand, with codes made ahead, and nothing else
happens meanwhile. All of it shares the cores, the load too: "begun late" is the share of its steps
that began over 10 ms late, and above 1 % the figures are not the server's alone.

Ours does what bare doesn't: it checks and parses the push, keeps the reply for WeChat's repeats, looks
at the row before it tells anybody, and looks again at all that it streams once a second. The look is
one more trip to PostgreSQL, which is most of the difference in the p50. What bends the curve over scans
is that the cores are full: on two, a scan costs bare about 0.7 ms of CPU and ours 0.9 to 1.2 ms, 0.2 ms of
either being the load's, by samples on a busy machine; so they should be full at about 2,700 and 1,800
scans/s. What bends the curve over
instances is that each hears of each scan, which costs both sides 0.06 to 0.07 ms of CPU an instance
and scan, half of it PostgreSQL's: from about 16 instances on that should be more than all the rest.
`

const (
	pushInstances = 3
	pushScenes    = 100_000
	pushRamp      = 2000 // streams opened a second
)

// pushLoad is what a measurement does: streams are opened, then some of them are scanned.
type pushLoad struct {
	streams int
	rate    int // scans a second
	length  time.Duration
}

// pushFigures are of one side under one load.
type pushFigures struct{ p50, p99, late figure }

func (f *pushFigures) add(r swarmReport) {
	push := r.Latencies["push.service"]
	f.p50.Unit, f.p99.Unit, f.late.Unit = "ms", "ms", "%"
	f.p50.add(push.P50)
	f.p99.add(push.P99)
	f.late.add(100 * float64(r.Counts["late"]) / float64(max(1, r.Counts["steps"])))
}

// pushPair is both sides under one load.
type pushPair struct {
	instances  int
	load       pushLoad
	ours, bare pushFigures
}

func (p *pushPair) cells() []figure {
	return []figure{
		p.bare.p50, p.ours.p50, p.ours.p50.over(p.bare.p50),
		p.bare.p99, p.ours.p99, p.ours.p99.over(p.bare.p99),
		p.bare.late, p.ours.late,
	}
}

func pushColumns(first string) []string {
	return []string{first, "bare p50", "ours p50", "ratio", "bare p99", "ours p99", "ratio", "bare: begun late", "ours: begun late"}
}

func benchPush(ctx context.Context, o options) (result, error) {
	three, err := pushOverRates(ctx, o)
	if err != nil {
		return result{}, err
	}
	many, err := pushOverInstances(ctx, o)
	if err != nil {
		return result{}, err
	}
	three.Tables = append(three.Tables, many.Tables...)
	three.Charts = append(three.Charts, many.Charts...)
	return three, nil
}

// pushOverRates is what the target speaks of, and what comes of more and of fewer scans.
func pushOverRates(ctx context.Context, o options) (r result, err error) {
	w, err := startPushWorld(ctx, pushInstances, pushInstances)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	goal := &pushPair{load: pushLoad{pick(o, 6000, 600), pick(o, 1000, 200), pick(o, 5*time.Second, time.Second)}}
	for range o.rounds {
		// The instances would go on looking after those whom they don't know to have left.
		if err := errors.Join(w.empty(ctx), w.round(ctx, goal)); err != nil {
			return result{}, err
		}
	}
	var growth []*pushPair
	for _, rate := range pick(o, []int{100, 300, 1000, 2000, 4000}, []int{100, 300}) {
		growth = append(growth, &pushPair{load: pushLoad{pick(o, 2000, 300), rate, pick(o, 4*time.Second, time.Second)}})
	}
	for range min(3, o.rounds) {
		if err := w.round(ctx, growth...); err != nil {
			return result{}, err
		}
	}
	t := table{Title: fmt.Sprintf("%d instances, %d streams", pushInstances, goal.load.streams), Columns: pushColumns("scans/s")}
	t.Rows = append(t.Rows, row{readable(float64(goal.load.rate)), goal.cells()})
	rates, c := grown("scans/s", growth, func(p *pushPair) int { return p.load.rate })
	rates.Title = fmt.Sprintf("The same over scans a second, with %d streams", growth[0].load.streams)
	c.Name, c.Title = "push-rates", fmt.Sprintf("From callback to event, %d instances", pushInstances)
	return result{
		Tables: []table{t, rates},
		Charts: []chart{c},
		Targets: []target{
			atMost("callback to event at 1,000 scans/s, p50 beside the bare program's", 2, goal.ours.p50.over(goal.bare.p50)),
			atMost("the same, p99", 5, goal.ours.p99.over(goal.bare.p99)),
		},
	}, nil
}

// pushOverInstances keeps the load and adds instances, of which each hears of each scan.
func pushOverInstances(ctx context.Context, o options) (r result, err error) {
	counts := pick(o, []int{1, 2, 4, 8, 16, 32}, []int{1, 2})
	w, err := startPushWorld(ctx, counts[0], counts[len(counts)-1])
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	var growth []*pushPair
	for _, n := range counts {
		if err := w.widen(ctx, n); err != nil {
			return result{}, err
		}
		p := &pushPair{instances: n, load: pushLoad{pick(o, 600, 200), pick(o, 300, 200), pick(o, 2*time.Second, time.Second)}}
		for range min(3, o.rounds) {
			if err := w.round(ctx, p); err != nil {
				return result{}, err
			}
		}
		growth = append(growth, p)
	}
	t, c := grown("instances", growth, func(p *pushPair) int { return p.instances })
	t.Title = fmt.Sprintf("Over instances, at %d scans/s, with %d streams in all", growth[0].load.rate, growth[0].load.streams)
	c.Name, c.Title = "push-instances", fmt.Sprintf("From callback to event, %d scans/s in all", growth[0].load.rate)
	return result{Tables: []table{t}, Charts: []chart{c}}, nil
}

// grown is a growth as a table and as a picture.
func grown(what string, growth []*pushPair, x func(*pushPair) int) (table, chart) {
	t := table{Columns: pushColumns(what)}
	lines := []line{{Name: "ours, p99"}, {Name: "bare, p99"}, {Name: "ours, p50"}, {Name: "bare, p50"}}
	for _, p := range growth {
		at := float64(x(p))
		t.Rows = append(t.Rows, row{readable(at), p.cells()})
		for i, f := range []figure{p.ours.p99, p.bare.p99, p.ours.p50, p.bare.p50} {
			lines[i].Points = append(lines[i].Points, point{at, f.median()})
		}
	}
	return t, chart{X: what, Y: "ms", Lines: lines}
}

// pushWorld is a world with the bare program beside it, on the same PostgreSQL.
type pushWorld struct {
	*world
	bare bareInstances
	most int // instances there will be
}

// startPushWorld makes all codes beforehand, so that opening a stream asks WeChat for
// nothing.
func startPushWorld(ctx context.Context, instances, most int) (_ *pushWorld, err error) {
	w, err := startWorld(ctx, worldOptions{
		instances: instances, swarm: true,
		settings: map[string]string{
			"SCENE_POOL": strconv.Itoa(pushScenes), "CODES_READY_MAX": "0",
			"SCENE_GRACE": "10m", // nothing is written for those whom a round has left behind
		},
		// All that the pools may open, of both sides.
		postgres: map[string]string{"max_connections": strconv.Itoa(100 + 2*most*(bareConns+1))},
	})
	if err != nil {
		return nil, err
	}
	p := &pushWorld{world: w, bare: bareInstances{w: w}, most: most}
	for _, prepare := range []func(context.Context) error{
		p.makeCodes, p.createBare, func(ctx context.Context) error { return p.widen(ctx, instances) },
	} {
		if err := prepare(ctx); err != nil {
			return nil, errors.Join(err, p.stop(context.WithoutCancel(ctx)))
		}
	}
	return p, nil
}

// makeCodes gives each scene a code that was made ahead.
func (w *pushWorld) makeCodes(ctx context.Context) error {
	_, err := w.admin.Exec(ctx, `UPDATE scanlogin.scene SET ready_ticket = rpad('ticket' || id, 96, 'x'),
		ready_url = 'http://weixin.qq.com/q/' || lpad(id::text, 22, '0'), ready_until = now() + interval '1 day', ready_timeline = scanlogin.timeline()`)
	if err == nil {
		_, err = w.admin.Exec(ctx, "VACUUM (FULL, ANALYZE) scanlogin.scene")
	}
	return err
}

// widen starts instances of both sides until there are n.
func (w *pushWorld) widen(ctx context.Context, n int) error {
	for len(w.instances) < n {
		if err := w.startInstance(ctx); err != nil {
			return err
		}
	}
	return w.bare.start(ctx, n, w.most)
}

func (w *pushWorld) stop(ctx context.Context) error {
	w.bare.stop(ctx)
	return w.world.stop(ctx)
}

// round is these loads once, at both sides in turn.
func (w *pushWorld) round(ctx context.Context, pairs ...*pushPair) error {
	var ours []string
	for _, i := range w.instances {
		ours = append(ours, i.addr)
	}
	for _, p := range pairs {
		if err := w.load(ctx, p.load, w.bare.addrs, &p.bare); err != nil {
			return fmt.Errorf("the bare program: %w", err)
		}
		if err := w.load(ctx, p.load, ours, &p.ours); err != nil {
			return err
		}
	}
	return nil
}

// load lets each stream be opened, and so many be scanned.
func (w *pushWorld) load(ctx context.Context, l pushLoad, addrs []string, f *pushFigures) error {
	r, err := w.swarm(ctx, addrs, "-streams", strconv.Itoa(l.streams), "-ramp", strconv.Itoa(pushRamp),
		"-scans", strconv.Itoa(l.rate), "-for", l.window().String(), "-objective", "late<=100%", "-objective", "lost<1", "-objective", "errors<1")
	if err != nil {
		return err
	}
	for _, o := range r.Objectives {
		if !o.Met {
			return fmt.Errorf("%d scans/s: %s: %s", l.rate, o.Objective, o.Reached)
		}
	}
	if n := r.Counts["codes"]; n != int64(l.streams) {
		return fmt.Errorf("%d streams have seen %d codes", l.streams, n)
	}
	f.add(r)
	return nil
}

// window is how long there is something to scan.
func (l pushLoad) window() time.Duration {
	return min(l.length, time.Duration(l.streams)*time.Second/time.Duration(l.rate))
}

// empty waits until the instances have noticed that all have left.
func (w *pushWorld) empty(ctx context.Context) error {
	for _, i := range w.instances {
		var failed error
		err := proc.Eventually(ctx, "an instance is empty", func() bool {
			n, err := metricOf(ctx, i.ops, "scanlogin_streams_open")
			failed = err
			return err == nil && n == 0
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}
