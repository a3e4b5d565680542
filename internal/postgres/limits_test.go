package postgres_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"scanlogin/internal/limit"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/pgstore"
)

func newKey() (k limit.Key) {
	rand.Read(k[:])
	return k
}

func limitOf(k limit.Key) limit.Count {
	return limit.Count{Key: k, Rate: limit.Rate{Burst: 10, Per: time.Hour}}
}

// takes counts, and tells for how long each has to wait.
func (w *world) takes(counts ...limit.Count) []time.Duration {
	w.t.Helper()
	waits, err := postgres.Limits{DB: w.db}.Take(w.t.Context(), counts)
	w.ok(err)
	return waits
}

// passes lets time pass for every limit.
func (w *world) passes(d time.Duration) {
	w.t.Helper()
	w.exec("UPDATE scanlogin.rate_limit SET tat = tat - $1::interval WHERE tat > 'epoch'", d)
}

// within says that a wait is what it should be, less what a busy machine has taken.
func within(got, want time.Duration) bool {
	return got <= want && got >= want/2 && (got > 0) == (want > 0)
}

func admitted(waits []time.Duration) bool { return slices.Max(waits) == 0 }

func TestASteadyLimitLetsABurstThroughAndThenOneAStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	count := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 3, Per: 30 * time.Minute}}
	try := func(want time.Duration) {
		t.Helper()
		if got := w.takes(count)[0]; !within(got, want) {
			t.Errorf("has to wait %v, want %v", got, want)
		}
	}
	for range 3 {
		try(0)
	}
	for range 3 { // who is refused uses up nothing
		try(10 * time.Minute)
	}
	w.passes(10 * time.Minute)
	try(0)
	try(10 * time.Minute)
	w.passes(10 * time.Hour)
	for range 3 { // not more than a burst, however long one waits
		try(0)
	}
	try(10 * time.Minute)
	w.ok(postgres.Limits{DB: w.db}.GiveBack(t.Context(), []limit.Count{count}))
	try(0)
	try(10 * time.Minute)
}

func TestAGrowingLimitDoublesTheWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	count := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 3, Per: 9 * time.Minute, Growing: true}}
	try := func(want time.Duration) {
		t.Helper()
		if got := w.takes(count)[0]; !within(got, want) {
			t.Errorf("has to wait %v, want %v", got, want)
		}
	}
	for range 3 {
		try(0)
	}
	wait := time.Second
	for _, next := range []int{2, 4, 8, 16, 32, 64, 128, 180, 180} {
		if wait > 10*time.Second { // shorter ones may be over by now
			try(wait)
		}
		w.passes(wait)
		try(0)
		wait = time.Duration(next) * time.Second
	}
	w.passes(3*time.Minute + 8*time.Minute) // not forgotten yet
	try(0)
	try(3 * time.Minute)
	w.passes(3*time.Minute + 9*time.Minute)
	for range 3 {
		try(0)
	}
	w.ok(postgres.Limits{DB: w.db}.GiveBack(t.Context(), []limit.Count{count}))
	for range 3 {
		try(0)
	}
}

func TestAllIsCountedOrNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	few := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 1, Per: time.Hour}}
	many := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 3, Per: time.Hour}}
	if waits := w.takes(few, many); !admitted(waits) {
		t.Errorf("the first waits for %v", waits)
	}
	for range 5 {
		if waits := w.takes(many, few); waits[0] != 0 || !within(waits[1], time.Hour) {
			t.Errorf("waits for %v, want for the second", waits)
		}
		if waits := w.takes(few, many); waits[1] != 0 || !within(waits[0], time.Hour) {
			t.Errorf("waits for %v, want for the first", waits)
		}
	}
	for range 2 {
		if !admitted(w.takes(many)) {
			t.Error("what was refused was counted")
		}
	}
	if waits := w.takes(few, many); !within(waits[0], time.Hour) || !within(waits[1], 20*time.Minute) {
		t.Errorf("waits for %v, want for both", waits)
	}
	if waits, err := (postgres.Limits{DB: w.db}).Take(t.Context(), nil); len(waits) != 0 || err != nil {
		t.Errorf("nothing at all: %v, %v", waits, err)
	}
}

// Many at once, through several instances, whose keys overlap in every order.
func TestExactlyABurstGetsThroughTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	const askers, each, burst = 48, 20, 371
	instances := []*postgres.DB{w.db, w.instance(), w.instance(), w.instance()}
	shared := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: burst, Per: time.Hour}}
	own := make([]limit.Count, 8)
	for i := range own {
		own[i] = limit.Count{Key: newKey(), Rate: limit.Rate{Burst: askers * each, Per: time.Hour, Growing: true}}
	}
	var through atomic.Int64
	var counted [8]atomic.Int64
	ask := func(i int) {
		counts := []limit.Count{shared, own[i%8], own[(i+3)%8]}
		if i%2 == 0 {
			slices.Reverse(counts)
		}
		waits, err := postgres.Limits{DB: instances[i%4]}.Take(t.Context(), counts)
		if err != nil {
			t.Error(err)
			return
		}
		if admitted(waits) {
			through.Add(1)
			counted[i%8].Add(1)
			counted[(i+3)%8].Add(1)
		}
	}
	atOnce(askers, func(i int) {
		for n := range each {
			ask(i + n)
		}
	})
	if n := through.Load(); n != burst {
		t.Errorf("%d got through, want %d", n, burst)
	}
	for i, c := range own {
		if tries := get[int64](w, "SELECT coalesce((SELECT tries FROM scanlogin.rate_limit WHERE key = $1), 0)", c.Key[:]); tries != counted[i].Load() {
			t.Errorf("%d tries are counted, %d got through", tries, counted[i].Load())
		}
	}
}

// A key that is removed in the middle of it all begins anew; nobody is left without an answer.
func TestTakingGoesOnWhileKeysAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	removed := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			_, err = w.db.RemoveLimits(t.Context(), pgstore.RemoveLimitsParams{After: []byte{}, Most: 100, Keep: -long})
		}
		removed <- err
	}()
	keys := make([]limit.Key, 20)
	for i := range keys {
		keys[i] = newKey()
	}
	atOnce(8, func(i int) {
		for n := range 50 {
			counts := []limit.Count{
				{Key: keys[(i+n)%20], Rate: limit.Rate{Burst: 1000, Per: long}},
				{Key: keys[(i+n+7)%20], Rate: limit.Rate{Burst: 1000, Per: long}},
			}
			waits, err := postgres.Limits{DB: w.db}.Take(t.Context(), counts)
			if err != nil || !admitted(waits) {
				t.Errorf("%v, %v", waits, err)
			}
		}
	})
	stop()
	w.ok(<-removed)
}

func TestOnlyTheDatabasesClockGivesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.newClock()
	count := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 1, Per: 3 * 365 * 24 * time.Hour}}
	if !admitted(c.takes(count)) || admitted(c.takes(count)) {
		t.Error("not one at once")
	}
	c.ahead(count.Rate.Per - time.Minute)
	if waits := c.takes(count); !within(waits[0], time.Minute) {
		t.Errorf("just before it is there again: %v", waits)
	}
	c.ahead(count.Rate.Per + time.Second)
	if !admitted(c.takes(count)) {
		t.Error("years later it is still used up")
	}
}

func TestACheckOfLimitsCostsNextToNothing(t *testing.T) {
	const takes = 300
	w := newWorld(t, 1)
	// As for a code, of twenty addresses in one network.
	network := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 10 * takes, Per: time.Hour}}
	day := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 10 * takes, Per: 24 * time.Hour}}
	addresses := make([]limit.Count, 20)
	for i := range addresses {
		addresses[i] = limit.Count{Key: newKey(), Rate: limit.Rate{Burst: takes, Per: time.Hour}}
	}
	run := func() {
		for i := range takes {
			if !admitted(w.takes(addresses[i%20], network, day)) {
				t.Fatal("refused")
			}
		}
	}
	run()
	w.exec("CHECKPOINT")
	wal := get[string](w, "SELECT pg_current_wal_insert_lsn()::text")
	run()
	// That there was a commit, and nothing of what it did. No other test writes at the same
	// time: those that are parallel wait for this one.
	if n := get[float64](w, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::float8", wal) / takes; n > 120 {
		t.Errorf("%.0f bytes of WAL a check", n)
	}
	if size := get[int](w, "SELECT pg_relation_size('scanlogin.rate_limit')"); size > 10*8192 {
		t.Errorf("%d bytes for %d keys", size, len(addresses)+2)
	}
}

func TestALimitedBeginIsOneRoundTripMore(t *testing.T) {
	const begins = 100
	var trips atomic.Int64
	w := newWorld(t, 2*begins)
	relay, through := newRelay(t, w.url)
	relay.pass = func(kind byte) bool {
		if kind == 'Z' { // ready for the next query: the end of a round trip
			trips.Add(1)
		}
		return true
	}
	relay.deaf.Store(1) // which makes it ask about each message of the first connection
	db := w.open(through + "&pool_max_conns=1")
	rate := limit.Rate{Burst: 1000, Per: time.Hour}
	limiter := &limit.Limiter{Store: postgres.Limits{DB: db}, Rules: limit.Rules{Codes: rate, CodesNetwork: rate, CodesDay: rate}, Logger: slog.New(slog.DiscardHandler)}
	begin := func(limiter *limit.Limiter) int64 {
		began := trips.Load()
		for range begins {
			w.ok(limiter.Code(t.Context(), netip.MustParseAddr("192.0.2.7")))
			_, err := postgres.Logins{DB: db}.Claim(t.Context(), newID(), 0, 0)
			w.ok(err)
		}
		return trips.Load() - began
	}
	begin(limiter) // statements are prepared
	without, with := begin(nil), begin(limiter)
	// Of either, once in a while one is the pool's ping.
	if more := with - without; more > begins+begins/20 || more < begins-begins/20 {
		t.Errorf("%d round trips more for %d begins", more, begins)
	}
}

func TestForgottenLimitsAreRemovedAndNoOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.exec("INSERT INTO scanlogin.rate_limit (key, tat) SELECT sha256(n::text::bytea), now() - interval '1 h' FROM generate_series(1, 2500) n")
	w.exec("INSERT INTO scanlogin.rate_limit (key, tat) SELECT sha256(n::text::bytea), now() - interval '29 min' FROM generate_series(2501, 5000) n")
	h := w.keepHouse()
	await(t, "the end of what is forgotten", func() bool { return h.counts()["rate_limit"] == 2500 })
	h.stop()
	if n := get[int](w, "SELECT count(*) FROM scanlogin.rate_limit"); n != 2500 {
		t.Errorf("%d keys are left", n)
	}
}

// BenchmarkClaim beside BenchmarkClaimLimited is what the limits cost a claim.
func BenchmarkClaim(b *testing.B) { benchmarkClaim(b, false) }

func BenchmarkClaimLimited(b *testing.B) { benchmarkClaim(b, true) }

func benchmarkClaim(b *testing.B, limited bool) {
	w := newWorld(b, 100_000)
	w.exec("VACUUM ANALYZE scanlogin.scene")
	limits := postgres.Limits{DB: w.db}
	network := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 1 << 30, Per: time.Hour}}
	day := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 1 << 30, Per: time.Hour}}
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		address := limit.Count{Key: newKey(), Rate: limit.Rate{Burst: 1 << 30, Per: time.Hour}}
		for pb.Next() {
			if limited {
				if waits, err := limits.Take(b.Context(), []limit.Count{address, network, day}); err != nil || !admitted(waits) {
					b.Error(waits, err)
				}
			}
			if _, err := w.logins.Claim(b.Context(), newID(), 0, 0); err != nil {
				b.Error(err)
			}
		}
	})
}
