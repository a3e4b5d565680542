package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var errStopped = errors.New("postgres: no more is sent, the program stops")

// batcher hands what arrives to run, in batches that form by themselves: whatever arrives
// while one is under way goes with the next. There is no timer: with nothing under way, a
// batch of one starts at once, in the caller's own goroutine. First come, first served.
type batcher[T, R any] struct {
	max int // of one batch
	// run answers one batch. It takes it when it is ready to send it: until then others may
	// join, and callers leave. What it took and didn't answer goes first in the next batch.
	// When ctx ends before that, whoever lent their goroutine wants to leave: it returns
	// without a batch then.
	run func(ctx context.Context, take func() []*order[T, R])

	mu      sync.Mutex
	queue   []*order[T, R]
	running bool
	stopped bool
	work    sync.WaitGroup
}

// order is what one caller wants done.
type order[T, R any] struct {
	ctx  context.Context // the caller's: once it has ended, the order isn't taken any more
	item T

	done   chan struct{} // closed with the answer
	result R
	err    error
}

func (o *order[T, R]) answer(result R, err error) {
	o.result, o.err = result, err
	close(o.done)
}

func (o *order[T, R]) answered() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// do returns what run answers. A caller that leaves before its item was taken has never
// been here; once it was taken the answer is waited for, however long that takes.
func (b *batcher[T, R]) do(ctx context.Context, item T) (R, error) {
	o, first, err := b.enqueue(ctx, item)
	if err != nil {
		var none R
		return none, err
	}
	if first {
		b.lead(o)
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		if b.remove(o) {
			return o.result, ctx.Err()
		}
		<-o.done
	}
	return o.result, o.err
}

// add queues an item, whose answer comes when done is closed.
func (b *batcher[T, R]) add(ctx context.Context, item T) (*order[T, R], error) {
	o, first, err := b.enqueue(ctx, item)
	if first {
		go b.runAll()
	}
	return o, err
}

// enqueue also tells whether nothing is under way: then the caller has to see to it.
func (b *batcher[T, R]) enqueue(ctx context.Context, item T) (o *order[T, R], first bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	o = &order[T, R]{ctx: ctx, item: item, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil, false, errStopped
	}
	b.queue = append(b.queue, o)
	first = !b.running
	if first {
		b.running = true
		b.work.Add(1)
	}
	return o, first, nil
}

// remove tells whether the order was still queued.
func (b *batcher[T, R]) remove(o *order[T, R]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.queue, o)
	if i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	return i >= 0
}

// stop refuses what comes from now on, and returns when what came before is answered.
func (b *batcher[T, R]) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.work.Wait()
}

// lead runs the batch that o begins. Most often it is the only order: to hand it to another
// goroutine and its answer back would take longer than all else that is done here.
func (b *batcher[T, R]) lead(o *order[T, R]) {
	for !o.answered() && o.ctx.Err() == nil {
		b.runOne(o.ctx)
	}
	if b.more() {
		go b.runAll()
	} else {
		b.work.Done()
	}
}

// runAll runs batch after batch until nothing is left; the next order starts it again.
func (b *batcher[T, R]) runAll() {
	defer b.work.Done()
	for b.more() {
		b.runOne(context.Background())
		runtime.Gosched() // whoever could come at once goes with the next
	}
}

func (b *batcher[T, R]) more() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = len(b.queue) > 0
	return b.running
}

// runOne runs one batch. A panic is the error of those it was run for: it would be the end of
// the program here, while it ends one request where each runs its own statement.
func (b *batcher[T, R]) runOne(ctx context.Context) {
	var batch []*order[T, R]
	take := func() []*order[T, R] {
		batch = b.take()
		return batch
	}
	defer func() {
		if p := recover(); p != nil {
			if batch == nil {
				take()
			}
			err := fmt.Errorf("postgres: panic: %v\n%s", p, debug.Stack())
			for _, o := range batch {
				if !o.answered() {
					var none R
					o.answer(none, err)
				}
			}
		}
		b.putBack(batch)
	}()
	b.run(ctx, take)
}

// take is the oldest orders of those who are still there.
func (b *batcher[T, R]) take() []*order[T, R] {
	b.mu.Lock()
	defer b.mu.Unlock()
	var batch []*order[T, R]
	n := 0
	for ; n < len(b.queue) && len(batch) < b.max; n++ {
		o := b.queue[n]
		if err := o.ctx.Err(); err != nil {
			var none R
			o.answer(none, err)
			continue
		}
		batch = append(batch, o)
	}
	b.queue = slices.Delete(b.queue, 0, n)
	return batch
}

func (b *batcher[T, R]) putBack(batch []*order[T, R]) {
	left := slices.DeleteFunc(batch, (*order[T, R]).answered)
	if len(left) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(left, b.queue...)
}

// sendDeadline bounds the wait for a connection, and then the statement.
const sendDeadline = 5 * time.Second

// send takes a batch once it has a connection, and runs its statement there. Either may take
// as long as patience; ctx is the leader's, who may leave before the batch is taken.
func send[T, R any](
	ctx context.Context, db *DB, patience time.Duration, take func() []*order[T, R],
	run func(ctx context.Context, conn *pgxpool.Conn, batch []*order[T, R]) error,
) ([]*order[T, R], error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := db.pool.Acquire(wait)
	if err != nil && ctx.Err() != nil {
		return nil, nil // that is no reason for the others to fail
	}
	batch := take()
	if err != nil {
		return batch, err
	}
	defer conn.Release()
	if len(batch) == 0 {
		return nil, nil // all have left
	}
	sent, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return batch, run(sent, conn, batch)
}
