package postgres

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// forgetEvery is about how often an instance looks for pushes to forget. A batch is 1,000
// rows at most, so that no statement holds up the others.
const forgetEvery = 10 * time.Minute

// Forget removes the replies to pushes of more than a day ago, until ctx ends.
func (p Pushes) Forget(ctx context.Context, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(forgetEvery/2 + rand.N(forgetEvery)):
		}
		for {
			n, err := p.DB.Queries.ForgetPushes(ctx)
			if err != nil && ctx.Err() == nil {
				logger.WarnContext(ctx, "old pushes are not forgotten; trying again later", "err", err)
			}
			if err != nil || n == 0 {
				break
			}
		}
	}
}
