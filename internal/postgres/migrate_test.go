package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

const migrations = 12

// emptyDatabase is one without our schema.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	url := postgrestest.NewDatabase(t)
	query(t, url, "DROP SCHEMA scanlogin CASCADE")
	return url
}

// query runs statements on a connection of their own and returns the last one's text.
func query(t *testing.T, url string, statements ...string) (text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, s := range statements {
		rows, err := conn.Query(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			if v, err := rows.Values(); err == nil && len(v) == 1 {
				text, _ = v[0].(string)
			}
		}
		if rows.Err() != nil {
			t.Fatalf("%s: %v", s, rows.Err())
		}
	}
	return text
}

func migrator(t *testing.T, url, schema string) *postgres.Migrator {
	t.Helper()
	m, err := postgres.NewMigrator(url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// states of the migrations, as `migrate status` shows them.
func migrationStates(t *testing.T, m *postgres.Migrator) (states []string) {
	t.Helper()
	for _, s := range must(m.Status(t.Context()))(t) {
		states = append(states, string(s.State))
	}
	return states
}

func TestMigrationsUpDownAndUpAgain(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	m := migrator(t, url, "scanlogin")
	const schemas = "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'scanlogin'"
	if got := migrationStates(t, m); slices.Contains(got, "applied") || len(got) < 2 {
		t.Errorf("an empty database has migrations %v", got)
	}
	if name := must(m.Down(t.Context()))(t); name != "" {
		t.Errorf("took back %s from an empty database", name)
	}
	if query(t, url, schemas) != "0" {
		t.Error("asking for the status made something")
	}

	up := must(m.Up(t.Context()))(t)
	if len(up) < 2 || !slices.IsSorted(up) {
		t.Errorf("applied %v", up)
	}
	if again := must(m.Up(t.Context()))(t); len(again) != 0 {
		t.Errorf("applied %v twice", again)
	}
	const tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'scanlogin'::regnamespace AND relkind IN ('r', 'S')"
	all := query(t, url, tables)

	var down []string
	for {
		name := must(m.Down(t.Context()))(t)
		if name == "" {
			break
		}
		down = append(down, name)
	}
	slices.Reverse(down)
	if !slices.Equal(up, down) {
		t.Errorf("applied %v, took back %v", up, down)
	}
	if left := query(t, url, tables); left != "goose_db_version goose_db_version_id_seq" {
		t.Errorf("what is left after all is taken back: %s", left)
	}
	if left := query(t, url, "SELECT count(*)::text FROM pg_proc WHERE pronamespace = 'scanlogin'::regnamespace"); left != "0" {
		t.Errorf("%s functions are left", left)
	}

	must(m.Up(t.Context()))(t)
	if got := query(t, url, tables); got != all {
		t.Errorf("up, down and up again gives %s, want %s", got, all)
	}
	if got := migrationStates(t, m); slices.Contains(got, "pending") {
		t.Errorf("all applied, status says %v", got)
	}
}

func TestCurrentWantsEveryMigration(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	db := must(postgres.Open(t.Context(), url, "scanlogin"))(t)
	t.Cleanup(db.Close)
	if err := db.Current(t.Context()); err == nil {
		t.Error("an empty database passes for a current one")
	}
	m := migrator(t, url, "scanlogin")
	must(m.Up(t.Context()))(t)
	if err := db.Current(t.Context()); err != nil {
		t.Error(err)
	}
	query(t, url, "INSERT INTO scanlogin.goose_db_version (version_id, is_applied) VALUES (99999, true)")
	if err := db.Current(t.Context()); err != nil {
		t.Errorf("beside a newer instance: %v", err)
	}
	if applied := must(m.Up(t.Context()))(t); len(applied) > 0 {
		t.Errorf("started beside a newer instance: applied %v", applied)
	}
	query(t, url, "DELETE FROM scanlogin.goose_db_version WHERE version_id = 99999")
	must(m.Down(t.Context()))(t)
	if err := db.Current(t.Context()); err == nil || !strings.Contains(err.Error(), "scanlogin migrate up") {
		t.Errorf("one migration behind: %v", err)
	}
}

func TestInstancesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	atOnce(6, func(int) {
		if err := postgres.Migrate(t.Context(), url, "scanlogin", ""); err != nil {
			t.Error(err)
		}
	})
	if n := query(t, url, "SELECT count(*)::text FROM scanlogin.goose_db_version WHERE version_id > 0"); n != fmt.Sprint(migrations) {
		t.Errorf("%s migrations were applied, want each once", n)
	}
}

// DATABASE_SCHEMA is ^[a-z_][a-z0-9_]{0,40}$, which SQL's own words are too.
func TestAnySchemaName(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	longest := strings.Repeat("s", 41)
	names := []string{"select", "user", "_", "x1", "my_scanlogin", "scanlogin_2", "public", longest}
	for i, name := range names {
		m := migrator(t, url, name)
		if applied := must(m.Up(t.Context()))(t); len(applied) != migrations {
			t.Errorf("%s: applied %v beside the other schemas", name, applied)
		}
		must(m.Up(t.Context()))(t)
		if got := migrationStates(t, m); slices.Contains(got, "pending") {
			t.Errorf("%s: status says %v", name, got)
		}
		db := must(postgres.Open(t.Context(), url, name))(t)
		defer db.Close()
		for _, err := range []error{db.Current(t.Context()), db.ResizePool(t.Context(), int32(i+2))} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		logins := postgres.Logins{DB: db, AppID: appID}
		l := must(logins.Claim(t.Context(), newID(), long, 0))(t)
		if got := must(logins.Current(t.Context(), l.Ref))(t); got.State != login.Waiting {
			t.Errorf("%s: a login that was claimed is %v", name, got.State)
		}
		if ch := postgres.Channel(name); len(ch) > 63 {
			t.Errorf("%s: the channel %s is longer than a name can be", name, ch)
		}
	}
	for i, name := range names { // none has touched another's
		scenes := query(t, url, "SELECT count(*)::text FROM "+pgx.Identifier{name, "scene"}.Sanitize())
		if want := string(rune('2' + i)); scenes != want {
			t.Errorf("%s has %s scenes, want %s", name, scenes, want)
		}
		must(migrator(t, url, name).Down(t.Context()))(t)
	}
	err := postgres.Migrate(t.Context(), url, "pg_scanlogin", "")
	if err == nil || !strings.Contains(err.Error(), "pg_scanlogin") || !strings.Contains(err.Error(), "unacceptable schema name") {
		t.Errorf("a name that PostgreSQL keeps for itself: %v", err)
	}
}

func TestASchemaThatAnAdministratorMade(t *testing.T) {
	t.Parallel()
	address := emptyDatabase(t)
	database := query(t, address, "SELECT current_database()::text")
	role := "limited_" + database
	query(t, address, "CREATE ROLE "+role+" LOGIN", "REVOKE CREATE ON DATABASE "+database+" FROM PUBLIC")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.WithoutCancel(t.Context()), address)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	u := must(url.Parse(address))(t)
	q := u.Query()
	q.Set("user", role)
	u.RawQuery = q.Encode()

	err := postgres.Migrate(t.Context(), u.String(), "scanlogin", "")
	if err == nil || !strings.Contains(err.Error(), "creating the schema scanlogin") {
		t.Errorf("a role that may create nothing: %v", err)
	}
	query(t, address, "CREATE SCHEMA scanlogin AUTHORIZATION "+role)
	must(0, postgres.Migrate(t.Context(), u.String(), "scanlogin", ""))(t)
	db := must(postgres.Open(t.Context(), u.String(), "scanlogin"))(t)
	defer db.Close()
	must(0, db.ResizePool(t.Context(), 10))(t)
	must(postgres.Logins{DB: db, AppID: appID}.Claim(t.Context(), newID(), long, 0))(t)
}

// What an instance of version 2 runs, beside those of version 3: the claim as it was
// written then. The other statements name no column that came since.
const claimOfVersion2 = `
UPDATE scanlogin.scene
SET login = $1::uuid, state = 'waiting', ticket = '', url = '', openid = NULL, account_id = NULL,
    watchers = 1, expires_at = now() + $2::interval
WHERE id = (
    SELECT s.id FROM scanlogin.scene s
    WHERE s.id = (SELECT nextval('scanlogin.scene_ring')) AND s.expires_at <= now() - $3::interval
    FOR UPDATE SKIP LOCKED
)
RETURNING id`

func TestAnOlderInstanceClaimsBesideANewerOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.tie("ann", w.account("ann"))
	w.prepare(1, "ready", 2*long, 0)
	old := login.Login{Ref: login.Ref{Scene: 1, ID: newID()}, Ticket: login.Ticket{Ticket: "of the old one", URL: "url"}}
	for n := int64(0); n == 0; { // the ring passes 0
		n = w.exec(claimOfVersion2, old.ID.String(), long, time.Duration(0))
	}
	w.ok(w.logins.SetTicket(t.Context(), old.Ref, old.Ticket))
	// A code that nobody was shown lies in the row, and is none of this login's.
	if now, err := w.logins.Join(t.Context(), old.Ref); err != nil || now.Ticket != old.Ticket {
		t.Errorf("its code is %+v (%v), want %+v", now.Ticket, err, old.Ticket)
	}
	if o := w.scan(login.Login{Ref: old.Ref, Ticket: login.Ticket{Ticket: "ready"}}, "ann"); o != login.Stale {
		t.Errorf("the code that lies ready was scanned: %v", o)
	}
	if o := w.scan(old, "ann"); o != login.LoggedIn {
		t.Errorf("its own code was scanned: %v", o)
	}
	w.ok(w.complete(old.Ref))
	// The newer one is the first to show the code that lies there.
	next := w.claim()
	if next.Ticket.Ticket != "ready" {
		t.Errorf("the next claim has the code %+v", next.Ticket)
	}
	if o := w.scan(old, "ann"); o != login.Stale {
		t.Errorf("the old code was scanned: %v", o)
	}
	if o := w.scan(next, "ann"); o != login.LoggedIn {
		t.Errorf("the next code was scanned: %v", o)
	}
}
