package postgres

import (
	"bytes"
	"context"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/limit"
	"scanlogin/internal/postgres/pgstore"
)

const (
	// maxTakes is how many takes one statement carries.
	maxTakes = 256
	// takeDeadline bounds the wait for a connection, and then the statement: somebody who
	// may well be refused is told soon, or goes on without.
	takeDeadline = time.Second
)

// Limits keeps what somebody has used up. It implements limit.Store.
type Limits struct{ DB *DB }

type takeOrder = order[[]limit.Count, []time.Duration]

// Take counts together with whoever else wants to. What a crash forgets of it is one burst.
func (s Limits) Take(ctx context.Context, counts []limit.Count) ([]time.Duration, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	return s.DB.takes.do(ctx, counts)
}

// GiveBack takes back what was counted.
func (s Limits) GiveBack(ctx context.Context, counts []limit.Count) error {
	var p pgstore.GiveBackLimitsParams
	for _, c := range counts {
		p.Keys = append(p.Keys, c.Key[:])
		p.Steps = append(p.Steps, c.Rate.Step().Seconds())
		p.Growing = append(p.Growing, c.Rate.Growing)
	}
	return s.DB.relaxed.GiveBackLimits(ctx, p)
}

// runTakes answers one batch with one statement.
func (db *DB) runTakes(ctx context.Context, take func() []*takeOrder) {
	waits, batch, err := db.takeAll(ctx, take)
	for _, o := range batch {
		if err != nil {
			o.answer(nil, err)
			continue
		}
		own := make([]time.Duration, len(o.item))
		for i := range own {
			own[i] = time.Duration(math.Ceil(waits[i]*1e6)) * time.Microsecond
		}
		waits = waits[len(own):]
		o.answer(own, nil)
	}
}

func (db *DB) takeAll(ctx context.Context, take func() []*takeOrder) (waits []float64, batch []*takeOrder, err error) {
	batch, err = send(ctx, db, takeDeadline, take, func(ctx context.Context, conn *pgxpool.Conn, batch []*takeOrder) error {
		waits, err = db.on(relaxed{conn}).TakeLimits(ctx, takes(batch))
		return err
	})
	return waits, batch, err
}

// takes is a batch as the statement wants it: each key once, in ascending order.
func takes(batch []*takeOrder) (p pgstore.TakeLimitsParams) {
	for _, o := range batch {
		for _, c := range o.item {
			p.Keys = append(p.Keys, c.Key[:])
		}
	}
	slices.SortFunc(p.Keys, bytes.Compare)
	p.Keys = slices.CompactFunc(p.Keys, bytes.Equal)
	for i, o := range batch {
		for _, c := range o.item {
			key, _ := slices.BinarySearchFunc(p.Keys, c.Key[:], bytes.Compare)
			p.Ask = append(p.Ask, int32(i))
			p.KeyOf = append(p.KeyOf, int32(key+1))
			p.Bursts = append(p.Bursts, c.Rate.Burst)
			p.Steps = append(p.Steps, c.Rate.Step().Seconds())
			p.Growing = append(p.Growing, c.Rate.Growing)
		}
	}
	return p
}
