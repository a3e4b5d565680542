package postgres_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

// joinTogether has streams counted by one statement. The pool of db has one connection.
func (w *world) joinTogether(db *postgres.DB, refs ...login.Ref) (logins []login.Login, errs []error) {
	w.t.Helper()
	conn, err := db.Hold(w.t.Context())
	w.ok(err)
	logins, errs = make([]login.Login, len(refs)), make([]error, len(refs))
	var done sync.WaitGroup
	for i, ref := range refs {
		done.Go(func() { logins[i], errs[i] = postgres.Logins{DB: db, AppID: appID}.Join(w.t.Context(), ref) })
		await(w.t, "the stream to be queued", func() bool { return db.Joining() == i+1 })
	}
	conn.Release()
	done.Wait()
	return logins, errs
}

func TestJoinsOfOneStatementAreEachCounted(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 10)
			db := w.open(w.url + "&pool_max_conns=1&default_query_exec_mode=" + mode)
			two, scanned, over, lost := w.show(), w.show(), w.show(), w.show()
			w.scan(scanned, "ann")
			w.timeOut(over.Ref)
			lost.ID = newID() // another login has its scene
			logins, errs := w.joinTogether(db, two.Ref, over.Ref, scanned.Ref, lost.Ref, two.Ref)
			for i, want := range []struct {
				login.Login
				state login.State
			}{{two, login.Waiting}, {over, 0}, {scanned, login.BindRequired}, {lost, 0}, {two, login.Waiting}} {
				switch {
				case want.state == 0 && !errors.Is(errs[i], login.ErrEnded):
					t.Errorf("join %d: %v, want that it has ended", i, errs[i])
				case want.state != 0 && (errs[i] != nil || logins[i].Ref != want.Ref || logins[i].Ticket != want.Ticket || logins[i].State != want.state):
					t.Errorf("join %d is %+v, %v", i, logins[i], errs[i])
				}
			}
			for l, want := range map[login.Ref]int{two.Ref: 3, scanned.Ref: 2, over.Ref: 1, {Scene: lost.Scene}: 1} {
				if n := get[int](w, "SELECT watchers FROM scanlogin.scene WHERE id = $1", l.Scene); n != want {
					t.Errorf("scene %d has %d watchers, want %d", l.Scene, n, want)
				}
			}
		})
	}
}

// Instances that take over each other's browsers wait for each other, but not for ever.
func TestJoinsAndLeavesInOppositeOrder(t *testing.T) {
	t.Parallel()
	const logins, instances, rounds = 40, 4, 5
	w := newWorld(t, logins)
	refs := make([]login.Ref, logins)
	for i := range refs {
		refs[i] = w.claim().Ref
	}
	w.exec("UPDATE scanlogin.scene SET watchers = 1000")
	backward := slices.Clone(refs)
	slices.Reverse(backward)
	stores := make([]postgres.Logins, instances)
	for i := range stores {
		stores[i] = postgres.Logins{DB: w.open(w.url), AppID: appID}
	}
	atOnce(instances*(logins+1), func(i int) {
		store, n := stores[i%instances], i/instances
		for range rounds {
			var err error
			switch {
			case n == logins:
				err = store.Leave(t.Context(), backward)
			case i%2 == 0:
				_, err = store.Join(t.Context(), refs[n])
			default:
				_, err = store.Join(t.Context(), backward[n])
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	if n := get[int](w, "SELECT count(*) FROM scanlogin.scene WHERE watchers = 1000"); n != logins {
		t.Errorf("%d of %d logins have the right number of watchers", n, logins)
	}
}

// Whatever the number of streams, and also once the plan is kept.
func TestJoinsFindTheirScenesByKey(t *testing.T) {
	t.Parallel()
	const scenes = 20_000
	w := newWorld(t, scenes)
	db := w.open(w.url + "&pool_max_conns=1")
	refs := make([]login.Ref, 30)
	for i := range refs {
		refs[i] = w.claim().Ref
	}
	w.exec("ANALYZE scanlogin.scene")
	w.exec("SELECT pg_stat_reset_single_table_counters('scanlogin.scene'::regclass)")
	for range 10 {
		for _, joins := range []int{1, 30, 2} {
			_, errs := w.joinTogether(db, refs[:joins]...)
			w.ok(errors.Join(errs...))
		}
	}
	conn, err := db.Hold(t.Context())
	w.ok(err)
	var kept *string // PostgreSQL 13 doesn't say
	w.ok(conn.QueryRow(t.Context(), `SELECT to_jsonb(p)->>'generic_plans' FROM pg_prepared_statements p
		WHERE statement LIKE '%name: Join :%'`).Scan(&kept))
	conn.Release()
	if kept != nil && *kept == "0" {
		t.Error("the plan is made anew for each statement")
	}
	db.Close() // its counters are told with its end
	await(t, "the statistics", func() bool {
		return get[int](w, "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'scene'") >= 330
	})
	if n := get[int](w, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'scene'"); n > 2*scenes { // what of it was read before may be told after
		t.Errorf("read %d rows in sequence", n)
	}
}
