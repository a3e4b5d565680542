package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

const (
	// housekeepingLease is the lease of the instance that removes what is over.
	housekeepingLease = "housekeeping"
	// housekeepingInterval is the time between two rounds, and the most that one chore
	// takes of a round.
	housekeepingInterval = time.Minute
	// housekeepingBatch is how many rows a statement removes: some milliseconds' work.
	housekeepingBatch = 1000
	// forgetBatch is how many scenes a statement locks. They are the next to be claimed,
	// and a claim that meets claimSteps locked ones takes the pool for full.
	forgetBatch = claimSteps / 2
	// keepNotices is how long a notice waits to be read, which is longer than people stay away
	// who use the account.
	keepNotices = 90 * 24 * time.Hour
	// housekeepingPatience bounds one statement.
	housekeepingPatience = 30 * time.Second
)

// Housekeeper removes what is over, so that no table grows with the years. One instance
// does it for all. Nothing depends on it: what is over by the database's clock is over
// whether it still lies there or not, and what one instance leaves undone the next does.
type Housekeeper struct {
	DB     *DB
	Holder login.ID // of this instance, for the lease
	// KeepPushes is how long the reply to a push is kept: longer than it can be pushed
	// again, by WeChat or by who has recorded it.
	KeepPushes time.Duration
	// SessionIdle is how long a session lives that nobody uses.
	SessionIdle time.Duration
	// KeepLimits is how long a limit remembers what was used up and is there again.
	KeepLimits time.Duration
	// KeepAudit is how long the audit log is kept; the database keeps it for half a year at
	// least.
	KeepAudit time.Duration
	// Removed, where it isn't nil, hears how many rows went out of which table; of
	// the audit log, how many months.
	Removed func(table string, rows int64)
	Logger  *slog.Logger

	interval time.Duration // housekeepingInterval, other than in tests
	failing  bool          // so that an outage is told once
	walked   []byte        // the last session that the walk through them has come to
}

// chore is one kind of rows to remove.
type chore struct {
	table string
	every int // rounds
	// batch removes some and says whether there may be more.
	batch func(ctx context.Context) (removed int64, more bool, err error)
}

// chores are as they begin a round.
func (h *Housekeeper) chores() []chore {
	return []chore{
		{"web_session", 1, full(func(ctx context.Context, most int32) (int64, error) {
			return h.DB.relaxed.RemoveSessions(ctx, most)
		})},
		{"web_session", 60, h.removeIdle},
		{"wechat_push", 1, full(func(ctx context.Context, most int32) (int64, error) {
			return h.DB.relaxed.RemovePushes(ctx, h.KeepPushes, most)
		})},
		{"confirmation", 1, full(func(ctx context.Context, most int32) (int64, error) {
			return h.DB.relaxed.RemoveConfirmations(ctx, most)
		})},
		{"wechat_codes", 60, full(func(ctx context.Context, most int32) (int64, error) {
			return h.DB.relaxed.RemoveCodes(ctx, most)
		})},
		{"notice", 60, full(func(ctx context.Context, most int32) (int64, error) {
			return h.DB.relaxed.RemoveNotices(ctx, keepNotices, most)
		})},
		{"scene", 60, h.forgetLogins()},
		{"rate_limit", 10, h.forgetLimits()},
		{"instance", 60, full(func(ctx context.Context, most int32) (int64, error) {
			return h.DB.relaxed.RemoveInstances(ctx, most)
		})},
		{"audit", 60, h.keepAudit},
	}
}

// full makes batches of a statement that removes at most so many rows: there are more as
// long as it does.
func full(remove func(ctx context.Context, most int32) (int64, error)) func(context.Context) (int64, bool, error) {
	return func(ctx context.Context) (int64, bool, error) {
		n, err := remove(ctx, housekeepingBatch)
		return n, n == housekeepingBatch, err
	}
}

// removeIdle walks through all sessions in the order of their keys. Where they are too many
// for one round the next one goes on: from the start, it would never come to the last.
func (h *Housekeeper) removeIdle(ctx context.Context) (removed int64, more bool, err error) {
	r, err := h.DB.relaxed.RemoveIdleSessions(ctx, pgstore.RemoveIdleSessionsParams{
		After: h.walked, Idle: h.SessionIdle, Most: housekeepingBatch,
	})
	if err != nil {
		return 0, false, err
	}
	h.walked = nil // from the start
	if more = r.LookedAt == housekeepingBatch; more {
		h.walked = r.Last
	}
	return r.Removed, more, nil
}

// forgetLogins walks the pool once, in the order of the scenes.
func (h *Housekeeper) forgetLogins() func(context.Context) (int64, bool, error) {
	after := int32(0)
	return func(ctx context.Context) (int64, bool, error) {
		scenes, err := h.DB.relaxed.ForgetLogins(ctx, after, forgetBatch)
		for _, scene := range scenes {
			after = max(after, scene)
		}
		return int64(len(scenes)), len(scenes) == forgetBatch, err
	}
}

// keepAudit also makes the partitions of the months to come.
func (h *Housekeeper) keepAudit(ctx context.Context) (removed int64, more bool, err error) {
	n, err := h.DB.relaxed.KeepAudit(ctx, h.KeepAudit)
	return int64(n), false, err
}

// forgetLimits walks the keys once, in their order.
func (h *Housekeeper) forgetLimits() func(context.Context) (int64, bool, error) {
	after := []byte{}
	return func(ctx context.Context) (int64, bool, error) {
		row, err := h.DB.relaxed.RemoveLimits(ctx, pgstore.RemoveLimitsParams{After: after, Most: housekeepingBatch, Keep: h.KeepLimits})
		after = row.Last
		return row.Removed, row.Walked == housekeepingBatch, err
	}
}

// Run keeps house whenever this instance has the lease, until ctx ends.
func (h *Housekeeper) Run(ctx context.Context) {
	if h.interval == 0 {
		h.interval = housekeepingInterval
	}
	rounds := 0 // since this instance leads
	for pause(ctx, h.interval/2+rand.N(h.interval)) {
		lead, err := h.lead(ctx)
		switch {
		case err != nil:
		case lead:
			err = h.round(ctx, rounds)
			rounds++
		default:
			rounds = 0
		}
		h.tell(ctx, err)
	}
	if rounds > 0 {
		h.resign(ctx)
	}
}

// lead takes the lease, or keeps it. One that isn't renewed for some rounds passes on.
func (h *Housekeeper) lead(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, housekeepingPatience)
	defer cancel()
	ttl := 10 * h.interval
	n, err := h.DB.relaxed.TakeLease(ctx, pgstore.TakeLeaseParams{Name: housekeepingLease, Holder: h.Holder, Ttl: ttl})
	if err != nil {
		return false, fmt.Errorf("taking the lease: %w", err)
	}
	return n == 1, nil
}

func (h *Housekeeper) resign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = h.DB.relaxed.EndLease(ctx, housekeepingLease, h.Holder) // else it runs out
}

// round does what is due. A chore that fails is no reason to leave the others.
func (h *Housekeeper) round(ctx context.Context, number int) error {
	var errs []error
	for _, c := range h.chores() {
		if number%c.every != 0 {
			continue
		}
		removed, err := h.do(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("removing from %s: %w", c.table, err))
		}
		if removed == 0 {
			continue
		}
		h.Logger.DebugContext(ctx, "removed what is over", "table", c.table, "rows", removed)
		if h.Removed != nil {
			h.Removed(c.table, removed)
		}
	}
	return errors.Join(errs...)
}

// do runs a chore's batches until no more is left or its share of the round is over; the
// rest is left to the next. It pauses for as long as it works: who waits for a browser
// comes first.
func (h *Housekeeper) do(ctx context.Context, c chore) (removed int64, err error) {
	for began := time.Now(); ; {
		start := time.Now()
		n, more, err := patiently(ctx, c.batch)
		removed += n
		if err != nil || !more || time.Since(began) > h.interval || !pause(ctx, time.Since(start)) {
			return removed, err
		}
	}
}

func patiently(ctx context.Context, batch func(context.Context) (int64, bool, error)) (int64, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, housekeepingPatience)
	defer cancel()
	return batch(ctx)
}

// pause returns false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// tell warns of an outage, once.
func (h *Housekeeper) tell(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil && !h.failing {
		h.Logger.WarnContext(ctx, "what is over is not removed; trying again", "err", err)
	}
	h.failing = err != nil
}
