package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// claimSteps is how many scenes a claim tries. The ring makes the next scene the one
// that has rested longest, so a few misses in a row mean that the pool is full; a pool
// that is smaller than this is searched whole.
const claimSteps = 16

// maxClaims is how many claims one statement carries: few enough that the last of them is
// hardly later than the first.
const maxClaims = 256

// claim is a scene wanted for a login.
type claim struct {
	id        login.ID
	ttl, rest time.Duration
	misses    int // scenes tried
}

type claimOrder = order[claim, login.Login]

// runClaims takes one step of the ring for each claim of a batch. On a disk that takes a
// millisecond to sync, that is what makes a thousand claims a second into many thousands.
func (db *DB) runClaims(ctx context.Context, take func() []*claimOrder) {
	found, batch, err := db.claimScenes(ctx, take)
	for _, o := range batch {
		row, hit := found[o.item.id]
		switch {
		case err != nil:
			o.answer(login.Login{}, err)
		case hit:
			o.answer(login.Login{
				Ref:       login.Ref{Scene: row.ID, ID: row.Login},
				State:     login.Waiting,
				Ticket:    login.Ticket{Ticket: row.Ticket, URL: row.Url},
				ExpiresIn: o.item.ttl,
			}, nil)
		case o.item.misses+1 == claimSteps:
			o.answer(login.Login{}, login.ErrExhausted)
		default:
			o.item.misses++ // and once more
		}
	}
}

// claimScenes is one statement, and what it found for whom.
func (db *DB) claimScenes(ctx context.Context, take func() []*claimOrder) (found map[login.ID]pgstore.ClaimRow, batch []*claimOrder, err error) {
	batch, err = send(ctx, db, sendDeadline, take, func(ctx context.Context, conn *pgxpool.Conn, batch []*claimOrder) error {
		var p pgstore.ClaimParams
		for _, o := range batch {
			p.Logins, p.Ttls, p.Rests = append(p.Logins, o.item.id), append(p.Ttls, o.item.ttl), append(p.Rests, o.item.rest)
		}
		rows, err := db.on(conn).Claim(ctx, p)
		found = make(map[login.ID]pgstore.ClaimRow, len(rows))
		for _, r := range rows {
			found[r.Login] = r
		}
		return err
	})
	return found, batch, err
}
