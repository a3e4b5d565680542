package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	burstLength = time.Second
	burstWires  = 4000            // more than an instance lets wait, so that some are turned away
	pushAgain   = 5 * time.Second // after which WeChat repeats what wasn't answered with 200
	pushTries   = 3
	singles     = 100 // callbacks one after the other, before a burst and after it
)

// burstCase is a database to have a burst at, and what was found there.
type burstCase struct {
	name      string
	instances int
	disk      map[string]string
	w         *world

	taken, away, inTheEnd            figure
	taken50, taken99, takenMax       figure
	away50, away99, awayMax          figure
	rssBefore, rssPeak, rssAfter     figure
	singleBefore, singleAfter, late9 figure
}

// startBursts starts two instances with a database that is as fast as this machine's disk,
// and two, and one alone, with a database that isn't.
func startBursts(ctx context.Context, n int) (cases []*burstCase, stop func(context.Context) error, err error) {
	stop = func(ctx context.Context) (err error) {
		for _, c := range cases {
			err = errors.Join(err, c.w.stop(ctx))
		}
		return err
	}
	for _, c := range []*burstCase{
		{name: "two instances, the disk as it is", instances: 2, disk: nil},
		{name: "two instances, 1 ms fsync", instances: 2, disk: slowDisk()},
		{name: "one instance, 1 ms fsync", instances: 1, disk: slowDisk()},
	} {
		o := worldOptions{instances: c.instances, postgres: c.disk, settings: map[string]string{
			"SCENE_POOL": strconv.Itoa(n + 2*singles), "CODES_READY_MAX": "0", "DRAIN_WINDOW": "1s",
		}}
		if c.w, err = startWorld(ctx, o); err != nil {
			return nil, nil, errors.Join(err, stop(context.WithoutCancel(ctx)))
		}
		cases = append(cases, c)
		if err := c.w.addPeople(ctx, n+2*singles); err != nil {
			return nil, nil, errors.Join(err, stop(context.WithoutCancel(ctx)))
		}
	}
	return cases, stop, nil
}

// answered is what came of one push of a burst.
type answered struct {
	status int
	took   time.Duration // from when it was due
	late   time.Duration // that it was sent
	err    error
}

// burst pushes n scans within a second, however long those before take, and those that were
// turned away again as WeChat does.
func (c *burstCase) burst(ctx context.Context, n int) error {
	pushes, err := c.w.waiting(ctx, n+2*singles, nil)
	if err != nil {
		return err
	}
	wires, err := dialWires(ctx, c.w.instances, min(burstWires*len(c.w.instances), n))
	if err != nil {
		return err
	}
	defer wires.close()
	before, err := singleCallback(ctx, wires, pushes[n:n+singles])
	if err != nil {
		return err
	}
	memory := watchMemory(pids(c.w.instances)...)
	pending, start := pushes[:n], time.Now()
	offset := func(p push) time.Duration { return time.Duration(p.scene-1) * burstLength / time.Duration(n) }
	for try := range pushTries {
		if len(pending) == 0 {
			break
		}
		answers := make([]answered, len(pending))
		if err := arrive(ctx, start.Add(time.Duration(try)*pushAgain), pending, offset, func(i int, due time.Time) {
			answers[i] = wires.push(ctx, pending[i], due)
		}); err != nil {
			return err
		}
		if try == 0 {
			if err := c.note(answers); err != nil {
				return err
			}
		}
		if pending, err = c.turnedAway(ctx, pending, answers); err != nil {
			return err
		}
	}
	peak, err := memory()
	if err != nil {
		return err
	}
	after, err := singleCallback(ctx, wires, pushes[n+singles:])
	if err != nil {
		return err
	}
	stored, err := c.w.scanned(ctx)
	if err != nil {
		return err
	}
	usage, err := usageOf(pids(c.w.instances)...)
	if err != nil {
		return err
	}
	c.inTheEnd.add(float64(len(stored) - 2*singles))
	c.singleBefore.add(milliseconds(before))
	c.singleAfter.add(milliseconds(after))
	c.rssBefore.add(mib(peak.before))
	c.rssPeak.add(mib(peak.most))
	c.rssAfter.add(mib(usage.rss))
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// note keeps what came of the first try.
func (c *burstCase) note(answers []answered) error {
	var taken, away, late []time.Duration
	for _, a := range answers {
		switch {
		case a.err != nil:
			return a.err
		case a.status == http.StatusOK:
			taken = append(taken, a.took)
		case a.status == http.StatusServiceUnavailable:
			away = append(away, a.took)
		default:
			return fmt.Errorf("a push was answered with status %d", a.status)
		}
		late = append(late, a.late)
	}
	for _, sorted := range [][]time.Duration{taken, away, late} {
		slices.Sort(sorted)
	}
	c.taken.add(float64(len(taken)))
	c.away.add(float64(len(away)))
	c.taken50.add(milliseconds(quantile(taken, 0.5)))
	c.taken99.add(milliseconds(quantile(taken, 0.99)))
	c.takenMax.add(milliseconds(quantile(taken, 1)))
	if len(away) > 0 {
		c.away50.add(milliseconds(quantile(away, 0.5)))
		c.away99.add(milliseconds(quantile(away, 0.99)))
		c.awayMax.add(milliseconds(quantile(away, 1)))
	}
	c.late9.add(milliseconds(quantile(late, 0.99)))
	return nil
}

// turnedAway are the pushes that weren't answered with 200. What was has to be stored.
func (c *burstCase) turnedAway(ctx context.Context, pushes []push, answers []answered) (again []push, err error) {
	stored, err := c.w.scanned(ctx)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		switch {
		case a.err != nil:
			return nil, a.err
		case a.status != http.StatusOK:
			again = append(again, pushes[i])
		case !stored[pushes[i].scene]:
			return nil, fmt.Errorf("the scan of scene %d was answered with 200 and isn't stored", pushes[i].scene)
		}
	}
	return again, nil
}

// arrive calls do for each push at its moment, and returns when all have come back.
func arrive(ctx context.Context, start time.Time, pushes []push, offset func(push) time.Duration, do func(i int, due time.Time)) error {
	var work sync.WaitGroup
	defer work.Wait()
	for i, p := range pushes {
		due := start.Add(offset(p))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
		work.Go(func() { do(i, due) })
	}
	return nil
}

// wires are connections that are kept alive. Each carries one push at a time.
type wires chan *wire

// dialWires opens n, to the instances in turn.
func dialWires(ctx context.Context, instances []*instance, n int) (wires, error) {
	w := make(wires, n)
	for i := range n {
		c, err := dialWire(ctx, instances[i%len(instances)].addr)
		if err != nil {
			w.close()
			return nil, err
		}
		w <- c
	}
	return w, nil
}

// push waits for a connection that is free.
func (w wires) push(ctx context.Context, p push, due time.Time) (a answered) {
	var c *wire
	select {
	case <-ctx.Done():
		return answered{err: ctx.Err()}
	case c = <-w:
	}
	defer func() { w <- c }()
	a.late = time.Since(due)
	a.status, _, a.err = c.do(p.request)
	a.took = time.Since(due)
	return a
}

// close is for when nothing is pushed any more.
func (w wires) close() {
	for range len(w) {
		_ = (<-w).conn.Close()
	}
}

// singleCallback is the median of pushes one after the other.
func singleCallback(ctx context.Context, w wires, pushes []push) (time.Duration, error) {
	var waits []time.Duration
	for _, p := range pushes {
		a := w.push(ctx, p, time.Now())
		if a.err != nil || a.status != http.StatusOK {
			return 0, fmt.Errorf("a push was answered with status %d: %w", a.status, a.err)
		}
		waits = append(waits, a.took)
	}
	slices.Sort(waits)
	return quantile(waits, 0.5), nil
}

// memory is what programs had resident.
type memory struct{ before, most int64 }

// watchMemory looks often until it is asked for what it saw.
func watchMemory(pids ...int) (ask func() (memory, error)) {
	var m memory
	var err error
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for err == nil {
			var u usage
			if u, err = usageOf(pids...); m.before == 0 {
				m.before = u.rss
			}
			m.most = max(m.most, u.rss)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() (memory, error) {
		close(end)
		<-ended
		return m, err
	}
}

// storedTarget wants everything stored in every round.
func (c *burstCase) storedTarget(n int) target {
	least := slices.Min(c.inTheEnd.Rounds)
	return target{
		"of " + readable(float64(n)) + " callbacks in a second stored in the end, " + c.name, "all, in each round",
		readable(least) + " at least", least == float64(n),
	}
}

// burstTable has a row for each thing that was measured, and a column for each database.
func burstTable(n int, cases []*burstCase) table {
	t := table{Title: fmt.Sprintf("%s callbacks within a second", readable(float64(n))), Columns: []string{""}}
	for _, c := range cases {
		t.Columns = append(t.Columns, c.name)
	}
	add := func(name, unit string, of func(*burstCase) figure) {
		r := row{Name: name}
		for _, c := range cases {
			f := of(c)
			f.Unit = unit
			r.Cells = append(r.Cells, f)
		}
		t.Rows = append(t.Rows, r)
	}
	add("answered with 200", "", func(c *burstCase) figure { return c.taken })
	add("after, p50", "ms", func(c *burstCase) figure { return c.taken50 })
	add("after, p99", "ms", func(c *burstCase) figure { return c.taken99 })
	add("the slowest", "ms", func(c *burstCase) figure { return c.takenMax })
	add("turned away with 503", "", func(c *burstCase) figure { return c.away })
	add("after, p50", "ms", func(c *burstCase) figure { return c.away50 })
	add("after, p99", "ms", func(c *burstCase) figure { return c.away99 })
	add("the slowest", "ms", func(c *burstCase) figure { return c.awayMax })
	add("stored when WeChat has pushed them again", "", func(c *burstCase) figure { return c.inTheEnd })
	add("sent late, p99", "ms", func(c *burstCase) figure { return c.late9 })
	add("memory of the instances before", "MiB", func(c *burstCase) figure { return c.rssBefore })
	add("at most", "MiB", func(c *burstCase) figure { return c.rssPeak })
	add("afterwards", "MiB", func(c *burstCase) figure { return c.rssAfter })
	add("one callback alone, before", "ms", func(c *burstCase) figure { return c.singleBefore })
	add("one callback alone, afterwards", "ms", func(c *burstCase) figure { return c.singleAfter })
	return t
}
