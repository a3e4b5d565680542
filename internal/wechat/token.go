package wechat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// WeChat renews a token 5 minutes before its end, when old and new both
	// work: from then on a new one can be had.
	tokenOverlap = 300 * time.Second
	tokenJitter  = 60 * time.Second
	// A token is kept at least so long: in the overlap WeChat may give out the
	// old one with 300 s to live, and must not be asked at every call then.
	tokenFloor        = 60 * time.Second
	tokenFetchTimeout = 30 * time.Second
	maxTokenSeconds   = 1 << 31
)

// TokenSource gives the access token of one account to any number of callers.
type TokenSource interface {
	// Token returns a token that should work.
	Token(ctx context.Context) (string, error)
	// Drop forgets a token that WeChat refused, unless the source holds another
	// one by now: somebody else may have replaced it already.
	Drop(ctx context.Context, stale string) error
}

// uncached asks WeChat every time.
type uncached struct{ client *Client }

func (u uncached) Token(ctx context.Context) (string, error) {
	token, _, err := u.client.StableToken(ctx)
	return token, err
}

func (uncached) Drop(context.Context, string) error { return nil }

// MemoryTokens is a TokenSource for one process. It keeps a token until 5
// minutes before its end, less up to a minute by chance, but for a minute at
// least. All that wait for a token wait for one and the same fetch.
type MemoryTokens struct {
	fetch func(context.Context) (string, time.Duration, error)

	mu      sync.Mutex
	token   string
	renewAt time.Time
	pending *tokenFetch // nil while none is under way
}

type tokenFetch struct {
	done  chan struct{} // closed when token and err are set
	token string
	err   error
}

// NewMemoryTokens keeps what fetch returns: a token and its life, as
// (*Client).StableToken does.
func NewMemoryTokens(fetch func(context.Context) (string, time.Duration, error)) *MemoryTokens {
	return &MemoryTokens{fetch: fetch}
}

// Token returns the token that is kept, or waits for a new one until ctx ends.
// An error of the fetch goes to all that waited for it; the next caller starts
// another.
func (m *MemoryTokens) Token(ctx context.Context) (string, error) {
	token, pending := m.current(ctx)
	if pending == nil {
		return token, nil
	}
	select {
	case <-pending.done:
		return pending.token, pending.err
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for it: %w", ctx.Err())
	}
}

// Drop forgets stale, if that is the token it keeps.
func (m *MemoryTokens) Drop(_ context.Context, stale string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.token == stale {
		m.token = ""
	}
	return nil
}

// current returns the token, or the fetch that will bring it, started here if
// nobody else did.
func (m *MemoryTokens) current(ctx context.Context) (string, *tokenFetch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.token != "" && time.Now().Before(m.renewAt) {
		return m.token, nil
	}
	if m.pending == nil {
		m.pending = &tokenFetch{done: make(chan struct{})}
		// The fetch belongs to all that wait, so it outlives who came first.
		go m.run(context.WithoutCancel(ctx), m.pending)
	}
	return "", m.pending
}

func (m *MemoryTokens) run(ctx context.Context, fetch *tokenFetch) {
	ctx, cancel := context.WithTimeout(ctx, tokenFetchTimeout)
	defer cancel()
	token, expiresIn, err := m.fetch(ctx)

	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.token, m.renewAt = token, time.Now().Add(keepFor(expiresIn, rand.N(tokenJitter)))
	}
	fetch.token, fetch.err = token, err
	m.pending = nil
	close(fetch.done)
}

// keepFor is how long a token is kept that lives for expiresIn.
func keepFor(expiresIn, jitter time.Duration) time.Duration {
	return min(max(expiresIn-tokenOverlap-jitter, tokenFloor), expiresIn)
}
