package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// lapsHeld is how often each scene is claimed while the snapshot is held. At the default
// TTL and rest that takes an hour.
const lapsHeld = 10

// heldFigures are claims without and with an old snapshot.
type heldFigures struct {
	calm, held figure
	laps       figure // around the ring, with the snapshot held
	hot        figure
}

// measureHeld runs one round of each case of the targets.
func (s *claimServer) measureHeld(ctx context.Context, o options, found map[claimCase]*heldFigures) error {
	for _, scenes := range claimPools(o) {
		p, err := s.pool(ctx, scenes)
		if err != nil {
			return err
		}
		for _, clients := range claimClients() {
			c := claimCase{scenes, clients}
			if found[c] == nil {
				found[c] = &heldFigures{hot: figure{Unit: "%"}}
			}
			if err := p.measureHeld(ctx, clients, found[c]); err != nil {
				return fmt.Errorf("%d scenes, %d clients, an old snapshot: %w", scenes, clients, err)
			}
		}
	}
	return nil
}

func (p *claimPool) measureHeld(ctx context.Context, clients int, f *heldFigures) error {
	most := int64(lapsHeld * p.scenes)
	calm, err := p.claims(ctx, clients, most)
	if err != nil {
		return err
	}
	var held claimed
	err = p.withSnapshot(ctx, func() (err error) {
		held, err = p.claims(ctx, clients, most)
		return err
	})
	if err != nil {
		return err
	}
	f.calm.add(calm.rate)
	f.held.add(held.rate)
	f.laps.add(float64(held.n) / float64(p.scenes))
	f.hot.add(held.hot())
	return nil
}

// withSnapshot calls f while another session looks at the database as it was before, as a
// backup does, and tidies up after it.
func (p *claimPool) withSnapshot(ctx context.Context, f func() error) error {
	err := pgx.BeginTxFunc(ctx, p.admin, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT count(*) FROM scanlogin.lease")
		return errors.Join(err, f())
	})
	if err != nil {
		return err
	}
	_, err = p.admin.Exec(ctx, "VACUUM scanlogin.scene")
	return err
}

func heldTable(o options, found map[claimCase]*heldFigures) table {
	t := table{
		Title:   "A second, under an old snapshot",
		Columns: []string{"scenes", "clients", "claims without", "claims with it", "ratio", "claims of each scene meanwhile", "HOT"},
	}
	for _, scenes := range claimPools(o) {
		for _, clients := range claimClients() {
			f := found[claimCase{scenes, clients}]
			t.Rows = append(t.Rows, row{readable(float64(scenes)), []figure{
				number(clients), f.calm, f.held, f.held.over(f.calm), f.laps, f.hot,
			}})
		}
	}
	return t
}

func heldTargets(o options, found map[claimCase]*heldFigures) (all []target) {
	for _, clients := range claimClients() {
		ratio := worst(o, clients, func(c claimCase) figure { return found[c].held.over(found[c].calm) })
		all = append(all, atLeast("claims under an old snapshot beside those without, "+waiting(clients)+", the worst pool", 0.8, ratio))
	}
	return all
}
