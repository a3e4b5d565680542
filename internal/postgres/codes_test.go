package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

func (w *world) reserve() postgres.Reserve { return postgres.Reserve{DB: w.db, Holder: newID()} }

func (w *world) prepare(scene int32, ticket string, ttl, fresh time.Duration) {
	w.t.Helper()
	w.ok(w.reserve().Prepare(w.t.Context(), scene, login.Ticket{Ticket: ticket, URL: "url of " + ticket}, ttl, fresh))
}

func (w *world) bare(n int64) []int32 {
	w.t.Helper()
	r := w.reserve()
	position, size, err := r.Ring(w.t.Context())
	w.ok(err)
	scenes, err := r.Bare(w.t.Context(), position, size, min(n, size), time.Minute)
	w.ok(err)
	return scenes
}

const readyColumns = "SELECT ready_ticket || ' ' || ready_url || ' ' || (ready_until > 'epoch')::text FROM scanlogin.scene WHERE id = $1"

func (w *world) claimFor(ttl time.Duration) login.Login {
	w.t.Helper()
	l, err := w.logins.Claim(w.t.Context(), newID(), ttl, 0)
	w.ok(err)
	return l
}

func TestAClaimTakesTheReadyCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.prepare(1, "ready", long, time.Minute)
	l := w.claimFor(long / 2)
	if want := (login.Ticket{Ticket: "ready", URL: "url of ready"}); l.Ticket != want {
		t.Errorf("claimed with %+v, want %+v", l.Ticket, want)
	}
	if left := get[string](w, readyColumns, 1); left != "  false" {
		t.Errorf("%q is left for the next one", left)
	}
	if o := w.scan(l, "ann"); o != login.MustBind {
		t.Errorf("scanned: %v", o)
	}
	w.timeOut(l.Ref)
	if next := w.claim(); next.Ticket != (login.Ticket{}) {
		t.Errorf("the next one got %+v", next.Ticket)
	}
}

func TestAReadyCodeThatWouldEndTooEarlyIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.prepare(1, "ready", time.Minute, 0)
	l := w.claimFor(2 * time.Minute)
	if l.Ticket != (login.Ticket{}) {
		t.Errorf("claimed with %+v", l.Ticket)
	}
	if left := get[string](w, readyColumns, 1); left != "  false" {
		t.Errorf("%q is left for the next one", left)
	}
	if o := w.scan(login.Login{Ref: l.Ref, Ticket: login.Ticket{Ticket: "ready"}}, "ann"); o != login.Stale {
		t.Errorf("the code that was dropped was scanned: %v", o)
	}
}

func TestAFreshReadyCodeStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.prepare(1, "first", 10*time.Minute, 5*time.Minute)
	w.prepare(1, "second", 20*time.Minute, 5*time.Minute)
	if now := get[string](w, readyColumns, 1); now != "first url of first true" {
		t.Errorf("ready: %q", now)
	}
	w.prepare(1, "third", 20*time.Minute, 15*time.Minute) // the first is too old for that
	if now := get[string](w, readyColumns, 1); now != "third url of third true" {
		t.Errorf("ready: %q", now)
	}
	w.prepare(7, "no such scene", time.Minute, 0)
}

func TestACodeCanBeMadeReadyWhileItsSceneIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := w.show()
	w.prepare(1, "ready", 2*long, time.Minute)
	if now, err := w.logins.Join(t.Context(), l.Ref); err != nil || now.Ticket != l.Ticket {
		t.Errorf("the holder's code is %+v (%v), want %+v", now.Ticket, err, l.Ticket)
	}
	ready := login.Login{Ref: l.Ref, Ticket: login.Ticket{Ticket: "ready"}}
	if o := w.scan(ready, "ann"); o != login.Stale {
		t.Errorf("a code that nobody was shown was scanned: %v", o)
	}
	if o := w.scan(l, "ann"); o != login.MustBind {
		t.Errorf("the holder's code was scanned: %v", o)
	}
	w.timeOut(l.Ref)
	if next := w.claimFor(long); next.Ticket.Ticket != "ready" {
		t.Errorf("the next one got %+v", next.Ticket)
	}
}

// 32 browsers, and two instances that make codes at the same time and renew them all.
func TestNoCodeIsShownTwice(t *testing.T) {
	t.Parallel()
	const claimers, scenes, rounds = 32, 12, 30
	w := newWorld(t, scenes)
	dbs := []*postgres.DB{w.db, w.instance(), w.instance()}
	ctx, stop := context.WithCancel(t.Context())
	var preparers sync.WaitGroup
	var made, given atomic.Int32
	for i := range 2 {
		r := postgres.Reserve{DB: dbs[i], Holder: newID()}
		preparers.Go(func() {
			for ctx.Err() == nil {
				position, size, err := r.Ring(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				// What is fresh changes, so that codes are renewed too.
				fresh := time.Duration(made.Load()%3) * long
				bare, err := r.Bare(t.Context(), position, size, size, fresh)
				for _, scene := range bare {
					ticket := fmt.Sprintf("code %d", made.Add(1))
					if err == nil {
						err = r.Prepare(t.Context(), scene, login.Ticket{Ticket: ticket, URL: ticket}, 2*long, fresh)
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var shown sync.Map // ticket -> login
	atOnce(claimers, func(i int) {
		logins := postgres.Logins{DB: dbs[i%len(dbs)], AppID: appID}
		for j := range rounds {
			l, err := logins.Claim(t.Context(), newID(), time.Minute, 0)
			if errors.Is(err, login.ErrExhausted) {
				continue
			}
			if err == nil && l.Ticket != (login.Ticket{}) {
				given.Add(1)
				if l.Ticket.Ticket != l.URL {
					t.Errorf("half of one code and half of another: %+v", l.Ticket)
				}
				if other, twice := shown.LoadOrStore(l.Ticket.Ticket, l.ID); twice {
					t.Errorf("%s was given to %v and to %v", l.Ticket.Ticket, other, l.ID)
				}
			}
			if err == nil && j%2 == 0 {
				err = logins.Abandon(t.Context(), l.Ref)
			} else if err == nil {
				err = logins.Leave(t.Context(), []login.Ref{l.Ref})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	stop()
	preparers.Wait()
	if given.Load() < rounds {
		t.Errorf("%d codes were given, of %d made: that tests nothing", given.Load(), made.Load())
	}
}

func TestBareScenesComeInTheRingsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5) // the ring goes on at 2: scene 1 was there before
	for _, c := range []struct {
		name string
		act  func()
		want []int32
	}{
		{"grown", func() {}, []int32{2, 3, 4, 5, 1}},
		{"a claim", func() { w.claim() }, []int32{3, 4, 5, 1, 2}},
		{"two ready", func() { w.prepare(3, "3", long, 0); w.prepare(1, "1", long, 0) }, []int32{4, 5, 2}},
		{"too old", func() { w.exec("UPDATE scanlogin.scene SET ready_until = now() + interval '59 s' WHERE id = 3") }, []int32{3, 4, 5, 2}},
		{"around", func() { w.claim(); w.claim(); w.claim() }, []int32{2, 3, 4, 5}},
		{"grown again", func() { w.resize(8) }, []int32{6, 7, 8, 2, 3, 4, 5}},
		{"claimed there", func() { w.claim() }, []int32{7, 8, 2, 3, 4, 5, 6}},
		{"shrunk below", func() { w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'"); w.resize(3) }, []int32{2, 3}},
		{"of one", func() { w.resize(1); w.exec("UPDATE scanlogin.scene SET ready_until = 'epoch'") }, []int32{1}},
	} {
		c.act()
		got := w.bare(100)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for n := range int64(len(c.want)) { // fewer are the first of them
			if some := w.bare(n); !slices.Equal(some, got[:len(some)]) {
				t.Errorf("%s: the bare ones of the next %d are %v, of all %v", c.name, n, some, got)
			}
		}
	}
	for range 3 { // a pool of one
		if l := w.claim(); l.Scene != 1 {
			t.Errorf("claimed %d", l.Scene)
		}
		if got := w.bare(100); !slices.Equal(got, []int32{1}) {
			t.Errorf("ahead in a pool of one: %v", got)
		}
		w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch'")
	}
}

// The first bare scene is the one that is claimed next, wherever the ring was put.
func TestTheNextClaimIsTheFirstAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	for _, size := range []int32{6, 6, 9, 20, 4, 4, 4, 1, 1, 7, 3} {
		w.resize(size)
		for range 2 {
			w.exec("UPDATE scanlogin.scene SET expires_at = 'epoch', ready_until = 'epoch'")
			if ahead, l := w.bare(100), w.claim(); ahead[0] != l.Scene {
				t.Errorf("size %d: scene %d was claimed, ahead were %v", size, l.Scene, ahead)
			}
		}
	}
}

func TestOneInstanceLeads(t *testing.T) {
	t.Parallel()
	const instances = 20
	w := newWorld(t, 1)
	all := make([]postgres.Reserve, instances)
	for i := range all {
		all[i] = postgres.Reserve{DB: w.db, Holder: newID()}
	}
	lead := func() (leader int) {
		t.Helper()
		var leaders []int
		var mu sync.Mutex
		atOnce(instances, func(i int) {
			is, err := all[i].Lead(t.Context(), long)
			if err != nil {
				t.Error(err)
			}
			if is {
				mu.Lock()
				leaders = append(leaders, i)
				mu.Unlock()
			}
		})
		if len(leaders) != 1 {
			t.Fatalf("%v lead", leaders)
		}
		return leaders[0]
	}
	first := lead()
	if again := lead(); again != first {
		t.Errorf("%d leads, and %d has the lease", again, first)
	}
	w.ok(all[(first+1)%instances].Resign(t.Context())) // which it hasn't
	if again := lead(); again != first {
		t.Errorf("%d leads, after another has resigned", again)
	}
	w.exec("UPDATE scanlogin.lease SET until = now() - interval '1 ms', holder = $1", newID().String()) // it died
	second := lead()
	w.ok(all[second].Resign(t.Context()))
	if is, err := all[(second+1)%instances].Lead(t.Context(), long); err != nil || !is {
		t.Errorf("nobody leads after the leader has resigned (%v)", err)
	}
}

// Midnight is WeChat's, whatever the session's time zone.
func TestTheQuotaIsEveryInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.ok(w.db.AddWeChatAccount(t.Context(), appID))
	w.ok(w.db.AddWeChatAccount(t.Context(), "another"))
	here := postgres.Quota{DB: w.open(w.url + "&timezone=Pacific/Kiritimati"), AppID: appID}
	there := postgres.Quota{DB: w.open(w.url + "&timezone=Pacific/Pago_Pago"), AppID: appID}
	made := func(want int) {
		t.Helper()
		for _, q := range []postgres.Quota{here, there} {
			if n, err := q.MadeToday(t.Context()); err != nil || n != want {
				t.Errorf("%d made (%v), want %d", n, err, want)
			}
		}
	}
	made(0)
	atOnce(40, func(i int) {
		if err := []postgres.Quota{here, there}[i%2].Count(t.Context()); err != nil {
			t.Error(err)
		}
	})
	made(40)
	w.ok(postgres.Quota{DB: w.db, AppID: "another"}.Count(t.Context()))
	made(40)
	const today = "(now() AT TIME ZONE 'Asia/Shanghai')::date"
	if days := get[int](w, "SELECT count(*) FROM scanlogin.wechat_codes WHERE day = "+today); days != 2 {
		t.Errorf("%d counts of today, want one for each account", days)
	}
	w.exec("UPDATE scanlogin.wechat_codes SET day = "+today+" - 1 WHERE appid = $1", appID) // midnight has come
	w.exec("INSERT INTO scanlogin.wechat_codes VALUES ($1, "+today+" + 1, 7)", appID)
	made(0)
	w.ok(here.Count(t.Context()))
	made(1)

	blocked := func(least, most time.Duration) {
		t.Helper()
		for _, q := range []postgres.Quota{here, there} {
			err := q.Check(t.Context())
			e, ok := errors.AsType[*postgres.BlockedError](err)
			switch {
			case !ok:
				t.Errorf("got %v, want it blocked", err)
			case e.For <= least || e.For > most:
				t.Errorf("blocked for %v, want %v to %v", e.For, least, most)
			}
		}
	}
	w.ok(here.Check(t.Context()))
	w.ok(here.Block(t.Context(), long))
	blocked(long-time.Minute, long)
	w.ok(there.Block(t.Context(), time.Second)) // the later end counts
	blocked(long-time.Minute, long)
	w.ok(there.Block(t.Context(), 2*long))
	blocked(2*long-time.Minute, 2*long)
	w.ok(postgres.Quota{DB: w.db, AppID: "another"}.Check(t.Context()))
	w.exec("UPDATE scanlogin.wechat_account SET no_codes_until = now() - interval '1 ms'")
	w.ok(here.Check(t.Context()))
}
