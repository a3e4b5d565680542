package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

func TestSixtyFourClaimersNeverShareAScene(t *testing.T) {
	t.Parallel()
	const claimers, scenes, rounds = 64, 24, 6
	w := newWorld(t, scenes)
	dbs := []*postgres.DB{w.db, w.instance(), w.instance()}
	var mu sync.Mutex
	holder := map[int32]login.ID{}
	atOnce(claimers, func(i int) {
		logins := postgres.Logins{DB: dbs[i%len(dbs)], AppID: appID}
		for range rounds {
			l, err := logins.Claim(t.Context(), newID(), long, 0)
			if errors.Is(err, login.ErrExhausted) {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if other, held := holder[l.Scene]; held {
				t.Errorf("scene %d is held by %v and by %v", l.Scene, other, l.ID)
			}
			holder[l.Scene] = l.ID
			mu.Unlock()
			if i%2 == 0 {
				continue // holds it to the end
			}
			mu.Lock()
			delete(holder, l.Scene)
			mu.Unlock()
			if err := logins.Leave(t.Context(), []login.Ref{l.Ref}); err != nil {
				t.Error(err)
			}
		}
	})
	for scene, id := range holder {
		if s := w.state(login.Ref{Scene: scene, ID: id}); s != login.Waiting {
			t.Errorf("the login that holds scene %d is %v", scene, s)
		}
	}
}

func TestAsManyClaimsAsFreeScenesSucceedAtOnce(t *testing.T) {
	t.Parallel()
	const scenes = 12
	w := newWorld(t, scenes)
	errs := make([]error, 2*scenes)
	atOnce(len(errs), func(i int) { _, errs[i] = w.logins.Claim(t.Context(), newID(), long, 0) })
	got := 0
	for _, err := range errs {
		switch {
		case err == nil:
			got++
		case !errors.Is(err, login.ErrExhausted):
			t.Error(err)
		}
	}
	if got != scenes {
		t.Errorf("%d of %d scenes were claimed", got, scenes)
	}
}

// claimTogether has n logins claimed by one statement, in this order. The pool of db has one
// connection.
func (w *world) claimTogether(db *postgres.DB, n int) (logins []login.Login, errs []error) {
	w.t.Helper()
	conn, err := db.Hold(w.t.Context())
	w.ok(err)
	logins, errs = make([]login.Login, n), make([]error, n)
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			logins[i], errs[i] = postgres.Logins{DB: db, AppID: appID}.Claim(w.t.Context(), newID(), long, 0)
		})
		await(w.t, "the claim to be queued", func() bool { return db.Claiming() == i+1 })
	}
	conn.Release()
	done.Wait()
	return logins, errs
}

const position = "SELECT scanlogin.ring_position()"

func TestClaimsOfOneStatementAreServedInOrder(t *testing.T) {
	t.Parallel()
	const claims = 20
	for _, mode := range execModes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 50)
			w.prepare(4, "ready", 2*long, 0)
			before := get[int](w, position)
			db := w.open(w.url + "&pool_max_conns=1&default_query_exec_mode=" + mode)
			logins, errs := w.claimTogether(db, claims)
			w.ok(errors.Join(errs...))
			for i, l := range logins {
				if l.Scene != int32(2+i) {
					t.Errorf("claim %d got scene %d", i, l.Scene)
				}
				if (l.Scene == 4) != (l.Ticket.Ticket == "ready") {
					t.Errorf("scene %d comes with the code %v", l.Scene, l.Ticket)
				}
				if s := w.state(l.Ref); s != login.Waiting {
					t.Errorf("the login at scene %d is %v", l.Scene, s)
				}
			}
			if moved := get[int](w, position) - before; moved != claims {
				t.Errorf("the ring moved by %d for %d claims", moved, claims)
			}
		})
	}
}

func TestClaimsOfOneStatementNeverShareAScene(t *testing.T) {
	t.Parallel()
	const claims = 40 // several times around the ring
	for _, scenes := range []int32{1, 2, 3, 12} {
		t.Run(fmt.Sprint(scenes), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, scenes)
			db := w.open(w.url + "&pool_max_conns=1")
			logins, errs := w.claimTogether(db, claims)
			holders := map[int32]login.ID{}
			for i, l := range logins {
				if errors.Is(errs[i], login.ErrExhausted) {
					continue
				}
				w.ok(errs[i])
				if other, held := holders[l.Scene]; held {
					t.Errorf("scene %d is held by %v and by %v", l.Scene, other, l.ID)
				}
				holders[l.Scene] = l.ID
				if s := w.state(l.Ref); s != login.Waiting {
					t.Errorf("the login that holds scene %d is %v", l.Scene, s)
				}
			}
			if len(holders) != int(scenes) {
				t.Errorf("%d of %d scenes were claimed", len(holders), scenes)
			}
		})
	}
}

func TestWhoStopsWaitingTakesNoScene(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9)
	before := get[int](w, position)
	db := w.open(w.url + "&pool_max_conns=1")
	conn, err := db.Hold(t.Context())
	w.ok(err)
	ctx, leave := context.WithCancel(t.Context())
	var left, stays error
	var leaving, staying sync.WaitGroup
	claim := func(ctx context.Context) error {
		_, err := postgres.Logins{DB: db, AppID: appID}.Claim(ctx, newID(), long, 0)
		return err
	}
	leaving.Go(func() { left = claim(ctx) })
	staying.Go(func() { stays = claim(t.Context()) })
	await(t, "both claims", func() bool { return db.Claiming() == 2 })
	leave()
	leaving.Wait() // while nothing moves
	conn.Release()
	staying.Wait()
	w.ok(stays)
	if !errors.Is(left, context.Canceled) {
		t.Errorf("who left was told %v", left)
	}
	if moved := get[int](w, position) - before; moved != 1 {
		t.Errorf("the ring moved by %d for one who stayed", moved)
	}
}

func TestClaimsFailWithTheirPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9)
	for name, db := range map[string]*postgres.DB{
		"closed":      w.instance(),
		"unreachable": w.open("postgres:///?host=/nowhere"),
	} {
		if name == "closed" {
			db.Close()
		}
		atOnce(20, func(int) {
			_, err := postgres.Logins{DB: db, AppID: appID}.Claim(t.Context(), newID(), long, 0)
			if err == nil || errors.Is(err, login.ErrExhausted) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

func TestTheSceneThatRestedLongestComesNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	var order []int32
	for range 15 {
		l := w.claim()
		order = append(order, l.Scene)
		w.ok(w.logins.Leave(t.Context(), []login.Ref{l.Ref}))
	}
	if want := []int32{2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1}; !slices.Equal(order, want) {
		t.Errorf("claimed %v, want %v", order, want)
	}
}

func TestASceneRests(t *testing.T) {
	t.Parallel()
	const rest = 10 * time.Minute
	w := newWorld(t, 1)
	l := w.show()
	w.ok(w.logins.Leave(t.Context(), []login.Ref{l.Ref}))
	claim := func() error {
		_, err := w.logins.Claim(t.Context(), newID(), long, rest)
		return err
	}
	if err := claim(); !errors.Is(err, login.ErrExhausted) {
		t.Errorf("a scene that was just left was claimed: %v", err)
	}
	w.exec("UPDATE scanlogin.scene SET expires_at = now() - $1::interval + interval '5 s'", rest)
	if err := claim(); !errors.Is(err, login.ErrExhausted) {
		t.Errorf("a scene was claimed before its rest was over: %v", err)
	}
	w.exec("UPDATE scanlogin.scene SET expires_at = now() - $1::interval", rest)
	if err := claim(); err != nil {
		t.Errorf("a scene that has rested was not claimed: %v", err)
	}
}

func TestAnAbandonedSceneNeedsNoRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	for range 3 {
		l, err := w.logins.Claim(t.Context(), newID(), long, long)
		w.ok(err)
		w.ok(w.logins.Abandon(t.Context(), l.Ref))
		if s := w.state(l.Ref); s != login.Expired {
			t.Errorf("an abandoned login is %v", s)
		}
	}
}

func TestAFullPoolIsSaidInBoundedSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2000)
	w.exec("UPDATE scanlogin.scene SET state = 'waiting', login = gen_random_uuid(), expires_at = now() + interval '1 h'")
	before := get[int](w, "SELECT last_value FROM scanlogin.scene_ring")
	if _, err := w.logins.Claim(t.Context(), newID(), long, 0); !errors.Is(err, login.ErrExhausted) {
		t.Errorf("got %v from a full pool", err)
	}
	if steps := get[int](w, "SELECT last_value FROM scanlogin.scene_ring") - before; steps < 2 || steps > 32 {
		t.Errorf("a full pool was searched for %d steps", steps)
	}
}

func TestALockedSceneIsSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM scanlogin.scene WHERE id = 1 FOR UPDATE")
	w.ok(err)
	if l := w.claim(); l.Scene != 2 {
		t.Errorf("claimed scene %d beside a locked scene 1", l.Scene)
	}
	if l := w.claim(); l.Scene != 3 {
		t.Errorf("claimed scene %d beside a locked scene 1", l.Scene)
	}
	if _, err := w.logins.Claim(t.Context(), newID(), long, 0); !errors.Is(err, login.ErrExhausted) {
		t.Errorf("got %v where the last scene is locked", err)
	}
}

func TestAStatementReadsOneRowWhateverThePoolWasBefore(t *testing.T) {
	t.Parallel()
	const scenes, stories = 20_000, 50
	w := newWorld(t, 1)
	// An instance that has prepared its statements while the pool was small.
	old := w.open(w.url + "&pool_max_conns=1&plan_cache_mode=force_generic_plan")
	w.exec("ANALYZE scanlogin.scene")
	logins := postgres.Logins{DB: old, AppID: appID}
	story := func() {
		l, err := logins.Claim(t.Context(), newID(), long, 0)
		w.ok(err)
		l.Ticket.Ticket = l.ID.String()
		w.ok(logins.SetTicket(t.Context(), l.Ref, l.Ticket))
		_, err = logins.Join(t.Context(), l.Ref)
		w.ok(err)
		_, err = logins.Current(t.Context(), l.Ref)
		w.ok(err)
		w.ok(logins.Leave(t.Context(), []login.Ref{l.Ref}))
		_, _, err = logins.Scan(t.Context(), scanOf(l, "ann"), long)
		w.ok(err)
		w.timeOut(l.Ref)
	}
	story()
	w.resize(scenes)
	const reads = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'scene'"
	const updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'scene'"
	w.exec("SELECT pg_stat_reset_single_table_counters('scanlogin.scene'::regclass)")
	for range stories {
		story()
	}
	old.Close() // its counters are told with its end
	await(t, "the statistics", func() bool { return get[int](w, updates) >= stories })
	if n := get[int](w, reads); n > 2*scenes { // what of it was read before the reset may be told after it
		t.Errorf("%d logins read %d rows in sequence", stories, n)
	}
}

// Whatever the number of claims, and also once the plan is kept.
func TestClaimsFindTheirScenesByKey(t *testing.T) {
	t.Parallel()
	for _, scenes := range []int32{1000, 20_000} {
		t.Run(fmt.Sprint(scenes), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, scenes)
			db := w.open(w.url + "&pool_max_conns=1")
			w.exec("SELECT pg_stat_reset_single_table_counters('scanlogin.scene'::regclass)")
			for range 10 {
				for _, claims := range []int{1, 30, 2} {
					_, errs := w.claimTogether(db, claims)
					w.ok(errors.Join(errs...))
				}
			}
			conn, err := db.Hold(t.Context())
			w.ok(err)
			var kept *string // PostgreSQL 13 doesn't say
			w.ok(conn.QueryRow(t.Context(), `SELECT to_jsonb(p)->>'generic_plans' FROM pg_prepared_statements p
				WHERE statement LIKE '%name: Claim :%'`).Scan(&kept))
			conn.Release()
			if kept != nil && *kept == "0" {
				t.Error("the plan is made anew for each statement")
			}
			db.Close() // its counters are told with its end
			await(t, "the statistics", func() bool {
				return get[int](w, "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'scene'") >= 330
			})
			if n := get[int](w, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'scene'"); n > 2*int(scenes) { // as above
				t.Errorf("read %d rows in sequence", n)
			}
		})
	}
}

func TestAClaimWhoseCallerLeftIsNotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	r, through := newRelay(t, w.url)
	r.pass = func(byte) bool { <-answer; return true }
	db := w.open(through + "&pool_max_conns=1")
	t.Cleanup(release) // or it could not be closed
	logins := postgres.Logins{DB: db, AppID: appID}
	l, err := logins.Claim(t.Context(), newID(), long, 0) // the statement is prepared
	w.ok(err)
	w.ok(logins.Abandon(t.Context(), l.Ref))
	r.cut() // answers are held up from now on

	ctx, leave := context.WithCancel(t.Context())
	var claimed login.Login
	var done sync.WaitGroup
	done.Go(func() { claimed, err = logins.Claim(ctx, newID(), long, 0) })
	await(t, "the claim", func() bool {
		return get[string](w, "SELECT state FROM scanlogin.scene WHERE id = $1", l.Scene+1) == "waiting"
	})
	leave()
	release()
	done.Wait()
	if err != nil || w.state(claimed.Ref) != login.Waiting {
		t.Errorf("nobody knows of the scene that is held: %v", err)
	}
	if _, err := w.logins.Claim(ctx, newID(), long, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("claiming for somebody who has left gave %v", err)
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	ids := func() []int32 {
		return get[[]int32](w, "SELECT array_agg(id ORDER BY id) FROM scanlogin.scene")
	}
	second, third, first := w.show(), w.show(), w.show()
	if first.Scene != 1 {
		t.Fatalf("scene %d came third: what was added to the first scene comes before it", first.Scene)
	}

	w.resize(1) // both go on
	if got := ids(); !slices.Equal(got, []int32{1, 2, 3}) {
		t.Errorf("scenes %v after a shrink with all held", got)
	}
	if _, err := w.logins.Claim(t.Context(), newID(), long, 0); !errors.Is(err, login.ErrExhausted) {
		t.Errorf("a retired scene was claimed, or the held one: %v", err)
	}
	w.tie("ann", w.account("ann"))
	if o := w.scan(third, "ann"); o != login.LoggedIn {
		t.Errorf("a login on a retired scene was scanned: %v", o)
	}
	w.ok(w.complete(third.Ref))
	w.resize(1)
	if got := ids(); !slices.Equal(got, []int32{1, 2}) {
		t.Errorf("scenes %v after the login on scene 3 has ended", got)
	}

	w.resize(4) // the held one is kept, the others are new
	if s := w.state(second.Ref); s != login.Waiting {
		t.Errorf("the held login is %v after the pool grew again", s)
	}
	if o := w.scan(third, "ann"); o != login.Stale {
		t.Errorf("a code from before shrink and growth gave %v", o)
	}
	if err := w.complete(third.Ref); !errors.Is(err, login.ErrEnded) {
		t.Errorf("a key from before shrink and growth gave %v", err)
	}
	if a, b := w.claim().Scene, w.claim().Scene; a != 3 || b != 4 {
		t.Errorf("claimed %d and %d after the pool grew to 4 with 1 and 2 held", a, b)
	}
}

func TestAResizeGoesOnWhereTheRingStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100)
	for range 40 {
		w.claim() // from 2 on
	}
	w.resize(80)
	if l := w.claim(); l.Scene != 42 {
		t.Errorf("after a shrink, scene %d came next, want 42: those before it are held", l.Scene)
	}
	w.resize(30)
	if l := w.claim(); l.Scene != 1 {
		t.Errorf("after a shrink to where the ring was past, scene %d came next, want 1", l.Scene)
	}
	if _, err := w.logins.Claim(t.Context(), newID(), long, 0); !errors.Is(err, login.ErrExhausted) {
		t.Errorf("claimed from a pool whose scenes are all held: %v", err)
	}
	w.resize(200)
	if l := w.claim(); l.Scene != 43 {
		t.Errorf("after growth, scene %d came next, want the first free one, 43", l.Scene)
	}
}

func TestInstancesResizeWhileOthersClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20)
	ctx, stop := context.WithCancel(t.Context())
	var claimers sync.WaitGroup
	for range 8 {
		claimers.Go(func() {
			for ctx.Err() == nil {
				l, err := w.logins.Claim(t.Context(), newID(), long, 0)
				if errors.Is(err, login.ErrExhausted) {
					continue
				}
				if err == nil {
					err = w.logins.Leave(t.Context(), []login.Ref{l.Ref})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	sizes := []int32{1, 40, 7, 20, 300, 2}
	dbs := []*postgres.DB{w.instance(), w.instance(), w.instance(), w.instance()}
	atOnce(len(dbs), func(i int) {
		for j := range 3 * len(sizes) {
			if err := dbs[i].ResizePool(t.Context(), sizes[(i+j)%len(sizes)]); err != nil {
				t.Error(err)
			}
		}
	})
	stop()
	claimers.Wait()
	w.resize(25)
	if n := get[int](w, "SELECT count(*) FROM scanlogin.scene"); n != 25 {
		t.Errorf("%d scenes in a pool of 25", n)
	}
	for range 25 {
		w.claim()
	}
}
