package postgres

import (
	"context"
	"fmt"
	"time"

	"scanlogin/internal/postgres/pgstore"
)

// Overview is what all instances share, in numbers.
type Overview struct {
	Free, Resting, Held int64         // scenes
	Ready               int64         // codes that were made ahead and can be shown
	MadeToday           int32         // codes since midnight in Shanghai
	BlockedFor          time.Duration // for which WeChat makes no more; 0: it does
	TokenLeft           time.Duration // for which the access token works; 0: there is none
}

// Overview counts, for codes that are shown for ttl and scenes that rest for so long.
func (db *DB) Overview(ctx context.Context, appID string, ttl, rest time.Duration) (Overview, error) {
	row, err := db.Queries.Overview(ctx, pgstore.OverviewParams{Rest: rest, Ttl: ttl, Appid: appID})
	if err != nil {
		return Overview{}, fmt.Errorf("counting scenes and codes: %w", err)
	}
	return Overview{
		Free: row.Free, Resting: row.Resting, Held: row.Held, Ready: row.Ready,
		MadeToday:  row.MadeToday,
		BlockedFor: time.Duration(row.BlockedFor * float64(time.Second)),
		TokenLeft:  time.Duration(row.TokenLeft * float64(time.Second)),
	}, nil
}
