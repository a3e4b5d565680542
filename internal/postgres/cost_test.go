package postgres_test

import (
	"context"
	"log/slog"
	"strconv"
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
	// Three versions of the row, the push's reply, the session, three commits. No other test
	// writes at the same time: those that are parallel wait for this one.
	if n := get[float64](w, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::float8", wal) / logins; n > 2200 {
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
