package account

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// tellInterval is about the time between two looks for what is to be told without
	// anybody having said so: by the shell, or by an instance that has died.
	tellInterval = 5 * time.Second
	// tellAtOnce is how many notices one instance tells at a time.
	tellAtOnce = 8
	// tellDeadline bounds the telling of one, to all of its phones.
	tellDeadline = 4 * time.Second
	// tellPatience is after how long an instance that tells one is given up on.
	tellPatience = 15 * time.Second
	// settleDeadline bounds the write of what came of it, also when the instance stops.
	settleDeadline = time.Second
)

// Untold is a notice whose phones one instance is to tell. Its openids go no further than to
// WeChat.
type Untold struct {
	Notice
	OpenIDs []string
	Turn    time.Time // names the instance whose turn it is; nobody else's
}

// NoticeStore keeps the notices for who tells them.
type NoticeStore interface {
	// ClaimNotices returns at most so many whose phones are to be told, the oldest first, and
	// nobody else gets them for as long as patience says.
	ClaimNotices(ctx context.Context, most int, patience time.Duration) ([]Untold, error)
	// EndNotice removes one that was told, unless it is another's turn by now.
	EndNotice(ctx context.Context, u Untold) error
	// LeaveNotice leaves one to the user centre, and forgets its openids; unless it is
	// another's turn by now.
	LeaveNotice(ctx context.Context, u Untold) error
}

// Teller tells phones what has happened to their owner's account. Each notice gets one try,
// and one more where the instance dies in it: what WeChat doesn't let us say, the user centre
// does. Make it with [NewTeller].
type Teller struct {
	store  NoticeStore
	words  func(Notice) string
	send   func(ctx context.Context, openID, text string) error
	logger *slog.Logger

	woken   chan struct{}
	failing bool // so that an outage of the database is told once
}

// NewTeller tells by send what words says of a notice; nothing where that is empty.
func NewTeller(store NoticeStore, words func(Notice) string, send func(ctx context.Context, openID, text string) error, logger *slog.Logger) *Teller {
	return &Teller{store: store, words: words, send: send, logger: logger, woken: make(chan struct{}, 1)}
}

// Wake says that there is something to tell. It never waits.
func (t *Teller) Wake() {
	select {
	case t.woken <- struct{}{}:
	default: // it is awake
	}
}

// Run tells until ctx ends. What is under way then is left to the other instances.
func (t *Teller) Run(ctx context.Context) {
	for {
		err := t.round(ctx)
		if err != nil && !t.failing && ctx.Err() == nil {
			t.logger.WarnContext(ctx, "what is to be told to phones can't be read; trying again", "err", err)
		}
		t.failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-t.woken:
		case <-time.After(tellInterval/2 + rand.N(tellInterval)):
		}
	}
}

// round tells all that there is.
func (t *Teller) round(ctx context.Context) error {
	for {
		untold, err := t.claim(ctx)
		if err != nil {
			return err
		}
		var work sync.WaitGroup
		for _, u := range untold {
			work.Go(func() { t.tell(ctx, u) })
		}
		work.Wait()
		if len(untold) < tellAtOnce {
			return nil
		}
	}
}

func (t *Teller) claim(ctx context.Context) ([]Untold, error) {
	ctx, cancel := context.WithTimeout(ctx, tellPatience)
	defer cancel()
	return t.store.ClaimNotices(ctx, tellAtOnce, tellPatience)
}

func (t *Teller) tell(ctx context.Context, u Untold) {
	settle, err := t.store.EndNotice, t.sendAll(ctx, u)
	switch {
	case err == nil:
		t.logger.InfoContext(ctx, "a phone was told", "kind", string(u.Kind), "phones", len(u.OpenIDs))
	case ctx.Err() != nil:
		return // we stop, and the turn ends by itself
	default:
		settle = t.store.LeaveNotice
		t.logger.InfoContext(ctx, "a phone wasn't told; the user centre tells", "kind", string(u.Kind), "err", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleDeadline)
	defer cancel()
	if err := settle(ctx, u); err != nil {
		t.logger.WarnContext(ctx, "what came of telling a phone isn't stored; it may be told again", "kind", string(u.Kind), "err", err)
	}
}

var errNoWords = errors.New("account: there are no words for it")

// sendAll fails where one of the phones wasn't told: it may be the owner's.
func (t *Teller) sendAll(ctx context.Context, u Untold) (err error) {
	text := t.words(u.Notice)
	if text == "" {
		return errNoWords
	}
	ctx, cancel := context.WithTimeout(ctx, tellDeadline)
	defer cancel()
	for _, openID := range u.OpenIDs {
		err = errors.Join(err, t.send(ctx, openID, text))
	}
	return err
}
