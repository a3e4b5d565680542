package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"scanlogin/internal/audit"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/postgrestest"
)

// rights are all that the service's role may do with what is ours, by PostgreSQL's own
// account: granted to it, to everybody, or to a role that it is in. What isn't here yet is
// in the way of this test until somebody has decided what the service needs of it.
func rights() []string {
	return []string{
		"schema: USAGE",
		"table account: SELECT, INSERT (external_id, external_name, external_version, name, password), UPDATE (external_name, external_version, password, password_changes)",
		"table audit: INSERT (account, account_id, address, browser, detail, instance, kind, login, person, place, times)",
		"table audit_YYYY_MM: nothing",
		"table audit_rest: nothing",
		"table confirmation: DELETE, INSERT, SELECT, UPDATE (wrong)",
		"table goose_db_version: SELECT",
		"table instance: DELETE, INSERT, SELECT, UPDATE",
		"table lease: DELETE, INSERT, SELECT, UPDATE (holder, until)",
		"table notice: DELETE, SELECT, INSERT (account_id, browser, kind, openids, place), UPDATE (openids, telling_until)",
		"table rate_limit: DELETE, INSERT, SELECT, UPDATE (tat, tries)",
		"table scene: SELECT, UPDATE",
		"table web_session: DELETE, INSERT, SELECT, UPDATE (seen_at, token_hash)",
		"table wechat_account: SELECT, UPDATE, INSERT (appid)",
		"table wechat_codes: DELETE, INSERT, SELECT, UPDATE (made)",
		"table wechat_identity: DELETE, INSERT, SELECT, UPDATE (account_id)",
		"table wechat_push: DELETE, INSERT, SELECT, UPDATE (created_at)",
		"sequence account_id_seq: nothing",
		"sequence audit_id_seq: nothing",
		"sequence goose_db_version_id_seq: nothing",
		"sequence notice_id_seq: nothing",
		"sequence scene_ring: SELECT, USAGE",
		"function keep_audit(keep interval): EXECUTE as the owner",
		"function person(appid text, openid text): EXECUTE",
		"function resize_pool(size integer): EXECUTE as the owner",
		"function ring_position(): EXECUTE",
		"function take_limits(keys bytea[], ask integer[], key_of integer[], bursts integer[], steps double precision[], growing boolean[]): EXECUTE",
		"function timeline(): EXECUTE",
	}
}

const rightsOf = `
WITH rel AS (
    SELECT c.oid, c.relname, c.relkind FROM pg_class c
    WHERE c.relnamespace = $2::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), whole AS (
    SELECT r.oid, p.name FROM rel r CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p (name)
    WHERE r.relkind <> 'S' AND has_table_privilege($1, r.oid, p.name)
    UNION ALL
    SELECT r.oid, p.name FROM rel r CROSS JOIN unnest('{SELECT,USAGE,UPDATE}'::text[]) p (name)
    WHERE r.relkind = 'S' AND has_sequence_privilege($1, r.oid, p.name)
), part AS (
    SELECT r.oid, format('%s (%s)', p.name, string_agg(a.attname, ', ' ORDER BY a.attname)) AS name
    FROM rel r CROSS JOIN unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p (name)
        JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE r.relkind <> 'S' AND has_column_privilege($1, r.oid, a.attnum, p.name) AND NOT has_table_privilege($1, r.oid, p.name)
    GROUP BY r.oid, p.name
)
SELECT 'schema: ' || string_agg(p.name, ', ') FROM unnest('{USAGE,CREATE}'::text[]) p (name) WHERE has_schema_privilege($1, $2, p.name)
UNION ALL
SELECT DISTINCT CASE WHEN r.relkind = 'S' THEN 'sequence ' ELSE 'table ' END || regexp_replace(r.relname, '\d{4}_\d\d$', 'YYYY_MM') || ': ' ||
    coalesce(concat_ws(', ', (SELECT string_agg(w.name, ', ' ORDER BY w.name) FROM whole w WHERE w.oid = r.oid),
        (SELECT string_agg(p.name, ', ' ORDER BY p.name) FROM part p WHERE p.oid = r.oid)), '')
FROM rel r
UNION ALL
SELECT format('function %s(%s): ', p.proname, pg_get_function_identity_arguments(p.oid)) ||
    CASE WHEN has_function_privilege($1, p.oid, 'EXECUTE') THEN 'EXECUTE' || CASE WHEN p.prosecdef THEN ' as the owner' ELSE '' END ELSE '' END
FROM pg_proc p WHERE p.pronamespace = $2::regnamespace`

func (w *world) rightsOf(role, schema string) (all []string) {
	w.t.Helper()
	rows, err := w.admin.Query(w.t.Context(), rightsOf, role, pgx.Identifier{schema}.Sanitize())
	w.ok(err)
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	w.ok(err)
	for i, r := range all {
		if strings.HasSuffix(r, ": ") {
			all[i] = r + "nothing"
		}
	}
	slices.Sort(all)
	return all
}

func wantRights(t *testing.T, got []string) {
	t.Helper()
	want := rights()
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rights of the service, -want +got:\n%s", diff)
	}
}

func TestTheServiceMayDoWhatItNeedsAndNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	wantRights(t, w.rightsOf(postgrestest.Service, "scanlogin"))
	for _, role := range []string{postgrestest.Owner, postgrestest.Service} {
		if get[bool](w, "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = $1", role) {
			t.Errorf("%s is more than a role", role)
		}
	}
	// A function that runs as its owner is no door for whoever makes objects of the same names.
	for f := range strings.FieldsSeq(get[string](w, "SELECT string_agg(proname, ' ') FROM pg_proc WHERE pronamespace = 'scanlogin'::regnamespace AND prosecdef")) {
		if !get[bool](w, "SELECT 'search_path=pg_catalog, pg_temp' = ANY (proconfig) FROM pg_proc WHERE pronamespace = 'scanlogin'::regnamespace AND proname = $1", f) {
			t.Errorf("%s has no search_path of its own", f)
		}
		if get[bool](w, "SELECT EXISTS (SELECT FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.pronamespace = 'scanlogin'::regnamespace AND p.proname = $1 AND a.grantee = 0)", f) {
			t.Errorf("%s is for everybody", f)
		}
	}
}

// Whoever has taken over an instance has its connection.
func TestATakenOverServiceCannotTouchItsTraces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ann := w.account("ann")
	w.addMonth(-5)
	w.exec("GRANT USAGE ON SCHEMA public TO PUBLIC")
	before := get[string](w, "SELECT string_agg(a::text, ' ' ORDER BY a.id) FROM scanlogin.audit a")
	conn, err := w.db.Hold(t.Context())
	w.ok(err)
	defer conn.Release()
	for _, statement := range []string{
		"UPDATE scanlogin.audit SET account = 'nobody'",
		"DELETE FROM scanlogin.audit",
		"TRUNCATE scanlogin.audit",
		"SELECT * FROM scanlogin.audit",
		"COPY scanlogin.audit TO STDOUT",
		"INSERT INTO scanlogin.audit (at, kind, instance) VALUES ('2020-01-01', 'login', 'x')",
		"INSERT INTO scanlogin.audit (id, kind, instance) OVERRIDING SYSTEM VALUE VALUES (1, 'login', 'x')",
		"INSERT INTO scanlogin.audit (kind, instance) VALUES ('login', 'x') RETURNING id",
		"INSERT INTO scanlogin." + w.month(0) + " (at, id, kind, instance) OVERRIDING SYSTEM VALUE VALUES (now(), 1, 'login', 'x')",
		"DELETE FROM scanlogin." + w.month(0),
		"TRUNCATE scanlogin." + w.month(0),
		"DROP TABLE scanlogin." + w.month(-5),
		"DROP TABLE scanlogin.audit",
		"DROP SCHEMA scanlogin CASCADE",
		"ALTER TABLE scanlogin.audit DISABLE TRIGGER ALL",
		"ALTER TABLE scanlogin.audit DETACH PARTITION scanlogin." + w.month(0),
		"ALTER TABLE scanlogin.scene ADD COLUMN x integer",
		"ALTER SEQUENCE scanlogin.scene_ring MAXVALUE 5",
		"CREATE TABLE scanlogin.x ()",
		"CREATE SCHEMA x",
		"CREATE INDEX ON scanlogin.scene (login)",
		"CREATE RULE x AS ON INSERT TO scanlogin.audit DO INSTEAD NOTHING",
		"CREATE TRIGGER x BEFORE INSERT ON scanlogin.audit FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE OR REPLACE FUNCTION scanlogin.timeline() RETURNS text LANGUAGE sql AS $$ SELECT '' $$",
		"ALTER FUNCTION scanlogin.keep_audit(interval) RESET ALL",
		"LOCK TABLE scanlogin.audit IN ACCESS EXCLUSIVE MODE",
		"SELECT setval('scanlogin.audit_id_seq', 1)",
		"SELECT nextval('scanlogin.account_id_seq')",
		"UPDATE scanlogin.account SET name = 'root'",
		"DELETE FROM scanlogin.account",
		"INSERT INTO scanlogin.account (id, name, password) OVERRIDING SYSTEM VALUE VALUES (7, 'x', 'y')",
		"INSERT INTO scanlogin.scene (id) VALUES (77)",
		"DELETE FROM scanlogin.scene",
		"INSERT INTO scanlogin.goose_db_version (version_id, is_applied) VALUES (99999, true)",
		"SET ROLE " + postgrestest.Owner,
		"SET SESSION AUTHORIZATION " + postgrestest.Owner,
		"GRANT SELECT ON scanlogin.scene TO PUBLIC", // without a right to grant it is a warning
		"CREATE ROLE x",
		"ALTER ROLE " + postgrestest.Service + " SUPERUSER",
	} {
		tx, err := conn.Begin(t.Context())
		w.ok(err)
		_, err = tx.Exec(t.Context(), statement)
		w.ok(tx.Rollback(t.Context()))
		if e, ok := errors.AsType[*pgconn.PgError](err); !strings.HasPrefix(statement, "GRANT") && (!ok || e.Code != "42501") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	// What it may ask for leaves half a year.
	if n := must(w.db.KeepAudit(t.Context(), -long))(t); n != 0 {
		t.Errorf("%d months are dropped", n)
	}
	if after := get[string](w, "SELECT string_agg(a::text, ' ' ORDER BY a.id) FROM scanlogin.audit a"); after != before {
		t.Errorf("the log was %s and is %s", before, after)
	}
	wantRights(t, w.rightsOf(postgrestest.Service, "scanlogin"))
	w.ok(w.signIn(newHash(), ann))
}

// Every statement of this version, and of those that may run beside it.
func TestTheServiceMayRunEveryStatement(t *testing.T) {
	t.Parallel()
	url := postgrestest.As(postgrestest.NewDatabase(t), postgrestest.Service)
	tx := begin(t, url)
	versions := append(olderSchemas(t), newestSchema(t))
	for _, v := range versions {
		for _, s := range statementsOf(t, v) {
			_, err := describe(t.Context(), tx, s)
			if s.name == "AuditLog" { // is for the owner to read
				if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42501" {
					t.Errorf("the service reads the audit log: %v", err)
				}
				continue
			}
			if err != nil {
				t.Errorf("schema %d, %s: %v", v, s.name, err)
			}
		}
	}
}

// migratorFor is one that works as the owner for a role.
func (w *world) migratorFor(role string) *postgres.Migrator {
	m := migrator(w.t.(*testing.T), postgrestest.As(w.url, postgrestest.Owner), "scanlogin")
	m.ServiceRole = role
	return m
}

func TestGrantsAreMadeExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	up := func() {
		t.Helper()
		must(w.migratorFor(postgrestest.Service).Up(t.Context()))(t)
	}
	w.exec("GRANT ALL ON ALL TABLES IN SCHEMA scanlogin TO " + postgrestest.Service)
	w.exec("GRANT UPDATE (name) ON scanlogin.account TO " + postgrestest.Service)
	w.exec("GRANT ALL ON ALL SEQUENCES IN SCHEMA scanlogin TO " + postgrestest.Service)
	w.exec("GRANT CREATE ON SCHEMA scanlogin TO " + postgrestest.Service)
	w.exec("REVOKE EXECUTE ON FUNCTION scanlogin.keep_audit(interval) FROM " + postgrestest.Service)
	up()
	wantRights(t, w.rightsOf(postgrestest.Service, "scanlogin"))
	atOnce(4, func(int) { up() })
	wantRights(t, w.rightsOf(postgrestest.Service, "scanlogin"))

	// An older version that is started beside a newer one takes nothing away.
	w.exec("INSERT INTO scanlogin.goose_db_version (version_id, is_applied) VALUES (99999, true)")
	w.exec("CREATE TABLE scanlogin.news ()")
	w.exec("GRANT SELECT ON scanlogin.news TO " + postgrestest.Service)
	up()
	if !slices.Contains(w.rightsOf(postgrestest.Service, "scanlogin"), "table news: SELECT") {
		t.Error("an older version has taken away what a newer one granted")
	}
}

// Names that have to be quoted, of the role and of the schema.
func TestAnyServiceRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	role := `Odd "role"-` + get[string](w, "SELECT current_database()")
	quoted := pgx.Identifier{role}.Sanitize()
	m := migrator(t, postgrestest.As(w.url, postgrestest.Owner), "select")
	m.ServiceRole = role
	if _, err := m.Up(t.Context()); err == nil || !strings.Contains(err.Error(), "CREATE ROLE "+quoted+" LOGIN PASSWORD") {
		t.Errorf("without the role: %v", err)
	}
	if states := migrationStates(t, m); slices.Contains(states, "applied") {
		t.Errorf("it had begun: %v", states)
	}
	w.addRole(quoted)
	must(m.Up(t.Context()))(t)
	wantRights(t, w.rightsOf(role, "select"))
	db := must(postgres.Open(t.Context(), postgrestest.As(w.url, role), "select"))(t)
	defer db.Close()
	w.ok(db.Current(t.Context()))
	w.ok(db.ResizePool(t.Context(), 3))
	must(postgres.Logins{DB: db, AppID: appID}.Claim(t.Context(), newID(), long, 0))(t)
	must(db.KeepAudit(t.Context(), long))(t)

	m.ServiceRole = postgrestest.Owner
	if _, err := m.Up(t.Context()); err == nil || !strings.Contains(err.Error(), "name another") {
		t.Errorf("the owner for the service: %v", err)
	}
}

// addRole makes a role, until the test ends.
func (w *world) addRole(quoted string) {
	w.t.Helper()
	w.exec("CREATE ROLE " + quoted + " LOGIN")
	w.t.Cleanup(func() {
		ctx := context.WithoutCancel(w.t.Context())
		conn, err := pgx.Connect(ctx, w.url)
		if err == nil {
			_, err = conn.Exec(ctx, "DROP OWNED BY "+quoted+"; DROP ROLE "+quoted)
			_ = conn.Close(ctx)
		}
		if err != nil {
			w.t.Error(err)
		}
	})
}

// As README says it.
func TestFromOneRoleToTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	one := "one_" + get[string](w, "SELECT current_database()")
	w.addRole(one)
	w.exec("DROP SCHEMA scanlogin CASCADE")
	w.exec("CREATE SCHEMA scanlogin AUTHORIZATION " + one)
	must(0, postgres.Migrate(t.Context(), postgrestest.As(w.url, one), "scanlogin", ""))(t)
	w.exec("REASSIGN OWNED BY " + one + " TO " + postgrestest.Owner)
	must(w.migratorFor(postgrestest.Service).Up(t.Context()))(t)
	wantRights(t, w.rightsOf(postgrestest.Service, "scanlogin"))
	db := w.instance()
	w.ok(db.ResizePool(t.Context(), 5))
	w.exec("DROP TABLE scanlogin." + w.month(2))
	must(db.KeepAudit(t.Context(), long))(t)
	if !slices.Contains(w.months(), w.month(2)) {
		t.Errorf("the months are %v", w.months())
	}
}

// The same for somebody who reads the log, and nothing else.
func TestAReaderOfTheAuditLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.ok(w.db.AddWeChatAccount(t.Context(), appID))
	w.tie("openid", w.account("ann"))
	l := w.show()
	w.scan(l, "openid")
	reader := "reader_" + get[string](w, "SELECT current_database()")
	w.addRole(reader)
	w.exec("GRANT USAGE ON SCHEMA scanlogin TO " + reader)
	w.exec("GRANT SELECT ON scanlogin.audit, scanlogin.goose_db_version TO " + reader)
	w.exec("GRANT SELECT (appid) ON scanlogin.wechat_account TO " + reader)
	db := must(postgres.Open(t.Context(), postgrestest.As(w.url, reader), "scanlogin"))(t)
	defer db.Close()
	w.ok(db.Current(t.Context()))
	f := all()
	f.OpenID = "openid"
	rows, _, err := postgres.Audit{DB: db}.Rows(t.Context(), f, "")
	if err != nil || len(rows) != 1 || rows[0].Kind != audit.Scan {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestTheServiceCannotMigrate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	service := migrator(t, postgrestest.As(w.url, postgrestest.Service), "scanlogin")
	for _, role := range []string{"", postgrestest.Service} { // the same settings for all
		service.ServiceRole = role
		if applied, err := service.Up(t.Context()); err != nil || len(applied) != 0 {
			t.Errorf("with nothing to do: %v, %v", applied, err)
		}
	}
	must(w.migratorFor("").Down(t.Context()))(t)
	for name, err := range map[string]error{"Up": second(service.Up(t.Context())), "Current": w.db.Current(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "scanlogin migrate up") || !strings.Contains(err.Error(), "owner") {
			t.Errorf("%s with something to do: %v", name, err)
		}
	}
	must(w.migratorFor(postgrestest.Service).Up(t.Context()))(t)
	w.ok(w.db.Current(t.Context()))

	w.exec("REVOKE ALL ON SCHEMA scanlogin FROM " + postgrestest.Service)
	for name, err := range map[string]error{"Up": second(service.Up(t.Context())), "Current": w.db.Current(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "DATABASE_SERVICE_ROLE=") {
			t.Errorf("%s without any rights: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
