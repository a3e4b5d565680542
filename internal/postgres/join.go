package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// maxJoins is how many streams one statement counts.
const maxJoins = 256

type joinOrder = order[login.Ref, login.Login]

// runJoins counts the streams of a batch: when an instance stops, its thousands come to the
// others within seconds, and a commit for each is what would take them longest.
func (db *DB) runJoins(ctx context.Context, take func() []*joinOrder) {
	found, batch, err := db.joinScenes(ctx, take)
	for _, o := range batch {
		row, ok := found[o.item]
		switch {
		case err != nil:
			o.answer(login.Login{}, err)
		case !ok:
			o.answer(login.Login{}, login.ErrEnded)
		default:
			o.answer(newLogin(o.item, row.State, row.Ticket, row.Url, row.ExpiresIn))
		}
	}
}

// joinScenes is one statement, and what it found.
func (db *DB) joinScenes(ctx context.Context, take func() []*joinOrder) (found map[login.Ref]pgstore.JoinRow, batch []*joinOrder, err error) {
	batch, err = send(ctx, db, sendDeadline, take, func(ctx context.Context, conn *pgxpool.Conn, batch []*joinOrder) error {
		scenes, ids := make([]int32, len(batch)), make([]login.ID, len(batch))
		for i, o := range batch {
			scenes[i], ids[i] = o.item.Scene, o.item.ID
		}
		rows, err := db.on(conn).Join(ctx, scenes, ids)
		found = make(map[login.Ref]pgstore.JoinRow, len(rows))
		for _, r := range rows {
			found[login.Ref{Scene: r.ID, ID: r.Login}] = r
		}
		return err
	})
	return found, batch, err
}
