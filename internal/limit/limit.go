// Package limit bounds how often somebody may do something, over all instances together:
// an address asks for codes, an account is tried with passwords, a phone scans.
//
// A [Limiter] says what is counted for whom, a [Store] counts. What the store holds are
// digests under a secret that it doesn't have, so a copy of it names no address, account
// or phone.
package limit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrRefused says that somebody has to wait. It comes as a [Refusal].
var ErrRefused = errors.New("limit: too many")

// Refusal says by which limit somebody has to wait, and for how long.
type Refusal struct {
	Limit string // one of [Names]
	Wait  time.Duration
	// Whom, where the limit is not about an address: the name of the account that was
	// tried, whatever was typed, or the WeChat user who scanned.
	Account, OpenID string
}

// Error names the limit.
func (r *Refusal) Error() string { return fmt.Sprintf("limit: too many by %s", r.Limit) }

// Is makes every Refusal an [ErrRefused].
func (r *Refusal) Is(target error) bool { return target == ErrRefused }

// Rate is so many at once, and so many each Per in the long run. The zero value is no limit.
type Rate struct {
	Burst int32
	Per   time.Duration
	// Growing makes who tries on wait a second first, then twice as long each time, up to
	// Step. A steady one makes them wait for Step at once. What was tried is forgotten when
	// nothing was for Per.
	Growing bool
}

// Limited tells whether there is a limit.
func (r Rate) Limited() bool { return r.Burst > 0 }

// Step is after how long one more is there again.
func (r Rate) Step() time.Duration { return r.Per / time.Duration(r.Burst) }

// Stricter is a steady rate that lets through what both do, and less than that where each of
// them is the stricter in something.
func (r Rate) Stricter(other Rate) Rate {
	if !r.Limited() || !other.Limited() {
		if r.Limited() {
			return r
		}
		return other
	}
	burst := min(r.Burst, other.Burst)
	return Rate{Burst: burst, Per: max(r.Step(), other.Step()) * time.Duration(burst)}
}

// Key names whom and what a limit is about; a digest.
type Key [16]byte

// Count is one thing more under a key.
type Count struct {
	Key  Key
	Rate Rate // limited
}

// Store counts. Time is the store's alone.
type Store interface {
	// Take counts all of these, each under another key, or none where one has to wait. It
	// returns for how long, 0 for each that has not.
	Take(ctx context.Context, counts []Count) (waits []time.Duration, err error)
	// GiveBack takes back what was counted; of a growing rate all that ever was.
	GiveBack(ctx context.Context, counts []Count) error
}
