package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/pgstore"
)

const (
	keepPushes  = 25 * time.Minute
	sessionIdle = 24 * time.Hour
)

// housekeeper is one that runs, and what it did.
type housekeeper struct {
	db   *postgres.DB
	log  *safeBuffer
	stop func()

	mu         sync.Mutex
	statements map[string]int
	most       map[string]int32 // rows that a statement was allowed
	removed    map[string]int64
}

// keepHouse starts an instance's housekeeper.
func (w *world) keepHouse() *housekeeper {
	w.t.Helper()
	h := &housekeeper{db: w.instance(), log: &safeBuffer{}, statements: map[string]int{}, most: map[string]int32{}, removed: map[string]int64{}}
	h.db.BeforeEach(func(statement string, args []any) {
		h.mu.Lock()
		defer h.mu.Unlock()
		name := strings.Fields(statement)[2] // -- name: That :one
		h.statements[name]++
		if most, ok := args[len(args)-1].(int32); ok {
			h.most[name] = max(h.most[name], most)
		}
	})
	keeper := &postgres.Housekeeper{
		DB: h.db, Holder: newID(), KeepPushes: keepPushes, SessionIdle: sessionIdle, KeepLimits: 30 * time.Minute,
		Removed: h.hear,
		Logger:  slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	keeper.SetInterval(10 * time.Millisecond)
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { keeper.Run(ctx) })
	h.stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(h.stop)
	return h
}

func (h *housekeeper) hear(table string, rows int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removed[table] += rows
}

// ran is how often it has run a statement.
func (h *housekeeper) ran(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.statements[name]
}

func (h *housekeeper) counts() map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.removed)
}

// awaitRounds waits until it has gone through so many more.
func (h *housekeeper) awaitRounds(t testing.TB, n int) {
	t.Helper()
	was := h.ran("TakeLease")
	await(t, "a round", func() bool { return h.ran("TakeLease") > was+n })
}

func (w *world) endedSessions(n int, account int64) {
	w.t.Helper()
	w.exec(`INSERT INTO scanlogin.web_session (token_hash, account_id, expires_at)
		SELECT sha256(gen_random_uuid()::text::bytea), $1, now() - n * interval '1 s' FROM generate_series(1, $2) n`, account, n)
}

func TestWhatIsOverIsRemovedAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	ann := w.account("ann")
	w.tie("ann", ann)
	w.endedSessions(2500, ann)
	live := newHash()
	w.ok(w.signIn(live, ann))
	w.exec("INSERT INTO scanlogin.wechat_push SELECT sha256(n::text::bytea), 'logged_in', now() - interval '1 h' FROM generate_series(1, 1500) n")
	w.exec("INSERT INTO scanlogin.wechat_push VALUES ('kept', 'logged_in', now() - interval '24 min')")
	asked := func(n int, from string) {
		w.exec(`INSERT INTO scanlogin.confirmation (login, scene, appid, openid, kind, secret, expires_at)
			SELECT gen_random_uuid(), n, '', '', 'reply', '42', now() + $1::text::interval FROM generate_series(1, $2) n`, from, n)
	}
	asked(1200, "-1 s")
	asked(1, "1 min")
	w.exec(`INSERT INTO scanlogin.notice (account_id, kind, at, browser, place, openids)
		SELECT 1, 'bound', now() - interval '1 day' * (n % 2 * 2 + 89), '', '', '{}' FROM generate_series(1, 2600) n`)
	const today = "(now() AT TIME ZONE 'Asia/Shanghai')::date"
	w.exec("INSERT INTO scanlogin.wechat_codes SELECT $1, "+today+" - n, 7 FROM generate_series(0, 400) n", appID)
	l := w.show()
	w.scan(l, "ann")
	w.ok(w.complete(l.Ref))
	w.exec("UPDATE scanlogin.scene SET expires_at = now() - interval '25 h' WHERE id = $1", l.Scene)
	held := w.show()
	w.scan(held, "ann")
	before := w.row(held.Scene)

	h := w.keepHouse()
	want := map[string]int64{"web_session": 2500, "wechat_push": 1500, "confirmation": 1200, "notice": 1300, "wechat_codes": 34, "scene": 1}
	await(t, "the end of what is over", func() bool { return maps.Equal(h.counts(), want) })
	h.awaitRounds(t, 2)
	h.stop()
	if diff := cmp.Diff(want, h.counts()); diff != "" {
		t.Errorf("removed in the end (-want +got):\n%s", diff)
	}
	if _, err := w.session(live); err != nil {
		t.Errorf("a live session: %v", err)
	}
	if n := w.confirmations(); n != 1 {
		t.Errorf("%d questions kept", n)
	}
	if n := w.notices(); n != 1300 {
		t.Errorf("%d notices kept", n)
	}
	if kept := get[string](w, "SELECT string_agg(convert_from(id, 'UTF8'), ' ') FROM scanlogin.wechat_push"); kept != "kept" {
		t.Errorf("pushes kept: %s", kept)
	}
	if n := get[int](w, "SELECT count(*) FROM scanlogin.wechat_codes WHERE day >= "+today+" - 366"); n != 367 {
		t.Errorf("the codes of %d days of the last year are kept", n)
	}
	if w.row(held.Scene) != before {
		t.Error("a login that goes on was changed")
	}
	// A claim looks at 16 scenes in a row, of which others hold some.
	if diff := cmp.Diff(map[string]int32{"RemoveSessions": 1000, "RemovePushes": 1000, "RemoveConfirmations": 1000, "RemoveNotices": 1000, "RemoveCodes": 1000, "ForgetLogins": 8, "RemoveInstances": 1000}, h.most); diff != "" {
		t.Errorf("rows that statements lock (-want +got):\n%s", diff)
	}
	if left := get[int](w, "SELECT count(*) FROM scanlogin.lease WHERE name = 'housekeeping'"); left != 0 {
		t.Error("the lease was not given back")
	}
	for _, secret := range []string{"ann", l.Ticket.Ticket} {
		if log := h.log.String(); strings.Contains(log, secret) || strings.Contains(log, "level=WARN") {
			t.Error(log)
		}
	}
}

// What is over is decided by the database's clock, to the microsecond: in a transaction
// it stands still.
func TestHousekeepingGoesByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	ann := w.account("ann")
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	exec := func(statement string, args ...any) {
		t.Helper()
		_, err := tx.Exec(t.Context(), statement, args...)
		w.ok(err)
	}
	exec(`INSERT INTO scanlogin.web_session (token_hash, account_id, expires_at)
		VALUES ('over', $1, now()), ('live', $1, now() + interval '1 us')`, ann)
	exec(`INSERT INTO scanlogin.web_session (token_hash, account_id, expires_at, seen_at)
		VALUES ('idle', $1, 'infinity', now() - $2::interval), ('used', $1, 'infinity', now() - $2::interval + interval '1 us')`, ann, sessionIdle)
	exec(`INSERT INTO scanlogin.wechat_push (id, reply, created_at)
		VALUES ('over', '', now() - $1::interval - interval '1 us'), ('live', '', now() - $1::interval)`, keepPushes)
	exec("UPDATE scanlogin.scene SET openid = 'ann', expires_at = now() - interval '1 day' - (id - 2) * interval '1 us'")
	q := pgstore.New(tx)
	sessions, err := q.RemoveSessions(t.Context(), 10)
	w.ok(err)
	idle, err := q.RemoveIdleSessions(t.Context(), pgstore.RemoveIdleSessionsParams{After: []byte{}, Most: 10, Idle: sessionIdle})
	w.ok(err)
	pushes, err := q.RemovePushes(t.Context(), keepPushes, 10)
	w.ok(err)
	scenes, err := q.ForgetLogins(t.Context(), 0, 10)
	w.ok(err)
	if sessions != 1 || idle.Removed != 1 || pushes != 1 || !slices.Equal(scenes, []int32{3}) {
		t.Errorf("%d sessions, %d idle ones, %d pushes and scenes %v are over", sessions, idle.Removed, pushes, scenes)
	}
	var left string
	w.ok(tx.QueryRow(t.Context(), `SELECT string_agg(convert_from(id, 'UTF8'), ' ' ORDER BY id)
		FROM (SELECT token_hash AS id FROM scanlogin.web_session UNION ALL SELECT id FROM scanlogin.wechat_push) t`).Scan(&left))
	if left != "live live used" {
		t.Errorf("left: %s", left)
	}
}

// However many there are: they are looked at a batch after the other, be it in several rounds.
func TestSessionsThatNobodyUsesAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.exec(`INSERT INTO scanlogin.web_session (token_hash, account_id, expires_at, seen_at)
		SELECT sha256(n::text::bytea), $1, now() + interval '1 h', now() - CASE WHEN n % 3 = 0 THEN interval '0' ELSE $2::interval END
		FROM generate_series(1, 1500) n`, ann, sessionIdle)
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "UPDATE scanlogin.web_session SET seen_at = now() WHERE token_hash = sha256('1')")
	w.ok(err)
	h := w.keepHouse()
	await(t, "the end of those that nobody uses", func() bool { return h.counts()["web_session"] == 999 })
	h.stop()
	w.ok(tx.Commit(t.Context())) // it is used again, and was not waited for
	if n := w.sessions(); n != 501 {
		t.Errorf("%d sessions are left, want 501", n)
	}
}

// A repeat that comes just before the push is forgotten is answered as the first was,
// though all else of the login is gone.
func TestAPushThatCanBeRepeatedIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.tie("ann", w.account("ann"))
	l := w.show()
	scan := scanOf(l, "ann")
	scan.Push = digestOf("a push")
	repeat := func(want login.Outcome) {
		t.Helper()
		if o, _, err := w.logins.Scan(t.Context(), scan, long); err != nil || o != want {
			t.Errorf("%v (%v), want %v", o, err, want)
		}
	}
	repeat(login.LoggedIn)
	w.timeOut(l.Ref)
	w.claim()
	h := w.keepHouse()
	w.exec("UPDATE scanlogin.wechat_push SET created_at = now() - $1::interval", keepPushes-time.Minute)
	h.awaitRounds(t, 2)
	repeat(login.LoggedIn)
	w.exec("UPDATE scanlogin.wechat_push SET created_at = now() - $1::interval", keepPushes+time.Minute)
	await(t, "its end", func() bool { return h.counts()["wechat_push"] == 1 })
	repeat(login.Stale)
}

// Forgetting who logged in changes neither the state that the login ended in, nor when the
// scene can be claimed, nor what lies ready for whoever does.
func TestALoginOfYesterdayIsForgottenInEveryState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, int32(len(states)))
	var cells []*cell
	for i, s := range states {
		c := w.newCell(fmt.Sprint(i))
		s.reach(c)
		cells = append(cells, c)
	}
	w.exec("UPDATE scanlogin.scene SET place = 'somewhere', browser = 'some browser', ready_ticket = 'ready', ready_url = 'url', ready_until = now() + interval '2 h', ready_timeline = scanlogin.timeline()")
	forget := func() (scenes []int32) {
		t.Helper()
		scenes, err := pgstore.New(w.admin).ForgetLogins(t.Context(), 0, 1000)
		w.ok(err)
		return scenes
	}
	if scenes := forget(); len(scenes) > 1 { // the abandoned one has no end that is remembered
		t.Errorf("forgotten on the same day: %v", scenes)
	}
	w.exec("UPDATE scanlogin.scene SET expires_at = expires_at - interval '2 days' WHERE expires_at > 'epoch'")
	const kept = "SELECT string_agg(id || ' ' || login || state || expires_at || ready_ticket || ready_url || ready_until || ready_timeline, E'\n' ORDER BY id) FROM scanlogin.scene"
	before := get[string](w, kept)
	want := map[string]string{}
	for i, c := range cells {
		want[states[i].name] = w.state(c.Ref).String()
	}
	forget()
	if diff := cmp.Diff(before, get[string](w, kept)); diff != "" {
		t.Errorf("forgetting changed what stays (-want +got):\n%s", diff)
	}
	for i, c := range cells {
		if got := w.state(c.Ref).String(); got != want[states[i].name] {
			t.Errorf("%s: %s, was %s", states[i].name, got, want[states[i].name])
		}
		for _, openID := range []string{c.tied, c.untied} {
			if o := w.scan(c.Login, openID); o != login.Stale {
				t.Errorf("%s: the code of yesterday was scanned: %v", states[i].name, o)
			}
		}
	}
	if n := get[int](w, "SELECT count(*) FROM scanlogin.scene WHERE openid IS NOT NULL OR account_id IS NOT NULL OR browser IS NOT NULL OR place || ticket || url <> ''"); n != 0 {
		t.Errorf("%d scenes still know who logged in", n)
	}
	if scenes := forget(); len(scenes) > 0 {
		t.Errorf("forgotten twice: %v", scenes)
	}
	for range cells {
		if l := w.claimFor(long); l.Ticket.Ticket != "ready" {
			t.Errorf("scene %d was claimed with %+v", l.Scene, l.Ticket)
		}
	}
}

// The scenes that are forgotten are those that are claimed next: a claim that met only
// locked ones would take the pool for full.
func TestHousekeepingIsNotNoticed(t *testing.T) {
	t.Parallel()
	const scenes, browsers, logins = 64, 4, 60
	w := newWorld(t, scenes)
	ann := w.account("ann")
	w.tie("ann", ann)
	ctx, stop := context.WithCancel(t.Context())
	var house sync.WaitGroup
	var forgotten atomic.Int64
	for range 2 { // be it that two have the lease
		q := pgstore.New(postgres.Relaxed(w.admin))
		house.Go(func() {
			for after := int32(0); ctx.Err() == nil; {
				gone, err := q.ForgetLogins(t.Context(), after, 2)
				if err == nil {
					_, err = q.RemoveSessions(t.Context(), 10)
				}
				if err == nil {
					_, err = q.RemovePushes(t.Context(), 0, 10)
				}
				if err != nil {
					t.Error(err)
					return
				}
				forgotten.Add(int64(len(gone)))
				after = 0
				if len(gone) > 0 {
					after = slices.Max(gone)
				}
			}
		})
	}
	atOnce(browsers, func(i int) {
		for n := range logins {
			l, err := w.logins.Claim(t.Context(), newID(), long, 0)
			if err == nil {
				l.Ticket = login.Ticket{Ticket: fmt.Sprint(i, " ", n), URL: "url"}
				err = w.logins.SetTicket(t.Context(), l.Ref, l.Ticket)
			}
			scan := scanOf(l, "ann")
			scan.Push = digestOf(l.Ticket.Ticket)
			if err == nil {
				var o login.Outcome
				if o, _, err = w.logins.Scan(t.Context(), scan, long); err == nil && o != login.LoggedIn {
					err = fmt.Errorf("the scan was told %v", o)
				}
			}
			if err == nil {
				err = w.logins.Complete(t.Context(), l.Ref, newSession(), 0)
			}
			if err == nil { // it was the day before yesterday
				_, err = w.admin.Exec(t.Context(), "UPDATE scanlogin.scene SET expires_at = now() - interval '2 days' WHERE id = $1 AND login = $2", l.Scene, l.ID)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	await(t, "the last login to be forgotten", func() bool {
		return get[int](w, "SELECT count(*) FROM scanlogin.scene WHERE openid IS NOT NULL") == 0
	})
	await(t, "the last session and push to be removed", func() bool {
		return w.sessions() == 0 && get[int](w, "SELECT count(*) FROM scanlogin.wechat_push") == 0
	})
	stop()
	house.Wait()
	if forgotten.Load() == 0 {
		t.Error("nothing was forgotten")
	}
}

func TestARowThatSomebodyHoldsIsLeftForTheNextRound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	ann := w.account("ann")
	w.endedSessions(3, ann)
	w.exec("INSERT INTO scanlogin.wechat_push VALUES ('a', '', 'epoch'), ('b', '', 'epoch')")
	w.exec("UPDATE scanlogin.scene SET openid = 'ann'")
	tx, err := w.admin.Begin(t.Context())
	w.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, lock := range []string{"web_session ORDER BY expires_at LIMIT 1", "wechat_push WHERE id = 'a'", "scene WHERE id = 1"} {
		_, err := tx.Exec(t.Context(), "SELECT FROM scanlogin."+lock+" FOR UPDATE")
		w.ok(err)
	}
	h := w.keepHouse()
	await(t, "what nobody holds", func() bool {
		return maps.Equal(h.counts(), map[string]int64{"web_session": 2, "wechat_push": 1, "scene": 1})
	})
	w.ok(tx.Rollback(t.Context()))
	await(t, "the rest", func() bool { c := h.counts(); return c["web_session"] == 3 && c["wechat_push"] == 2 })
}

func TestOneInstanceKeepsHouse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.endedSessions(10, ann)
	w.exec("INSERT INTO scanlogin.lease VALUES ('housekeeping', gen_random_uuid(), now() + interval '1 h')")
	h := w.keepHouse()
	h.awaitRounds(t, 5)
	if h.ran("RemoveSessions") > 0 || w.sessions() != 10 {
		t.Error("removed without the lease")
	}
	w.exec("UPDATE scanlogin.lease SET until = now() - interval '1 ms'") // it died
	await(t, "the heir", func() bool { return w.sessions() == 0 })
	other := w.keepHouse()
	w.exec("UPDATE scanlogin.lease SET until = now() + interval '1 h'") // however slow we are
	other.awaitRounds(t, 3)
	h.stop()
	w.endedSessions(10, ann)
	await(t, "the next", func() bool { return other.counts()["web_session"] == 10 })
}

func TestAChoreThatFailsKeepsNoOtherAndIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.exec("ALTER TABLE scanlogin.web_session RENAME TO away")
	w.exec("INSERT INTO scanlogin.wechat_push VALUES ('a', '', 'epoch')")
	h := w.keepHouse()
	await(t, "the other chore", func() bool { return h.counts()["wechat_push"] == 1 })
	h.awaitRounds(t, 3)
	warnings := func() int { return strings.Count(h.log.String(), "level=WARN") }
	if n := warnings(); n != 1 {
		t.Errorf("%d warnings of one outage:\n%s", n, h.log)
	}
	w.exec("ALTER TABLE scanlogin.away RENAME TO web_session")
	w.endedSessions(1, ann)
	await(t, "its end", func() bool { return h.counts()["web_session"] == 1 })
	h.awaitRounds(t, 2)
	w.exec("ALTER TABLE scanlogin.web_session RENAME TO away")
	await(t, "the second warning", func() bool { return warnings() == 2 })
}

// planForAny makes new connections plan a statement for any arguments.
func (w *world) planForAny() {
	w.t.Helper()
	w.exec("ALTER DATABASE " + pgx.Identifier{get[string](w, "SELECT current_database()::text")}.Sanitize() + " SET plan_cache_mode = force_generic_plan")
}

// plan is how a statement would be run.
func (w *world) plan(statement string, args ...any) string {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	w.ok(err)
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	rows, err := conn.Query(w.t.Context(), "EXPLAIN "+statement, args...)
	w.ok(err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.ok(err)
	return strings.Join(all, "\n")
}

// However many rows lie there, and however many of them are over.
func TestHousekeepingReadsByAnIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.planForAny()
	idle := pgstore.RemoveIdleSessionsParams{After: []byte{}, Most: 1000, Idle: sessionIdle}
	plans := func(when string) {
		t.Helper()
		for index, remove := range map[string]func(q *pgstore.Queries) error{
			"web_session_expiry": func(q *pgstore.Queries) error { _, err := q.RemoveSessions(t.Context(), 1000); return err },
			"web_session_pkey":   func(q *pgstore.Queries) error { _, err := q.RemoveIdleSessions(t.Context(), idle); return err },
			"wechat_push_age":    func(q *pgstore.Queries) error { _, err := q.RemovePushes(t.Context(), keepPushes, 1000); return err },
		} {
			spy := &spy{}
			if err := remove(pgstore.New(spy)); !errors.Is(err, errSpy) {
				t.Fatal(err)
			}
			p := w.plan(spy.statement, spy.args...)
			if !strings.Contains(p, "Index Scan using "+index) || strings.Contains(p, "Seq Scan") || !strings.Contains(p, "Tid Scan") {
				t.Errorf("%s:\n%s", when, p)
			}
		}
	}
	w.endedSessions(3000, w.account("ann"))
	w.exec("INSERT INTO scanlogin.wechat_push SELECT sha256(n::text::bytea), 'logged_in', now() - n * interval '1 s' FROM generate_series(1, 3000) n")
	w.exec("ANALYZE scanlogin.web_session, scanlogin.wechat_push")
	plans("most is over")
	w.exec("UPDATE scanlogin.web_session SET expires_at = now() + interval '1 h'")
	w.exec("UPDATE scanlogin.wechat_push SET created_at = now()")
	w.exec("ANALYZE scanlogin.web_session, scanlogin.wechat_push")
	plans("nothing is over")
}
