package postgres_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

const (
	appID = "wx_test"
	long  = time.Hour // nothing runs out by itself in these tests
)

// world is a database of its own with scenes, and a look at it from outside.
type world struct {
	t        testing.TB
	url      string
	db       *postgres.DB
	admin    *pgxpool.Pool
	logins   postgres.Logins
	accounts postgres.Accounts
}

func newWorld(t testing.TB, scenes int32) *world {
	t.Helper()
	return worldAt(t, postgrestest.NewDatabase(t), scenes)
}

// worldAt is a world in a database that has its schema.
func worldAt(t testing.TB, url string, scenes int32) *world {
	t.Helper()
	w := &world{t: t, url: url}
	w.db = w.instance()
	w.logins = postgres.Logins{DB: w.db, AppID: appID}
	w.accounts = postgres.Accounts{DB: w.db}
	admin, err := pgxpool.New(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	w.admin = admin
	w.resize(scenes)
	return w
}

// instance is one more that works on the same database.
func (w *world) instance() *postgres.DB { return w.open(w.url) }

// open is for the role that instances have; whatever else a test does it does as superuser.
func (w *world) open(url string) *postgres.DB {
	w.t.Helper()
	db, err := postgres.Open(w.t.Context(), postgrestest.As(url, postgrestest.Service), postgrestest.Schema)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(db.Close)
	return db
}

func (w *world) resize(scenes int32) {
	w.t.Helper()
	w.ok(w.db.ResizePool(w.t.Context(), scenes))
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(statement string, args ...any) int64 {
	w.t.Helper()
	tag, err := w.admin.Exec(w.t.Context(), statement, args...)
	w.ok(err)
	return tag.RowsAffected()
}

// get reads one value.
func get[T any](w *world, query string, args ...any) (v T) {
	w.t.Helper()
	w.ok(w.admin.QueryRow(w.t.Context(), query, args...).Scan(&v))
	return v
}

// row is everything that is known of a scene.
func (w *world) row(scene int32) string {
	w.t.Helper()
	return get[string](w, "SELECT s::text FROM scanlogin.scene s WHERE id = $1", scene)
}

func (w *world) sessions() int {
	w.t.Helper()
	return get[int](w, "SELECT count(*) FROM scanlogin.web_session")
}

// claim takes a scene, whatever it rested.
func (w *world) claim() login.Login {
	w.t.Helper()
	l, err := w.logins.Claim(w.t.Context(), newID(), long, 0)
	w.ok(err)
	return l
}

// show starts a login whose code is shown.
func (w *world) show() login.Login {
	w.t.Helper()
	l := w.claim()
	l.Ticket = login.Ticket{Ticket: "ticket-" + l.ID.String(), URL: "http://weixin.qq.com/q/" + l.ID.Short()}
	w.ok(w.logins.SetTicket(w.t.Context(), l.Ref, l.Ticket))
	return l
}

func (w *world) scan(l login.Login, openID string) login.Outcome {
	w.t.Helper()
	o, _, err := w.logins.Scan(w.t.Context(), scanOf(l, openID), long)
	w.ok(err)
	return o
}

func scanOf(l login.Login, openID string) login.Scan {
	return login.Scan{Scene: l.Scene, Ticket: l.Ticket.Ticket, OpenID: openID}
}

func (w *world) state(ref login.Ref) login.State {
	w.t.Helper()
	l, err := w.logins.Current(w.t.Context(), ref)
	w.ok(err)
	return l.State
}

// timeOut lets a login's time pass.
func (w *world) timeOut(ref login.Ref) {
	w.t.Helper()
	w.exec("UPDATE scanlogin.scene SET expires_at = now() - interval '1 ms' WHERE id = $1 AND login = $2", ref.Scene, ref.ID)
}

func (w *world) account(name string) int64 {
	w.t.Helper()
	u, err := w.accounts.CreateUser(w.t.Context(), name, "hash")
	w.ok(err)
	return u.ID
}

func (w *world) tie(openID string, account int64) {
	w.t.Helper()
	w.exec("INSERT INTO scanlogin.wechat_identity (appid, openid, account_id) VALUES ($1, $2, $3)", appID, openID, account)
}

// tieOf is the account that a WeChat user has, 0 for none.
func (w *world) tieOf(openID string) int64 {
	w.t.Helper()
	return get[int64](w, "SELECT coalesce((SELECT account_id FROM scanlogin.wechat_identity WHERE appid = $1 AND openid = $2), 0)", appID, openID)
}

func (w *world) complete(ref login.Ref) error {
	return w.logins.Complete(w.t.Context(), ref, newSession(), long)
}

func (w *world) bind(ref login.Ref, account int64) error {
	return w.logins.Bind(w.t.Context(), ref, login.Owner{ID: account}, newSession(), long)
}

// signIn starts a session for whoever has the account's first password.
func (w *world) signIn(hash [32]byte, user int64) error {
	return w.accounts.CreateSession(w.t.Context(), account.User{ID: user}, account.NewSession{Hash: hash}, long)
}

// session finds one, however long it wasn't seen.
func (w *world) session(hash [32]byte) (account.Session, error) {
	s, _, err := w.accounts.SessionByHash(w.t.Context(), hash, 1000*long)
	return s, err
}

func newSession() login.Session { return login.Session{Hash: newHash()} }

func newID() login.ID { return login.NewSecret().ID() }

func newHash() [32]byte { return sha256.Sum256([]byte(rand.Text())) }

// atOnce runs n of f together, each as soon as all are there.
func atOnce(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			f(i)
		})
	}
	done.Wait()
}

// await waits until ready says so; for what announces itself in no other way.
func await(t testing.TB, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			t.Fatal("waited in vain for " + what)
		case <-tick.C:
		}
	}
}

// errName tells the domain's errors apart in tables.
func errName(err error) string {
	for name, e := range map[string]error{
		"exhausted": login.ErrExhausted, "not_ready": login.ErrNotReady, "ended": login.ErrEnded, "tied": login.ErrTied,
	} {
		if errors.Is(err, e) {
			return name
		}
	}
	if err != nil {
		return fmt.Sprintf("unexpected: %v", err)
	}
	return "ok"
}
