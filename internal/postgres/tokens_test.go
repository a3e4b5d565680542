package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scanlogin/internal/postgres"
)

// fetcher is a token server whose answers a test decides on.
type fetcher struct {
	calls     atomic.Int32
	expiresIn time.Duration
	err       error
	came      chan struct{} // one for each call
	answer    chan struct{} // closed or sent to by the test; nil: at once
}

func newFetcher() *fetcher {
	return &fetcher{expiresIn: 2 * time.Hour, came: make(chan struct{}, 1000)}
}

// fetch gives out token 1, 2, 3…
func (f *fetcher) fetch(ctx context.Context) (string, time.Duration, error) {
	n := f.calls.Add(1)
	f.came <- struct{}{}
	if f.answer != nil {
		select {
		case <-f.answer:
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
	return "token " + strconv.Itoa(int(n)), f.expiresIn, f.err
}

func (w *world) tokens(f *fetcher) postgres.Tokens {
	w.t.Helper()
	w.ok(w.db.AddWeChatAccount(w.t.Context(), appID))
	return postgres.Tokens{DB: w.db, AppID: appID, Fetch: f.fetch}
}

// hold puts a token there; renew and end are from now.
func (w *world) hold(token string, renew, end time.Duration) {
	w.t.Helper()
	w.exec("UPDATE scanlogin.wechat_account SET token = $1, renew_at = now() + $2::interval, token_until = now() + $3::interval, fetching_until = 'epoch'",
		token, renew, end)
}

func (w *world) held() string {
	w.t.Helper()
	return get[string](w, "SELECT token FROM scanlogin.wechat_account")
}

func (w *world) want(tokens postgres.Tokens, want string) {
	w.t.Helper()
	got, err := tokens.Token(w.t.Context())
	if err != nil || got != want {
		w.t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// lapse lets the time pass that a fetch may take.
func (w *world) lapse() {
	w.t.Helper()
	w.exec("UPDATE scanlogin.wechat_account SET fetching_until = now() - interval '1 ms'")
}

func TestAColdStartFetchesOneToken(t *testing.T) {
	t.Parallel()
	const instances = 20
	w, f := newWorld(t, 1), newFetcher()
	tokens := make([]postgres.Tokens, instances)
	for i := range tokens {
		tokens[i] = w.tokens(f)
		tokens[i].DB = w.open(w.url + "&pool_max_conns=1")
	}
	f.answer = make(chan struct{})
	go func() { <-f.came; close(f.answer) }()
	atOnce(2*instances, func(i int) { w.want(tokens[i%instances], "token 1") })
	if n := f.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	atOnce(instances, func(i int) { w.want(tokens[i], "token 1") })
	if n := f.calls.Load(); n != 1 {
		t.Errorf("%d fetches of a token that works", n)
	}
}

func TestAllGoOnWithTheOldTokenMeanwhile(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t, 1), newFetcher()
	f.answer = make(chan struct{})
	tokens := w.tokens(f)
	w.hold("old", -time.Second, time.Minute)
	atOnce(20, func(int) { w.want(tokens, "old") }) // nobody waits, not even who fetches
	<-f.came
	// No lock is held: another may write the row.
	w.ok(postgres.Quota{DB: w.instance(), AppID: appID}.Block(t.Context(), time.Second))
	close(f.answer)
	await(t, "the new token", func() bool { return w.held() == "token 1" })
	w.want(tokens, "token 1")
	if n := f.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestAFetcherThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]bool{"with an old token": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dead, f := newWorld(t, 1), newFetcher(), newFetcher()
			dead.answer = make(chan struct{})
			tokens, others := w.tokens(dead), w.tokens(f)
			if old {
				w.hold("old", -time.Second, time.Minute)
			}
			ctx, leave := context.WithCancel(t.Context())
			var work sync.WaitGroup
			work.Go(func() { _, _ = tokens.Token(ctx) })
			<-dead.came
			leave()
			work.Wait()
			w.lapse()
			if old {
				w.want(others, "old")
				await(t, "the new token", func() bool { return w.held() == "token 1" })
			}
			w.want(others, "token 1")
			if n := f.calls.Load(); n != 1 {
				t.Errorf("%d fetches by the next one", n)
			}
			close(dead.answer) // so that nothing is left running
		})
	}
}

// A fetcher that took too long comes back when another has had the next turn.
func TestWhoWasGivenUpOnChangesNothing(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]error{"a token": nil, "an error": errors.New("too late")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			slow, next := newFetcher(), newFetcher()
			slow.answer, slow.err = make(chan struct{}), late
			next.answer = make(chan struct{})
			tokens, others := w.tokens(slow), w.tokens(next)
			var first, second sync.WaitGroup
			first.Go(func() { // gets what it fetched, which works too
				if _, err := tokens.Token(t.Context()); !errors.Is(err, late) || (err == nil) != (late == nil) {
					t.Errorf("the slow one got %v", err)
				}
			})
			<-slow.came
			w.lapse()
			second.Go(func() { w.want(others, "token 1") })
			<-next.came
			const row = "SELECT a::text FROM scanlogin.wechat_account a"
			before := get[string](w, row)
			close(slow.answer) // while the next one fetches: its turn stays
			first.Wait()
			if after := get[string](w, row); after != before {
				t.Errorf("the row was\n%s and is\n%s", before, after)
			}
			close(next.answer)
			second.Wait()
			w.want(others, "token 1")
			if n := next.calls.Load(); n != 1 {
				t.Errorf("%d fetches by the next one", n)
			}
		})
	}
}

func TestALateTokenDoesNotReplaceANewerOne(t *testing.T) {
	t.Parallel()
	w, slow := newWorld(t, 1), newFetcher()
	slow.answer = make(chan struct{})
	tokens := w.tokens(slow)
	var work sync.WaitGroup
	work.Go(func() { w.want(tokens, "token 1") })
	<-slow.came
	w.hold("newer", time.Hour, 2*time.Hour) // by another, when the turn had run out
	close(slow.answer)
	work.Wait()
	if now := w.held(); now != "newer" {
		t.Errorf("%q is held", now)
	}
}

func TestDropIsForThatTokenOnly(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t, 1), newFetcher()
	tokens := w.tokens(f)
	w.want(tokens, "token 1")
	atOnce(20, func(int) { // all were refused, and each drops before it asks again
		if err := tokens.Drop(t.Context(), "token 1"); err != nil {
			t.Error(err)
		}
		w.want(tokens, "token 2")
	})
	w.ok(tokens.Drop(t.Context(), "token 1"))
	w.ok(tokens.Drop(t.Context(), ""))
	w.want(tokens, "token 2")
	if n := f.calls.Load(); n != 2 {
		t.Errorf("%d fetches, want one for each token", n)
	}
}

// In the overlap of two tokens WeChat may give one out that has 300 s to live, or less.
func TestAShortTokenIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expiresIn, least, most time.Duration }{
		{300 * time.Second, 59 * time.Second, 60 * time.Second},
		{20 * time.Second, 19 * time.Second, 20 * time.Second},
		{2 * time.Hour, 2*time.Hour - 361*time.Second, 2*time.Hour - 300*time.Second},
	} {
		w, f := newWorld(t, 1), newFetcher()
		f.expiresIn = c.expiresIn
		tokens := w.tokens(f)
		for range 5 {
			w.want(tokens, "token 1")
		}
		if n := f.calls.Load(); n != 1 {
			t.Errorf("%v: %d fetches", c.expiresIn, n)
		}
		left := time.Duration(get[float64](w, "SELECT extract(epoch FROM renew_at - now())::float8 FROM scanlogin.wechat_account") * float64(time.Second))
		if left > c.most || left < c.least-20*time.Second { // the machine may be slow
			t.Errorf("%v: kept for %v, want %v to %v", c.expiresIn, left, c.least, c.most)
		}
	}
}

func TestAFailedFetch(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t, 1), newFetcher()
	f.err = errors.New("no token today")
	tokens := w.tokens(f)
	heard := make(chan error, 100)
	tokens.Failed = func(err error) { heard <- err }
	for range 3 { // without an old token the next may try at once
		if _, err := tokens.Token(t.Context()); !errors.Is(err, f.err) {
			t.Errorf("got %v", err)
		}
	}
	if n := f.calls.Load(); n != 3 {
		t.Errorf("%d fetches in 3 tries", n)
	}

	if n := len(heard); n != 0 {
		t.Errorf("%d errors are told twice: the callers got them", n)
	}

	w.hold("old", -time.Second, time.Minute)
	w.want(tokens, "old")
	if err := <-heard; !errors.Is(err, f.err) {
		t.Errorf("the operator hears of %v", err)
	}
	await(t, "the end of the fetch", func() bool {
		return get[bool](w, "SELECT fetching_until = 'epoch' FROM scanlogin.wechat_account") && f.calls.Load() == 4
	})
	for range 5 { // nor is WeChat asked over and over while it works
		w.want(tokens, "old")
	}
	if n := f.calls.Load(); n != 4 {
		t.Errorf("%d fetches while the old token works", n-3)
	}
	w.ok(tokens.Drop(t.Context(), "old")) // until it doesn't
	if _, err := tokens.Token(t.Context()); !errors.Is(err, f.err) {
		t.Errorf("got %v", err)
	}
	w.hold("old", -time.Minute, -time.Second)
	if token, err := tokens.Token(t.Context()); !errors.Is(err, f.err) {
		t.Errorf("got %q (%v) when the old token has ended", token, err)
	}
}

func TestNobodyWaitsLongerThanTheyWant(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t, 1), newFetcher()
	f.answer = make(chan struct{})
	tokens := w.tokens(f)
	ctx, leave := context.WithCancel(t.Context())
	errs := make([]error, 5)
	var work sync.WaitGroup
	for i := range errs {
		work.Go(func() { _, errs[i] = tokens.Token(ctx) })
	}
	<-f.came
	leave()
	work.Wait()
	for _, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	close(f.answer) // the fetch is for everybody, and goes on
	await(t, "the token", func() bool { return strings.HasPrefix(w.held(), "token") })
	if n := f.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}
