package wechat

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// countingFetch gives token-1, token-2 … for life, and counts.
func countingFetch(calls *atomic.Int32, life time.Duration) func(context.Context) (string, time.Duration, error) {
	return func(context.Context) (string, time.Duration, error) {
		return fmt.Sprintf("token-%d", calls.Add(1)), life, nil
	}
}

func mustToken(t *testing.T, source TokenSource) string {
	t.Helper()
	token, err := source.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func mustDrop(t *testing.T, source TokenSource, stale string) {
	t.Helper()
	if err := source.Drop(t.Context(), stale); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryTokensKeepsATokenUntilItsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		m := NewMemoryTokens(countingFetch(&calls, 7200*time.Second))
		mustToken(t, m)
		time.Sleep(7200*time.Second - tokenOverlap - tokenJitter - time.Second)
		if got := mustToken(t, m); got != "token-1" {
			t.Errorf("%s too early", got)
		}
		time.Sleep(tokenJitter + time.Second)
		if got := mustToken(t, m); got != "token-2" {
			t.Errorf("%s is in its overlap", got)
		}
	})
}

func TestMemoryTokensOfAShortLife(t *testing.T) {
	for _, tc := range []struct{ life, kept time.Duration }{
		{300 * time.Second, tokenFloor}, // WeChat's answer in the overlap
		{345 * time.Second, tokenFloor},
		{10 * time.Second, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int32
			m := NewMemoryTokens(countingFetch(&calls, tc.life))
			mustToken(t, m)
			time.Sleep(tc.kept - time.Nanosecond)
			mustToken(t, m)
			if calls.Load() != 1 {
				t.Errorf("life %v: fetched again before %v", tc.life, tc.kept)
			}
			time.Sleep(time.Nanosecond)
			mustToken(t, m)
			if calls.Load() != 2 {
				t.Errorf("life %v: kept longer than %v", tc.life, tc.kept)
			}
		})
	}
}

func TestMemoryTokensFetchesOnceForAllWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		m := NewMemoryTokens(func(context.Context) (string, time.Duration, error) {
			calls.Add(1)
			<-release
			return "shared", time.Hour, nil
		})
		var waiters sync.WaitGroup
		for range 50 {
			waiters.Go(func() {
				if got, err := m.Token(t.Context()); err != nil || got != "shared" {
					t.Errorf("Token = %q, %v", got, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		waiters.Wait()
		if calls.Load() != 1 {
			t.Errorf("%d fetches", calls.Load())
		}
	})
}

func TestMemoryTokensFetchOutlivesAWaiterThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := NewMemoryTokens(func(ctx context.Context) (string, time.Duration, error) {
			select {
			case <-release:
				return "late", time.Hour, nil
			case <-ctx.Done():
				return "", 0, ctx.Err()
			}
		})
		leaving, leave := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := m.Token(leaving)
			gone <- err
		}()
		synctest.Wait()
		stayed := make(chan string)
		go func() {
			token, _ := m.Token(t.Context())
			stayed <- token
		}()
		synctest.Wait()
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(release)
		if got := <-stayed; got != "late" {
			t.Errorf("who stayed got %q", got)
		}
	})
}

func TestMemoryTokensFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemoryTokens(func(ctx context.Context) (string, time.Duration, error) {
			<-ctx.Done()
			return "", 0, ctx.Err()
		})
		if _, err := m.Token(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fetch without answer: %v", err)
		}
	})
}

func TestMemoryTokensTriesAgainAfterAnError(t *testing.T) {
	broken := errors.New("broken")
	calls := 0
	m := NewMemoryTokens(func(context.Context) (string, time.Duration, error) {
		if calls++; calls == 1 {
			return "", 0, broken
		}
		return "good", time.Hour, nil
	})
	if _, err := m.Token(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("first: %v", err)
	}
	if got := mustToken(t, m); got != "good" {
		t.Errorf("second: %q", got)
	}
}

func TestMemoryTokensDropComparesFirst(t *testing.T) {
	var calls atomic.Int32
	m := NewMemoryTokens(countingFetch(&calls, time.Hour))
	first := mustToken(t, m)
	mustDrop(t, m, first)
	second := mustToken(t, m)
	if second == first {
		t.Fatal("the stale token was kept")
	}
	mustDrop(t, m, first) // somebody slow, refused with the old one
	mustDrop(t, m, "")
	if got := mustToken(t, m); got != second || calls.Load() != 2 {
		t.Errorf("a good token was dropped: %q after %d fetches", got, calls.Load())
	}
}
