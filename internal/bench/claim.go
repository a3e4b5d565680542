package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

const aboutClaim = `
Claims as an instance makes them (so many that wait, over and over), the same statement by pgbench
with one login in each, and the floor: pgbench's UPDATE of one row of as large a table by its
primary key, prepared, on the same server. Every commit waits for the disk. Scenes are free again
at once, so that the ring never runs dry.

Whoever comes while a statement is under way goes with the next one, so nearly all who wait are in
each: 13 of 16, two thirds of 64. With many that is far above the floor, and what makes it so is the
sync that they share: where one takes a millisecond, which the last table emulates, it is the whole
difference. With one client there is nothing to share, and a claim does more than an UPDATE by key:
it steps the ring, locks the scene if it is free, and returns the code that was made ahead. That
statement alone is at two thirds to three quarters of the floor in pgbench, and the pool, the context
and the arrays of a batch of one, in Go, take it below: an UPDATE by key from Go is at three quarters,
too.

An old snapshot, as a backup holds one, keeps the old versions of rows alive. A claim finds its scene
by key all the same; in a small pool each row is then written on page after page, and in a large
one no page is visited twice before the snapshot ends. The HOT share of the largest pool is that of
a table whose pages are being filled for the first time.
`

// claimCase is a size of the pool, and how many want a scene at the same time, over and
// over.
type claimCase struct {
	scenes, clients int
}

// claimFigures are what was measured of a case.
type claimFigures struct {
	floor, bare, ours figure
	fromGo            figure // the floor; with one client only
	together          figure // claims a statement
	hot               figure
}

func claimPools(o options) []int {
	return pick(o, []int{1_000, 100_000, 1_000_000}, []int{1_000, 10_000})
}

// claimClients are those of the targets.
func claimClients() []int { return []int{1, 16, 64} }

// The pictures need a few cases more: over clients in the middle pool, over pools with all
// the clients.
func claimCases(o options) (all []claimCase) {
	for _, scenes := range claimPools(o) {
		for _, clients := range claimClients() {
			all = append(all, claimCase{scenes, clients})
		}
	}
	if !o.quick {
		all = append(all, claimCase{100_000, 4}, claimCase{100_000, 128}, claimCase{10_000, 64})
	}
	return all
}

func benchClaim(ctx context.Context, o options) (r result, err error) {
	s, err := startClaimServer(ctx, map[string]string{"max_connections": "300"})
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, s.stop(context.WithoutCancel(ctx))) }()
	slow, err := startClaimServer(ctx, map[string]string{"commit_delay": "1000", "commit_siblings": "0"})
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, slow.stop(context.WithoutCancel(ctx))) }()

	calm, held, batching := map[claimCase]*claimFigures{}, map[claimCase]*heldFigures{}, newSlowFigures()
	for range o.rounds {
		if err := s.measureCases(ctx, o, calm); err != nil {
			return result{}, err
		}
		if err := s.measureHeld(ctx, o, held); err != nil {
			return result{}, err
		}
		if err := slow.measureSlow(ctx, o, batching); err != nil {
			return result{}, err
		}
	}
	r.Tables = []table{calmTable(o, calm), heldTable(o, held), slowTable(batching)}
	r.Targets = slices.Concat(calmTargets(o, calm), heldTargets(o, held), slowTargets(batching))
	if !o.quick {
		r.Charts = claimCharts(calm)
	}
	return r, nil
}

// measureCases runs one round of each case.
func (s *claimServer) measureCases(ctx context.Context, o options, found map[claimCase]*claimFigures) error {
	for _, c := range claimCases(o) {
		p, err := s.pool(ctx, c.scenes)
		if err != nil {
			return err
		}
		if found[c] == nil {
			found[c] = &claimFigures{hot: figure{Unit: "%"}}
		}
		if err := p.measureCase(ctx, c.clients, found[c]); err != nil {
			return fmt.Errorf("%d scenes, %d clients: %w", c.scenes, c.clients, err)
		}
	}
	return nil
}

func (p *claimPool) measureCase(ctx context.Context, clients int, f *claimFigures) error {
	length := time.Second
	if clients > 64 {
		length *= 3 // pgbench's include the time to connect
	}
	floor, err := p.floor(ctx, clients, length)
	if err != nil {
		return err
	}
	bare, err := p.bare(ctx, clients, length)
	if err != nil {
		return err
	}
	ours, err := p.claims(ctx, clients, noEnd)
	if err != nil {
		return err
	}
	if clients == 1 {
		fromGo, err := p.floorFromGo(ctx)
		if err != nil {
			return err
		}
		f.fromGo.add(fromGo.rate)
	}
	f.floor.add(floor.rate)
	f.bare.add(bare.rate)
	f.ours.add(ours.rate)
	f.together.add(ours.together())
	f.hot.add(ours.hot())
	return nil
}

func calmTable(o options, found map[claimCase]*claimFigures) table {
	t := table{
		Title:   "A second",
		Columns: []string{"scenes", "clients", "UPDATE by key, pgbench", "the claim's statement, pgbench", "beside the UPDATE", "UPDATE by key, from Go", "claims", "beside pgbench's UPDATE", "beside Go's", "claims a statement", "HOT"},
	}
	for _, c := range claimCases(o) {
		f := found[c]
		t.Rows = append(t.Rows, row{readable(float64(c.scenes)), []figure{
			number(c.clients), f.floor, f.bare, f.bare.over(f.floor), f.fromGo, f.ours, f.ours.over(f.floor), f.ours.over(f.fromGo), f.together, f.hot,
		}})
	}
	return t
}

func number(n int) figure { return figure{Rounds: []float64{float64(n)}} }

func calmTargets(o options, found map[claimCase]*claimFigures) (all []target) {
	for _, clients := range claimClients() {
		ratio := worst(o, clients, func(c claimCase) figure { return found[c].ours.over(found[c].floor) })
		all = append(all, atLeast("claims beside UPDATE by primary key, "+waiting(clients)+", the worst pool", 0.9, ratio))
	}
	return all
}

func waiting(clients int) string {
	if clients == 1 {
		return "1 client"
	}
	return strconv.Itoa(clients) + " clients"
}

// worst is the figure of the pool where it is the least.
func worst(o options, clients int, of func(claimCase) figure) figure {
	var all []figure
	for _, scenes := range claimPools(o) {
		all = append(all, of(claimCase{scenes, clients}))
	}
	return slices.MinFunc(all, func(a, b figure) int { return cmp.Compare(a.median(), b.median()) })
}

// claimCharts are over clients, and over the size of the pool.
func claimCharts(found map[claimCase]*claimFigures) []chart {
	lines := func(x func(claimCase) int, chosen func(claimCase) bool) []line {
		floor, bare, ours := line{Name: "UPDATE by key"}, line{Name: "the statement"}, line{Name: "claims"}
		for c, f := range found {
			if chosen(c) {
				at := float64(x(c))
				floor.Points = append(floor.Points, point{at, f.floor.median()})
				bare.Points = append(bare.Points, point{at, f.bare.median()})
				ours.Points = append(ours.Points, point{at, f.ours.median()})
			}
		}
		for _, l := range []line{floor, bare, ours} {
			slices.SortFunc(l.Points, func(a, b point) int { return cmp.Compare(a.X, b.X) })
		}
		return []line{ours, bare, floor}
	}
	return []chart{{
		Name: "claims-clients", Title: "Claims a second over clients, 100,000 scenes", X: "clients", Y: "a second",
		Lines: lines(func(c claimCase) int { return c.clients }, func(c claimCase) bool { return c.scenes == 100_000 }),
	}, {
		Name: "claims-pool", Title: "Claims a second over the size of the pool, 64 clients", X: "scenes", Y: "a second",
		Lines: lines(func(c claimCase) int { return c.scenes }, func(c claimCase) bool { return c.clients == 64 }),
	}}
}
