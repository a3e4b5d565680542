package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// probe is a batcher of numbers that are answered with their tens, and what it was told to
// run. In a bubble, synctest.Wait returns when nothing moves any more.
type probe struct {
	batcher[int, int]
	began   []time.Time
	batches [][]int
	hold    chan struct{} // each batch waits for one of these, where not nil
}

func newProbe(most int) *probe {
	b := &probe{}
	b.max, b.run = most, b.tens
	return b
}

func (b *probe) tens(_ context.Context, take func() []*order[int, int]) {
	for _, o := range b.note(take()) {
		o.answer(10*o.item, nil)
	}
}

// note keeps what came and when, and waits where it has to.
func (b *probe) note(batch []*order[int, int]) []*order[int, int] {
	var items []int
	for _, o := range batch {
		items = append(items, o.item)
	}
	b.began, b.batches = append(b.began, time.Now()), append(b.batches, items)
	if b.hold != nil {
		<-b.hold
	}
	return batch
}

// want starts a call for each item, one after the other, and collects the answers.
func (b *probe) want(ctx context.Context, calls *sync.WaitGroup, items ...int) (answers []error) {
	answers = make([]error, len(items))
	for n, item := range items {
		calls.Go(func() {
			got, err := b.do(ctx, item)
			if err == nil && got != 10*item {
				err = errors.New("somebody else's answer")
			}
			answers[n] = err
		})
		synctest.Wait()
	}
	return answers
}

func (b *probe) expect(t *testing.T, want ...[]int) {
	t.Helper()
	if !slices.EqualFunc(b.batches, want, slices.Equal) {
		t.Errorf("ran %v, want %v", b.batches, want)
	}
}

func numbers(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestALoneCallerWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(10)
		for n := range 3 {
			called := time.Now()
			if got, err := b.do(t.Context(), n); got != 10*n || err != nil {
				t.Errorf("answered %v, %v", got, err)
			}
			if b.began[n] != called || time.Now() != called {
				t.Error("time has passed: a lone caller waited for a timer")
			}
		}
		b.expect(t, []int{0}, []int{1}, []int{2})
	})
}

func TestWhatArrivesMeanwhileGoesTogetherInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(4)
		b.hold = make(chan struct{})
		var calls sync.WaitGroup
		answers := b.want(t.Context(), &calls, numbers(1, 10)...)
		close(b.hold)
		calls.Wait()
		b.expect(t, []int{1}, numbers(2, 5), numbers(6, 9), []int{10})
		if err := errors.Join(answers...); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoeverJoinsBeforeItIsSentGoesAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(10)
		ready := make(chan struct{})
		b.run = func(ctx context.Context, take func() []*order[int, int]) { <-ready; b.tens(ctx, take) }
		var calls sync.WaitGroup
		b.want(t.Context(), &calls, 1, 2, 3)
		close(ready)
		calls.Wait()
		b.expect(t, []int{1, 2, 3})
	})
}

func TestWhatIsLeftOverGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(4)
		b.hold = make(chan struct{})
		b.run = func(_ context.Context, take func() []*order[int, int]) {
			for _, o := range b.note(take()) {
				if len(b.batches) > 2 || o.item%2 == 1 {
					o.answer(10*o.item, nil)
				}
			}
		}
		var calls sync.WaitGroup
		b.want(t.Context(), &calls, numbers(1, 7)...)
		close(b.hold)
		calls.Wait()
		b.expect(t, []int{1}, []int{2, 3, 4, 5}, []int{2, 4, 6, 7})
	})
}

func TestWhoLeavesTheQueueWasNeverThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(10)
		b.hold = make(chan struct{})
		var calls sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		b.want(t.Context(), &calls, 1)
		left := b.want(ctx, &calls, 2)
		b.want(t.Context(), &calls, 3)
		leave()
		synctest.Wait() // the batch hangs meanwhile
		if !errors.Is(left[0], context.Canceled) {
			t.Errorf("told %v", left[0])
		}
		close(b.hold)
		calls.Wait()
		if _, err := b.do(ctx, 4); !errors.Is(err, context.Canceled) {
			t.Errorf("who had left before was told %v", err)
		}
		b.expect(t, []int{1}, []int{3})
	})
}

func TestWhoLeavesTooLateGetsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(10)
		b.hold = make(chan struct{})
		var calls sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		late := b.want(ctx, &calls, 1)
		late[0] = errors.New("not answered")
		leave()
		synctest.Wait()
		if late[0].Error() != "not answered" {
			t.Fatalf("told %v while the batch was under way", late[0])
		}
		close(b.hold)
		calls.Wait()
		if late[0] != nil {
			t.Error(late[0])
		}
	})
}

func TestWhoLeavesBetweenTwoBatchesIsNotTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(10)
		ctx, leave := context.WithCancel(t.Context())
		b.run = func(_ context.Context, take func() []*order[int, int]) {
			b.note(take()) // and answers nobody
			leave()
		}
		if _, err := b.do(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("told %v", err)
		}
		b.stop()
		if taken := slices.Concat(b.batches...); !slices.Equal(taken, []int{1}) {
			t.Errorf("took %v", taken)
		}
	})
}

// The first caller's goroutine runs the batch, until it wants to leave.
func TestWhoLeavesFirstLeavesTheRestToBeServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(10)
		ready := make(chan struct{})
		b.run = func(ctx context.Context, take func() []*order[int, int]) {
			select {
			case <-ctx.Done():
			case <-ready:
				b.tens(ctx, take)
			}
		}
		var calls sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		left := b.want(ctx, &calls, 1)
		stay := b.want(t.Context(), &calls, 2, 3)
		leave()
		synctest.Wait()
		if !errors.Is(left[0], context.Canceled) {
			t.Errorf("told %v", left[0])
		}
		close(ready)
		calls.Wait()
		if err := errors.Join(stay...); err != nil {
			t.Error(err)
		}
		b.expect(t, []int{2, 3})
	})
}

func TestAPanicIsAnErrorForThoseItHits(t *testing.T) {
	for name, run := range map[string]func(ctx context.Context, take func() []*order[int, int]){
		"before the batch was taken": func(context.Context, func() []*order[int, int]) { panic("a bug") },
		"after it was taken":         func(_ context.Context, take func() []*order[int, int]) { take(); panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newProbe(10)
				b.run = run
				var calls sync.WaitGroup
				for _, err := range b.want(t.Context(), &calls, 1, 2, 3) {
					if err == nil || !strings.Contains(err.Error(), "a bug") {
						t.Errorf("told %v", err)
					}
				}
				b.run = b.tens
				if err := errors.Join(b.want(t.Context(), &calls, 4)...); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAStopAnswersTheRestAndRefusesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbe(1)
		b.hold = make(chan struct{})
		var calls, stopped sync.WaitGroup
		answers := b.want(t.Context(), &calls, 1, 2, 3)
		var over atomic.Bool
		stopped.Go(func() { b.stop(); over.Store(true) })
		synctest.Wait()
		if _, err := b.do(t.Context(), 4); !errors.Is(err, errStopped) {
			t.Errorf("after the stop: %v", err)
		}
		if over.Load() {
			t.Error("stopped with callers unanswered")
		}
		close(b.hold)
		calls.Wait()
		stopped.Wait()
		if err := errors.Join(answers...); err != nil {
			t.Error(err)
		}
		b.expect(t, []int{1}, []int{2}, []int{3})
	})
}

// Callers come and go as they like: everyone is answered, nobody who was told that they
// have left was taken, nobody is answered twice (which would panic).
func TestNobodyIsForgotten(t *testing.T) {
	t.Parallel()
	const callers, calls = 50, 200
	type task struct{ n, turns int }
	var taken [callers * calls]atomic.Bool
	b := &batcher[task, int]{max: 7}
	b.run = func(_ context.Context, take func() []*order[task, int]) {
		for _, o := range take() {
			taken[o.item.n].Store(true)
			if o.item.turns++; o.item.turns > o.item.n%3 {
				o.answer(10*o.item.n, nil)
			}
		}
	}
	var done sync.WaitGroup
	for caller := range callers {
		done.Go(func() {
			for n := range calls {
				n += caller * calls
				ctx, leave := context.WithCancel(t.Context())
				var leaving sync.WaitGroup
				if n%2 == 0 {
					leaving.Go(leave)
				}
				got, err := b.do(ctx, task{n: n})
				switch {
				case err == nil && got != 10*n:
					t.Errorf("%d was answered %d", n, got)
				case err != nil && n%3 == 0 && taken[n].Load(): // the others may leave between two turns
					t.Errorf("%d left with %v, and was taken", n, err)
				}
				leaving.Wait()
				leave()
			}
		})
	}
	done.Wait()
	b.stop()
	if len(b.queue) > 0 || b.running {
		t.Errorf("%d are left", len(b.queue))
	}
}
