package login

import (
	"context"
	"time"
)

// Hint says that something may have happened to a login, to whoever streams it.
type Hint struct {
	ID ID
	// Since is when what has happened began to be waited for, by the clock of the instance
	// that saw it; the zero time where that is of no interest.
	Since time.Time
}

type arrivalKey struct{}

// Arrived notes in ctx when what is being done began to be waited for: WeChat's push, at the
// instance that got it. It goes with the hint, so that the time to the browser can be
// told; nothing depends on it.
func Arrived(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, arrivalKey{}, at)
}

// ArrivedAt is what Arrived noted; the zero time: nothing.
func ArrivedAt(ctx context.Context) time.Time {
	at, _ := ctx.Value(arrivalKey{}).(time.Time)
	return at
}
