package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

// What a login costs the database in counts that are the same on every machine. Each bound
// is what it takes today and a little more: whoever passes it knows why, or has made a
// mistake.
func TestCostOfALogin(t *testing.T) {
	const logins = 200
	var trips atomic.Int64
	w := newWorld(t, 2*logins)
	relay, through := newRelay(t, w.url)
	relay.pass = func(kind byte) bool {
		if kind == 'Z' { // ready for the next query: the end of a round trip
			trips.Add(1)
		}
		return true
	}
	relay.deaf.Store(1) // which makes it ask about each message of the first connection
	db := w.open(through + "&pool_max_conns=1")
	notifier, stop := notifier(t, db)
	defer stop()
	story := &login.Service{
		Store:    postgres.Logins{DB: db, AppID: appID},
		Notify:   notifier.Notify,
		SceneTTL: long, BindTTL: long, SessionTTL: long,
		Logger: slog.New(slog.DiscardHandler),
	}
	w.tie("somebody", w.account("somebody"))
	reserve := postgres.Reserve{DB: w.db, Holder: newID()}
	for scene := range int32(2 * logins) {
		code := login.Ticket{Ticket: "ticket-" + strconv.Itoa(int(scene)), URL: "http://weixin.qq.com/q/x"}
		w.ok(reserve.Prepare(t.Context(), scene+1, code, 2*long, 0))
	}
	run := func() {
		for range logins {
			logIn(t, story)
		}
	}
	run() // statements are prepared, pages are made
	w.exec("CHECKPOINT")
	began, wal := trips.Load(), get[string](w, "SELECT pg_current_wal_insert_lsn()::text")
	run()
	// Claim, scan, NOTIFY, look, complete, NOTIFY; and once in a while the pool's ping.
	if n := trips.Load() - began; n > 6*logins+logins/20 {
		t.Errorf("%.2f round trips a login, want 6", float64(n)/logins)
	}
	// Three versions of the row, the push's reply, the session, two rows of the audit log (a
	// fifth of it), three commits. No other test
	// writes at the same time: those that are parallel wait for this one.
	if n := get[float64](w, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::float8", wal) / logins; n > 2700 {
		t.Errorf("%.0f bytes of WAL a login", n)
	}
}

// logIn is one login from the claim to the session.
func logIn(t *testing.T, s *login.Service) {
	t.Helper()
	ctx, secret := t.Context(), login.NewSecret()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.Begin(ctx, secret)
	must(err)
	push := newHash()
	_, err = s.Scanned(ctx, login.Scan{Scene: l.Scene, Ticket: l.Ticket.Ticket, OpenID: "somebody", Push: push[:]})
	must(err)
	changed, err := s.Look(ctx, []login.Watch{{Ref: l.Ref, Seen: login.Waiting}})
	must(err)
	if len(changed) != 1 || changed[0].State != login.Authenticated {
		t.Fatalf("%+v", changed)
	}
	must(s.Complete(ctx, login.Key{Scene: l.Scene, Secret: secret}, newSession()))
}

// The pool of db has one connection, as above: its round trips are statements.
func TestClaimsThatWaitShareAStatement(t *testing.T) {
	t.Parallel()
	const claims = 600
	var trips atomic.Int64
	w := newWorld(t, 2*claims)
	relay, through := newRelay(t, w.url)
	relay.pass = func(kind byte) bool {
		if kind == 'Z' {
			trips.Add(1)
		}
		return true
	}
	relay.deaf.Store(1)
	db := w.open(through + "&pool_max_conns=1")
	_, err := postgres.Logins{DB: db, AppID: appID}.Claim(t.Context(), newID(), long, 0) // prepared by now
	w.ok(err)
	began := trips.Load()
	_, errs := w.claimTogether(db, claims)
	w.ok(errors.Join(errs...))
	if n := trips.Load() - began; n != 3 { // of 256 at most
		t.Errorf("%d claims took %d statements", claims, n)
	}
}

// Not parallel, as above; and what other databases of the server have open keeps PostgreSQL
// from reusing the room of old rows.
func TestWritesAreHOT(t *testing.T) {
	code := login.Ticket{Ticket: strings.Repeat("t", 96), URL: strings.Repeat("u", 45)}
	const openID = "an openid of 28 characters.."
	finish := func(w *world, ref login.Ref) {
		w.scan(login.Login{Ref: ref, Ticket: code}, openID)
		w.ok(w.complete(ref))
	}
	for name, c := range map[string]struct {
		writes int     // of each scene in a lap
		wal    float64 // bytes at most
		story  func(w *world)
	}{
		// A lock, a version of the row, a commit.
		"claims": {1, 320, func(w *world) {
			_, err := w.logins.Claim(t.Context(), newID(), time.Microsecond, 0)
			w.ok(err)
		}},
		"logins, codes made by the claim": {4, 2500, func(w *world) {
			l := w.claim()
			w.ok(w.logins.SetTicket(t.Context(), l.Ref, code))
			finish(w, l.Ref)
		}},
		"logins, codes made ahead": {4, 2700, func(w *world) { // while the scene is held: the row is at its widest
			l := w.claim()
			if l.Ticket == (login.Ticket{}) {
				w.ok(w.logins.SetTicket(t.Context(), l.Ref, code))
			}
			w.ok(postgres.Reserve{DB: w.logins.DB}.Prepare(t.Context(), l.Scene, code, 2*long, long))
			finish(w, l.Ref)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			const scenes, laps = 200, 3
			w := newWorld(t, scenes)
			w.tie(openID, w.account("somebody"))
			own := w.instance()
			w.logins.DB = own
			lap := func() {
				for range scenes {
					c.story(w)
				}
			}
			lap() // a row is as long as it gets only then, and finds its page
			w.exec("SELECT pg_stat_reset_single_table_counters('scanlogin.scene'::regclass)")
			began := get[string](w, "SELECT pg_current_wal_insert_lsn()::text")
			for range laps {
				lap()
			}
			wal := get[float64](w, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::float8", began) / (laps * scenes)
			own.Close() // its counters are told with its end
			await(t, "the statistics", func() bool {
				return get[int](w, "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'scene'") >= c.writes*laps*scenes
			})
			share := get[float64](w, "SELECT n_tup_hot_upd::float8 / n_tup_upd FROM pg_stat_user_tables WHERE relname = 'scene'")
			t.Logf("%.1f %% of the writes were HOT, %.0f bytes of WAL", 100*share, wal)
			if share < 0.95 {
				t.Errorf("%.1f %% of the writes were HOT", 100*share)
			}
			if wal > c.wal {
				t.Errorf("%.0f bytes of WAL", wal)
			}
		})
	}
}

// A statement that PostgreSQL expects to be cheaper when planned for its very parameters is
// planned each time that it runs, which takes longer than to run it.
func TestTheStatementsOfALoginArePlannedOnce(t *testing.T) {
	t.Parallel()
	const logins = 20
	w := newWorld(t, 2*logins)
	for name, scenes := range map[string]int32{"a small pool": 2 * logins, "a large pool": 20_000} {
		w.resize(scenes)
		w.exec("ANALYZE scanlogin.scene")
		db := w.open(w.url + "&pool_max_conns=1")
		notifier, stop := notifier(t, db)
		story := &login.Service{
			Store:    postgres.Logins{DB: db, AppID: appID},
			Tickets:  func(context.Context, int32, time.Duration) (login.Ticket, error) { return newCode(), nil },
			Notify:   notifier.Notify,
			SceneTTL: long, BindTTL: long, SessionTTL: long,
			Logger: slog.New(slog.DiscardHandler),
		}
		w.exec("INSERT INTO scanlogin.account (name, password) VALUES ('somebody', '') ON CONFLICT DO NOTHING")
		w.exec("INSERT INTO scanlogin.wechat_identity (appid, openid, account_id) SELECT $1, 'somebody', id FROM scanlogin.account ON CONFLICT DO NOTHING", appID)
		for range logins {
			logIn(t, story)
		}
		conn, err := db.Hold(t.Context())
		w.ok(err)
		// PostgreSQL 13 doesn't say.
		rows, err := conn.Query(t.Context(), `SELECT statement FROM pg_prepared_statements p WHERE (to_jsonb(p)->>'custom_plans')::int > 10`)
		w.ok(err)
		again, err := pgx.CollectRows(rows, pgx.RowTo[string])
		w.ok(err)
		for _, statement := range again {
			t.Errorf("with %s this is planned each time: %s", name, statement)
		}
		conn.Release()
		stop()
	}
}

func newCode() login.Ticket {
	return login.Ticket{Ticket: "ticket " + newID().String(), URL: "http://weixin.qq.com/q/x"}
}
