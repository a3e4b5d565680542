package main

import (
	"context"
	"strconv"
	"time"
)

const slowWaiting = 64

// slowFigures are claims on a disk that takes a millisecond to sync.
type slowFigures struct {
	batched  figure
	together figure         // claims a statement
	alone    map[int]figure // one claim a statement, over so many connections
	floor    figure         // of one connection
}

func newSlowFigures() *slowFigures { return &slowFigures{alone: map[int]figure{}} }

// slowConnections are one, as many as an instance's pool has, and one for each who waits.
func slowConnections() []int { return []int{1, 16, slowWaiting} }

func (s *claimServer) measureSlow(ctx context.Context, o options, f *slowFigures) error {
	p, err := s.pool(ctx, pick(o, 100_000, 10_000))
	if err != nil {
		return err
	}
	c, err := p.claims(ctx, slowWaiting, noEnd)
	if err != nil {
		return err
	}
	f.batched.add(c.rate)
	f.together.add(c.together())
	floor, err := p.floor(ctx, 1, time.Second)
	if err != nil {
		return err
	}
	f.floor.add(floor.rate)
	for _, n := range slowConnections() {
		w, err := p.aloneEach(ctx, n)
		if err != nil {
			return err
		}
		alone := f.alone[n]
		alone.add(w.rate)
		f.alone[n] = alone
	}
	return nil
}

func slowTable(f *slowFigures) table {
	t := table{
		Title:   "A second, where a sync takes a millisecond (`commit_delay`), 64 waiting",
		Columns: []string{"", "claims", "claims a statement", "batching beside it"},
		Rows: []row{
			{"batching: one connection", []figure{f.batched, f.together, {}}},
			{"UPDATE by key, pgbench, one connection", []figure{f.floor, {}, f.batched.over(f.floor)}},
		},
	}
	for _, n := range slowConnections() {
		t.Rows = append(t.Rows, row{"one claim a statement, connections: " + strconv.Itoa(n), []figure{f.alone[n], number(1), f.batched.over(f.alone[n])}})
	}
	return t
}

func slowTargets(f *slowFigures) []target {
	return []target{
		atLeast("claims with 64 waiting on a slow disk, beside one claim a statement on the same connection", 10, f.batched.over(f.alone[1])),
	}
}
