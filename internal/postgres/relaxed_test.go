package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/pgstore"
	"scanlogin/internal/postgres/postgrestest"
)

func execModes() []string {
	return []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}
}

// routes are the ways on which a statement may reach PostgreSQL.
func routes() []string { return append(execModes(), "pooler") }

func (w *world) route(name string) string {
	w.t.Helper()
	if name == "pooler" {
		return w.pooled()
	}
	return w.url + "&default_query_exec_mode=" + name
}

// witness notes with which synchronous_commit each transaction that writes commits: its
// triggers are deferred, so they fire in the commit itself.
const witness = `
CREATE SCHEMA witness;
CREATE TABLE witness.level (level text NOT NULL);
CREATE FUNCTION witness.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO witness.level VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'scanlogin'::regnamespace AND relname <> 'goose_db_version' LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON %s
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION witness.note()', t);
    END LOOP;
END $$`

// levels is what the witness saw since it was last asked.
func (w *world) levels() []string {
	w.t.Helper()
	rows, err := w.admin.Query(w.t.Context(), "WITH seen AS (DELETE FROM witness.level RETURNING level) SELECT DISTINCT level FROM seen")
	w.ok(err)
	seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.ok(err)
	return seen
}

// What a crash of PostgreSQL may forget, and what it must not.
func TestEveryWriteHasItsDurability(t *testing.T) {
	t.Parallel()
	durable := map[string]func(w *world) func() error{
		"a claim": func(w *world) func() error {
			return func() error { w.claim(); return nil }
		},
		"a ticket": func(w *world) func() error {
			l := w.claim()
			return func() error { return w.logins.SetTicket(w.t.Context(), l.Ref, login.Ticket{Ticket: "t"}) }
		},
		"one more watcher": func(w *world) func() error {
			l := w.show()
			return func() error { _, err := w.logins.Join(w.t.Context(), l.Ref); return err }
		},
		"a scan": func(w *world) func() error {
			l := w.show()
			return func() error { w.scan(l, "open"); return nil }
		},
		"a scan to be confirmed": func(w *world) func() error {
			l := w.show()
			return func() error { w.ask(l, "asked", login.ConfirmReply, "42"); return nil }
		},
		"a number that confirms": func(w *world) func() error {
			w.ask(w.show(), "sure", login.ConfirmReply, "42")
			return func() error { w.answer("sure", "42"); return nil }
		},
		"a wrong number": func(w *world) func() error {
			w.ask(w.show(), "unsure", login.ConfirmReply, "42")
			return func() error { w.answer("unsure", "43"); return nil }
		},
		"a code that confirms": func(w *world) func() error {
			l := w.show()
			w.ask(l, "coded", login.ConfirmCode, "123456")
			return func() error { _, err := w.logins.ConfirmCode(w.t.Context(), l.Ref, "123456", long); return err }
		},
		"a login that is completed": func(w *world) func() error {
			w.tie("tied", w.account("tied"))
			l := w.show()
			w.scan(l, "tied")
			return func() error { return w.complete(l.Ref) }
		},
		"a login that is bound": func(w *world) func() error {
			id, l := w.account("bound"), w.show()
			w.scan(l, "to bind")
			return func() error { return w.bind(l.Ref, id) }
		},
		"an account": func(w *world) func() error {
			return func() error { w.account("new"); return nil }
		},
		"a password": func(w *world) func() error {
			id := w.account("forgetful")
			return func() error { return w.accounts.SetPasswordHash(w.t.Context(), id, "other") }
		},
		"a user of the team's own": func(w *world) func() error {
			return func() error { w.foreign("new"); return nil }
		},
		"another version": func(w *world) func() error {
			w.foreign("forgetful")
			return func() error {
				_, err := w.accounts.KeepForeign(w.t.Context(), account.Foreign{ID: "forgetful", Name: "forgetful", Version: "2"})
				return err
			}
		},
		"the sessions of who is gone": func(w *world) func() error {
			u := w.foreign("leaving")
			w.browser(u.ID)
			return func() error { return w.accounts.EndSessions(w.t.Context(), u.ID, "shell") }
		},
		"a session": func(w *world) func() error {
			id := w.account("here")
			return func() error { return w.signIn(newHash(), id) }
		},
		"the end of a session": func(w *world) func() error {
			hash := newHash()
			w.ok(w.signIn(hash, w.account("leaving")))
			return func() error { return w.accounts.DeleteSession(w.t.Context(), hash) }
		},
		"a session that is replaced": func(w *world) func() error {
			id := w.account("replaced")
			n := account.NewSession{Hash: newHash(), Replaces: w.browser(id)}
			return func() error { return w.accounts.CreateSession(w.t.Context(), account.User{ID: id}, n, long) }
		},
		"a session that is revoked": func(w *world) func() error {
			id := w.account("revoked")
			here, there := w.browser(id), w.browser(id)
			session := w.idOf(there)
			return func() error { return w.accounts.EndSession(w.t.Context(), id, here, session, long) }
		},
		"the other sessions": func(w *world) func() error {
			id := w.account("alone")
			here, _ := w.browser(id), w.browser(id)
			return func() error {
				_, err := w.accounts.EndOtherSessions(w.t.Context(), id, here, long)
				return err
			}
		},
		"a password that is changed": func(w *world) func() error {
			id := w.account("careful")
			here := w.browser(id)
			return func() error {
				_, err := w.accounts.ChangePasswordHash(w.t.Context(), account.User{ID: id}, "other", here, newHash(), long)
				return err
			}
		},
		"a tie that is removed": func(w *world) func() error {
			id := w.account("untied")
			w.tie("untied", id)
			return func() error { _, err := w.accounts.Unbind(w.t.Context(), id); return err }
		},
		"what was read": func(w *world) func() error {
			id := w.account("reader")
			w.ok(w.accounts.SetPasswordHash(w.t.Context(), id, "other"))
			read := w.shown(id)[0].ID
			return func() error { _, err := w.accounts.SeenNotices(w.t.Context(), id, []int64{read}); return err }
		},
		"somebody who follows no more": func(w *world) func() error {
			id := w.account("gone")
			w.tie("gone", id)
			w.ok(w.signIn(newHash(), id))
			accounts := postgres.Accounts{DB: w.db, AppID: appID}
			return func() error { _, err := accounts.Unfollowed(w.t.Context(), "gone", true); return err }
		},
		"an access token": func(w *world) func() error {
			w.tokens(newFetcher())
			return func() error { w.want(w.tokens(newFetcher()), "token 1"); return nil }
		},
		"a token that is refused": func(w *world) func() error {
			tokens := w.tokens(newFetcher())
			w.want(tokens, "token 1")
			return func() error { return tokens.Drop(w.t.Context(), "token 1") }
		},
		"the end of the quota": func(w *world) func() error {
			w.tokens(newFetcher())
			return func() error { return postgres.Quota{DB: w.db, AppID: appID}.Block(w.t.Context(), time.Minute) }
		},
		"the name of the account": func(w *world) func() error {
			w.tokens(newFetcher())
			o := &postgres.OriginalID{DB: w.db, AppID: appID}
			return func() error { return o.Learn(w.t.Context(), "gh_1") }
		},
		"the pool's size": func(w *world) func() error {
			return func() error { return w.db.ResizePool(w.t.Context(), 100) }
		},
	}
	forgettable := map[string]func(w *world) func() error{
		"a stream that left": func(w *world) func() error {
			l := w.show()
			return func() error { return w.logins.Leave(w.t.Context(), []login.Ref{l.Ref}) }
		},
		"a claim without a code": func(w *world) func() error {
			l := w.claim()
			return func() error { return w.logins.Abandon(w.t.Context(), l.Ref) }
		},
		"an origin": func(w *world) func() error {
			l := w.show()
			return func() error { return w.logins.SetOrigin(w.t.Context(), l.Ref, login.Origin{Place: "Paris"}) }
		},
		"a session that is used": func(w *world) func() error {
			hash := w.browser(w.account("busy"))
			w.age(hash, long)
			return func() error { _, err := w.accounts.SawSession(w.t.Context(), hash, time.Minute); return err }
		},
		"a code made ahead": func(w *world) func() error {
			return func() error { w.prepare(9, "ahead", long, time.Minute); return nil }
		},
		"a lease": func(w *world) func() error {
			return func() error { _, err := w.reserve().Lead(w.t.Context(), long); return err }
		},
		"the end of a lease": func(w *world) func() error {
			r := w.reserve()
			w.exec("DELETE FROM scanlogin.lease")
			_, err := r.Lead(w.t.Context(), long)
			w.ok(err)
			return func() error { return r.Resign(w.t.Context()) }
		},
		"a code that is counted": func(w *world) func() error {
			return func() error { return postgres.Quota{DB: w.db, AppID: appID}.Count(w.t.Context()) }
		},
		"what is used up": func(w *world) func() error {
			return func() error { w.takes(limitOf(newKey())); return nil }
		},
		"what is given back": func(w *world) func() error {
			c := limitOf(newKey())
			w.takes(c)
			return func() error { return postgres.Limits{DB: w.db}.GiveBack(w.t.Context(), []limit.Count{c}) }
		},
		"the turn to tell a phone": func(w *world) func() error {
			return func() error { w.bindFrom("told", w.account("told")); w.levels(); w.untold(w.db, 0); return nil }
		},
		"a phone that was told": func(w *world) func() error {
			w.bindFrom("end", w.account("end"))
			u := w.untold(w.db, 0)[0]
			return func() error { return postgres.Notices{DB: w.db}.EndNotice(w.t.Context(), u) }
		},
		"a phone that wasn't told": func(w *world) func() error {
			w.bindFrom("left", w.account("left"))
			u := w.untold(w.db, 0)[0]
			return func() error { return postgres.Notices{DB: w.db}.LeaveNotice(w.t.Context(), u) }
		},
		"a refusal": func(w *world) func() error {
			return func() error {
				return postgres.Audit{DB: w.db}.Write(w.t.Context(), []audit.Counted{{Event: audit.Event{Kind: audit.Limited, Detail: "codes"}, Times: 2}})
			}
		},
		"a reply that is kept": func(w *world) func() error {
			return func() error { return postgres.Pushes{DB: w.db}.Save(w.t.Context(), []byte("push"), "reply") }
		},
	}
	for _, route := range routes() {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 50)
			w.exec(witness)
			// One connection: what holds for a transaction must not hold for the next.
			db := w.open(w.route(route) + "&pool_max_conns=1")
			w.db, w.logins.DB, w.accounts.DB = db, db, db
			check := func(level string, writes map[string]func(w *world) func() error) {
				for name, prepare := range writes {
					write := prepare(w)
					w.levels()
					if err := write(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if got := w.levels(); !slices.Equal(got, []string{level}) {
						t.Errorf("%s is committed with synchronous_commit %v, want %s", name, got, level)
					}
				}
			}
			check("off", forgettable)
			check("on", durable)
		})
	}
}

// What the housekeeper removes may be removed once more.
func TestHousekeepingWaitsForNoDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.endedSessions(3, w.account("ann"))
	w.exec("INSERT INTO scanlogin.wechat_push VALUES ('old', 'logged_in', now() - interval '1 h')")
	w.exec(witness)
	h := w.keepHouse()
	await(t, "the end of what is over", func() bool { return h.counts()["web_session"] == 3 && h.counts()["wechat_push"] == 1 })
	h.stop()
	if got := w.levels(); !slices.Equal(got, []string{"off"}) {
		t.Errorf("committed with synchronous_commit %v, want off", got)
	}
}

// lazily opens a pool of one connection whose commits are relaxed: a connection that isn't
// given back is missed by the next statement.
func (w *world) lazily(route string) pgstore.DBTX {
	w.t.Helper()
	pool, err := pgxpool.New(w.t.Context(), w.route(route)+"&pool_max_conns=1")
	w.ok(err)
	w.t.Cleanup(pool.Close)
	return postgres.Relaxed(pool)
}

func TestRelaxedStatementsAreLikeOthers(t *testing.T) {
	t.Parallel()
	for _, route := range routes() {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.exec(`CREATE TABLE number (n int PRIMARY KEY);
				CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF NEW.n < 0 THEN RAISE 'refused at the end'; END IF; RETURN NULL; END $$;
				CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON number
					DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
				GRANT ALL ON number TO PUBLIC`)
			db := w.lazily(route)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			const insert = "INSERT INTO number SELECT n FROM generate_series($1::int, $2::int) n"

			tag, err := db.Exec(ctx, insert, 1, 1000)
			if err != nil || tag.RowsAffected() != 1000 {
				t.Errorf("%v, %v", tag, err)
			}
			rows, err := db.Query(ctx, "SELECT n FROM number ORDER BY n")
			w.ok(err)
			if all, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil || len(all) != 1000 || all[999] != 1000 {
				t.Errorf("%d rows, %v", len(all), err)
			}
			rows, err = db.Query(ctx, "SELECT n FROM number ORDER BY n")
			w.ok(err)
			if !rows.Next() {
				t.Error("no row")
			}
			rows.Close() // early
			if rows.Next() || rows.Err() != nil {
				t.Errorf("after Close: %v", rows.Err())
			}
			var n int
			if err := db.QueryRow(ctx, "SELECT count(*) FROM number WHERE n > $1", 10).Scan(&n); err != nil || n != 990 {
				t.Errorf("%d, %v", n, err)
			}
			if err := db.QueryRow(ctx, "SELECT n FROM number WHERE n < 0").Scan(&n); !errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("no row: %v", err)
			}
			if err := db.QueryRow(ctx, "SELECT 'word'").Scan(&n); err == nil {
				t.Error("a word was scanned into a number")
			}

			failures := map[string]struct {
				code, statement string
				args            []any
			}{
				"refused at once":      {"23505", insert + " RETURNING n", []any{1, 1}},
				"refused by a commit":  {"P0001", insert + " RETURNING n", []any{-1, -1}},
				"refused by the parse": {"42P01", "SELECT n FROM nowhere", nil},
			}
			for name, f := range failures {
				_, err := db.Exec(ctx, f.statement, f.args...)
				wantCode(t, name+", Exec", err, f.code)
				err = db.QueryRow(ctx, f.statement, f.args...).Scan(&n)
				wantCode(t, name+", QueryRow", err, f.code)
				rows, err := db.Query(ctx, f.statement, f.args...)
				if err == nil {
					for rows.Next() {
					}
					err = rows.Err()
					rows.Close()
				}
				wantCode(t, name+", Query", err, f.code)
			}
			if n := get[int](w, "SELECT count(*) FROM number"); n != 1000 {
				t.Errorf("%d numbers after what was refused", n)
			}
		})
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != code {
		t.Errorf("%s: %v, want SQLSTATE %s", what, err, code)
	}
}

func TestARelaxedStatementEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	db := w.lazily("cache_statement")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := db.Exec(ctx, "SELECT 1")
	w.ok(err)
	left := make(chan error)
	go func() {
		_, err := db.Exec(ctx, "SELECT pg_sleep(600), 'whom nobody waits for'")
		left <- err
	}()
	await(t, "the statement", func() bool {
		return get[int](w, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%nobody waits for''' AND datname = current_database()") == 1
	})
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left was told %v", err)
	}
	if _, err := db.Exec(ctx, "SELECT 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who had left was told %v", err)
	}
	if err := db.QueryRow(ctx, "SELECT 1").Scan(new(int)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who had left was told %v", err)
	}
	fresh, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if _, err := db.Exec(fresh, "SELECT 1"); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// BenchmarkCommit shows who waits for a disk that takes 1 ms.
func BenchmarkCommit(b *testing.B) {
	server := postgrestest.NewServer(b, map[string]string{"fsync": "on", "commit_delay": "1000", "commit_siblings": "0"})
	address := server.URL("postgres")
	postgrestest.Migrate(b, address)
	db, err := postgres.Open(b.Context(), address, postgrestest.Schema)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	quota := postgres.Quota{DB: db, AppID: appID}
	for name, write := range map[string]func(context.Context) error{
		"durable": func(ctx context.Context) error { return db.CountCodes(ctx, appID, 1) },
		"relaxed": quota.Count,
		"notify":  func(ctx context.Context) error { return db.Notify(ctx, channel, []string{newID().String()}) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := write(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestADatabaseThatForgetsIsRefused(t *testing.T) {
	t.Parallel()
	for level, refused := range map[string]bool{"off": true, "local": false, "on": false, "remote_apply": false} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.exec("ALTER DATABASE " + get[string](w, "SELECT current_database()") + " SET synchronous_commit = " + level)
			err := w.instance().Current(t.Context())
			if (err != nil) != refused {
				t.Errorf("synchronous_commit = %s: %v", level, err)
			}
			if refused && !strings.Contains(err.Error(), "ALTER ROLE scanlogin_service SET synchronous_commit = on") {
				t.Errorf("%v doesn't say what to do", err)
			}
		})
	}
}
