package postgres_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"scanlogin/internal/postgres"
	scansql "scanlogin/sql"
)

// In a rolling deploy, instances that know an older schema go on beside the new ones, on
// the newest schema. What they run is kept in testdata/statements, in a file for each
// schema: whatever builds of that schema run, or ran. As long as a file is there, no
// migration may break its statements.
const statementsDir = "testdata/statements"

const whatToDo = `Expand now: add beside what is there, with a default, and let both versions work.
Contract later, once nobody upgrades from a version of that schema in one step any more:
the commit that does so removes its file in ` + statementsDir + `, and the CHANGELOG says it.`

// statement is one, as sqlc numbers its parameters.
type statement struct{ name, text string }

func (s statement) String() string { return fmt.Sprintf("-- name: %s\n%s;\n", s.name, s.text) }

// parseStatements reads what statements are written as, or what sqlc has made of one.
func parseStatements(text string) (all []statement) {
	for _, part := range strings.Split(text, "-- name: ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		all = append(all, statement{strings.Fields(name)[0], strings.TrimSuffix(strings.TrimSpace(body), ";")})
	}
	return all
}

// currentStatements are those of this build.
func currentStatements(t testing.TB) []statement {
	t.Helper()
	all := []statement{{"Current", postgres.CurrentStatement}}
	files := must(filepath.Glob("pgstore/*.go"))(t)
	for _, file := range files {
		parsed := must(parser.ParseFile(token.NewFileSet(), file, nil, 0))(t)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, "`-- name: ") {
				all = append(all, parseStatements(strings.Trim(lit.Value, "`"))...)
			}
			return true
		})
	}
	slices.SortFunc(all, func(a, b statement) int { return strings.Compare(a.name, b.name) })
	return all
}

func statementsFile(version int64) string {
	return filepath.Join(statementsDir, fmt.Sprintf("%05d.sql", version))
}

func statementsOf(t testing.TB, version int64) []statement {
	t.Helper()
	return parseStatements(string(must(os.ReadFile(statementsFile(version)))(t)))
}

func newestSchema(t testing.TB) (newest int64) {
	t.Helper()
	for _, name := range must(fs.Glob(scansql.Migrations, "migrations/*.sql"))(t) {
		newest = max(newest, must(goose.NumericComponent(name))(t))
	}
	return newest
}

// olderSchemas are those whose instances have to work on the newest.
func olderSchemas(t testing.TB) (versions []int64) {
	t.Helper()
	for _, name := range must(filepath.Glob(statementsDir + "/*.sql"))(t) {
		version := strings.TrimSuffix(filepath.Base(name), ".sql")
		if v := must(strconv.ParseInt(version, 10, 64))(t); v < newestSchema(t) {
			versions = append(versions, v)
		}
	}
	return versions
}

// With UPDATE_STATEMENTS set, as `make generate` does, what is missing is added.
func TestEveryStatementIsKeptForTheNextVersion(t *testing.T) {
	t.Parallel()
	file := statementsFile(newestSchema(t))
	var kept []statement
	if text, err := os.ReadFile(file); err == nil {
		kept = parseStatements(string(text))
	}
	update := os.Getenv("UPDATE_STATEMENTS") != ""
	for _, s := range currentStatements(t) {
		if slices.Contains(kept, s) {
			continue
		}
		kept = append(kept, s)
		if !update {
			t.Errorf("%s is not in %s as it is now: run make generate. What is there stays: builds that run it may be in use.", s.name, file)
		}
	}
	if update {
		slices.SortStableFunc(kept, func(a, b statement) int { return strings.Compare(a.name, b.name) })
		var lines []string
		for _, s := range kept {
			lines = append(lines, s.String())
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoMigrationBreaksTheVersionsBefore(t *testing.T) {
	t.Parallel()
	newest := newestSchema(t)
	now := begin(t, schemaAt(t, newest))
	versions := olderSchemas(t)
	if len(versions) == 0 {
		t.Errorf("%s has nothing of an older schema", statementsDir)
	}
	for _, v := range versions {
		was := begin(t, schemaAt(t, v))
		statements := statementsOf(t, v)
		for _, problem := range breaks(look(t, was, statements), look(t, now, statements)) {
			t.Errorf("schema %d breaks instances that know schema %d: %s", newest, v, problem)
		}
	}
	if t.Failed() {
		t.Log(whatToDo)
	}
}

// schemaAt is a database of an older version, or of the newest.
func schemaAt(t *testing.T, version int64) (url string) {
	t.Helper()
	url = emptyDatabase(t)
	cfg := must(pgx.ParseConfig(url))(t)
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	must(db.ExecContext(t.Context(), scansql.Schema))(t)
	files := must(fs.Sub(scansql.Migrations, "migrations"))(t)
	p := must(goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName("scanlogin.goose_db_version")))(t)
	must(p.UpTo(t.Context(), version))(t)
	return url
}

// begin starts a transaction that changes nothing in the end.
func begin(t testing.TB, url string) pgx.Tx {
	t.Helper()
	conn := must(pgx.Connect(t.Context(), url))(t)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return must(conn.Begin(t.Context()))(t)
}

// view is what a schema means to those who run these statements on it.
type view struct {
	facts map[fact]bool
	runs  map[statement]string // what it takes and gives, or why it can't be run
}

// fact is one thing about a table, a sequence or a function.
type fact struct{ Kind, Of, Name, Is string }

// facts that statements by themselves don't show: what a row has to be like, and what
// happens when one is written.
const facts = `
WITH ours AS (
    SELECT c.oid, c.relname, c.relkind, c.relrowsecurity FROM pg_class c
    WHERE c.relnamespace = 'scanlogin'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> 'goose_db_version'
), col AS (
    SELECT o.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
        a.attidentity = 'a' OR a.attgenerated <> '' AS generated,
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required
    FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
), con AS (
    SELECT o.relname, c.conname, c.contype, c.confdeltype, pg_get_constraintdef(c.oid) AS def, f.relname AS referenced,
        (SELECT string_agg(a.attname, ' ') FROM pg_attribute a WHERE a.attrelid = o.oid AND a.attnum = ANY (c.conkey)) AS columns
    FROM ours o JOIN pg_constraint c ON c.conrelid = o.oid LEFT JOIN pg_class f ON f.oid = c.confrelid
)
SELECT 'table', relname, '', relkind::text FROM ours
UNION ALL SELECT 'row security', relname, '', '' FROM ours WHERE relrowsecurity
UNION ALL SELECT 'column', relname, attname, type FROM col
UNION ALL SELECT 'not null', relname, attname, '' FROM col WHERE attnotnull
UNION ALL SELECT 'required', relname, attname, '' FROM col WHERE required
UNION ALL SELECT 'generated', relname, attname, '' FROM col WHERE generated
UNION ALL SELECT 'check', relname, columns, def FROM con WHERE contype = 'c'
UNION ALL SELECT 'reference', relname, columns, def FROM con WHERE contype = 'f'
UNION ALL SELECT 'referenced', referenced, relname, def FROM con WHERE contype = 'f' AND confdeltype IN ('a', 'r')
UNION ALL SELECT 'unique', o.relname,
        coalesce((SELECT string_agg(a.attname, ' ') FROM pg_attribute a WHERE a.attrelid = o.oid AND a.attnum = ANY (i.indkey)
            HAVING 0 <> ALL (i.indkey) AND bool_and(NOT a.atthasdef AND a.attidentity = '')), ''),
        regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX \S+ ON', 'INDEX ON')
    FROM ours o JOIN pg_index i ON i.indrelid = o.oid WHERE i.indisunique OR i.indisexclusion
UNION ALL SELECT 'trigger', o.relname, t.tgname, '' FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid WHERE NOT t.tgisinternal
UNION ALL SELECT 'rule', o.relname, r.rulename, '' FROM ours o JOIN pg_rewrite r ON r.ev_class = o.oid WHERE o.relkind <> 'v'
UNION ALL SELECT 'sequence', c.relname, '', concat_ws(' ', format_type(s.seqtypid, NULL), s.seqmin, s.seqmax, s.seqincrement, s.seqcycle)
    FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid WHERE c.relnamespace = 'scanlogin'::regnamespace AND c.relname <> 'goose_db_version_id_seq'
UNION ALL SELECT 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', '', pg_get_function_result(p.oid)
    FROM pg_proc p WHERE p.pronamespace = 'scanlogin'::regnamespace`

// look finds out what the schema is in this transaction.
func look(t testing.TB, tx pgx.Tx, statements []statement) view {
	t.Helper()
	v := view{facts: map[fact]bool{}, runs: map[statement]string{}}
	rows := must(tx.Query(t.Context(), facts))(t)
	for _, f := range must(pgx.CollectRows(rows, pgx.RowToStructByPos[fact]))(t) {
		v.facts[f] = true
	}
	for _, s := range statements {
		types, err := describe(t.Context(), tx, s)
		if err != nil {
			types = err.Error()
		}
		v.runs[s] = types
	}
	return v
}

// describe returns the types of what a statement takes and gives. It is planned too, for
// an ON CONFLICT without its index is found out only there.
func describe(ctx context.Context, tx pgx.Tx, s statement) (types string, err error) {
	sub, err := tx.Begin(ctx) // an error ends this one only
	if err != nil {
		return "", err
	}
	defer func() { _ = sub.Rollback(ctx) }()
	d, err := sub.Prepare(ctx, "described", s.text)
	if err != nil {
		return "", err
	}
	defer func() { _ = sub.Conn().Deallocate(ctx, "described") }()
	explain := "EXPLAIN EXECUTE described"
	if n := len(d.ParamOIDs); n > 0 {
		explain += " (" + strings.Join(slices.Repeat([]string{"NULL"}, n), ", ") + ")"
	}
	oids := slices.Clone(d.ParamOIDs)
	for _, f := range d.Fields {
		oids = append(oids, f.DataTypeOID)
	}
	err = sub.QueryRow(ctx, `SELECT coalesce(string_agg(format_type(oid, NULL), ', ' ORDER BY n), '')
		FROM unnest($1::oid[]) WITH ORDINALITY AS u (oid, n)`, oids).Scan(&types)
	if err != nil {
		return "", err
	}
	_, err = sub.Exec(ctx, explain)
	return types, err
}

// breaks tells what of a newer schema keeps the older one's instances from working.
func breaks(was, now view) (problems []string) {
	for s, types := range was.runs {
		if got := now.runs[s]; got != types {
			problems = append(problems, fmt.Sprintf("%s is not what it was: (%s) became (%s)", s.name, types, got))
		}
	}
	for f := range was.facts {
		if p := changed(f, now); p != "" {
			problems = append(problems, p)
		}
	}
	for f := range now.facts {
		if p := added(f, was); p != "" && !was.facts[f] {
			problems = append(problems, p)
		}
	}
	slices.Sort(problems)
	return problems
}

// is finds what a thing is in this schema.
func (v view) is(kind, of, name string) (is string, there bool) {
	for f := range v.facts {
		if f.Kind == kind && f.Of == of && f.Name == name {
			return f.Is, true
		}
	}
	return "", false
}

// changed says what has become of something that was there. What isn't there any more is
// missed by the statements that need it, and by nobody else; only what ON CONFLICT DO
// NOTHING relied on, no statement misses.
func changed(f fact, now view) string {
	if _, there := now.is("table", f.Of, ""); f.Kind == "unique" && there && !now.facts[f] {
		return fmt.Sprintf("%s is no longer unique as it was: %s", f.Of, f.Is)
	}
	if !slices.Contains([]string{"table", "column", "sequence", "function"}, f.Kind) {
		return ""
	}
	is, there := now.is(f.Kind, f.Of, f.Name)
	if !there || is == f.Is {
		return ""
	}
	return fmt.Sprintf("%s %s was %s and is %s", f.Kind, strings.TrimSuffix(f.Of+"."+f.Name, "."), f.Is, is)
}

// added says why what is new is in the way of those who don't know of it.
func added(f fact, was view) string {
	if _, old := was.is("table", f.Of, ""); !old {
		return ""
	}
	_, oldColumn := was.is("column", f.Of, f.Name)
	switch f.Kind {
	case "not null", "generated":
		if oldColumn {
			return fmt.Sprintf("column %s.%s is %s now: a write that was right fails", f.Of, f.Name, f.Kind)
		}
	case "required":
		return fmt.Sprintf("column %s.%s has to be given: an INSERT that doesn't name it fails", f.Of, f.Name)
	case "check", "reference":
		if onlyNew(f, was) || widened(f, was) {
			return ""
		}
		return fmt.Sprintf("%s has a new constraint: a row that was right fails: %s", f.Of, f.Is)
	case "referenced":
		return fmt.Sprintf("%s is held by rows of %s: a DELETE that was right fails: %s", f.Of, f.Name, f.Is)
	case "unique": // NULL, which older instances leave there, is like no other
		if onlyNew(f, was) && !strings.Contains(f.Is, "NULLS NOT DISTINCT") {
			return ""
		}
		return fmt.Sprintf("%s has to be unique in a new way: a row that was right fails: %s", f.Of, f.Is)
	case "trigger", "rule", "row security":
		return strings.TrimSpace(fmt.Sprintf("%s has a new %s, which no older instance knows of: %s", f.Of, f.Kind, f.Name))
	}
	return ""
}

// onlyNew is a constraint on columns that older instances leave at their default.
func onlyNew(f fact, was view) bool {
	for column := range strings.FieldsSeq(f.Name) {
		if _, old := was.is("column", f.Of, column); old {
			return false
		}
	}
	return f.Name != ""
}

// widened is a list of values that has become longer.
func widened(f fact, was view) bool {
	values, ok := listed(f.Is)
	if !ok {
		return false
	}
	for old := range was.facts {
		fewer, ok := listed(old.Is)
		if ok && old.Kind == f.Kind && old.Of == f.Of && old.Name == f.Name &&
			!slices.ContainsFunc(fewer, func(v string) bool { return !slices.Contains(values, v) }) {
			return true
		}
	}
	return false
}

func listed(check string) (values []string, ok bool) {
	list := regexp.MustCompile(`^CHECK \(\(\w+ = ANY \(ARRAY\[(.*)\]\)\)\)$`).FindStringSubmatch(check)
	if list == nil {
		return nil, false
	}
	return strings.Split(list[1], ", "), true
}

// A migration is judged as if it were the next one.
func TestAMigrationThatBreaksTheVersionBeforeIsRefused(t *testing.T) {
	t.Parallel()
	tx := begin(t, schemaAt(t, newestSchema(t)))
	statements := statementsOf(t, newestSchema(t))
	before := look(t, tx, statements)
	for _, c := range []struct{ migration, want string }{
		{"ALTER TABLE scanlogin.scene DROP COLUMN place", `SetOrigin is not what it was: (text, text, integer, uuid) became (ERROR: column "place"`},
		{"ALTER TABLE scanlogin.scene RENAME COLUMN openid TO wechat_user", "Scan is not what it was: (text"},
		{"ALTER TABLE scanlogin.web_session RENAME TO session", `Complete is not what it was: (bytea, interval, text, text, integer, uuid, text, bytea, inet, text) became (ERROR: relation "scanlogin.web_session"`},
		{"DROP TABLE scanlogin.lease", "TakeLease is not what it was"},
		{"DROP TABLE scanlogin.wechat_push; CREATE VIEW scanlogin.wechat_push AS SELECT ''::bytea AS id, ''::text AS reply, now() AS created_at", "table wechat_push was r and is v"},
		{"DROP FUNCTION scanlogin.resize_pool(integer)", "ResizePool is not what it was"},
		{"DROP FUNCTION scanlogin.ring_position(); CREATE FUNCTION scanlogin.ring_position() RETURNS text LANGUAGE sql AS 'SELECT $$1$$'", "function ring_position() was bigint and is text"},
		{"ALTER TABLE scanlogin.wechat_codes ALTER made TYPE bigint", "column wechat_codes.made was integer and is bigint"},
		{"ALTER TABLE scanlogin.scene ALTER place TYPE varchar(20)", "column scene.place was text and is character varying(20)"},
		{"ALTER TABLE scanlogin.web_session ALTER token_hash TYPE text USING encode(token_hash, 'hex')", "SessionByHash is not what it was: (bytea, "},
		{"ALTER TABLE scanlogin.account ADD email text NOT NULL", "column account.email has to be given"},
		{"ALTER TABLE scanlogin.wechat_push ALTER created_at DROP DEFAULT", "column wechat_push.created_at has to be given"},
		{"UPDATE scanlogin.scene SET openid = ''; ALTER TABLE scanlogin.scene ALTER openid SET NOT NULL", "column scene.openid is not null now"},
		{"ALTER TABLE scanlogin.scene ALTER id ADD GENERATED ALWAYS AS IDENTITY", "column scene.id is generated now"},
		{"ALTER TABLE scanlogin.scene DROP CONSTRAINT scene_state_check, ADD CHECK (state IN ('waiting', 'authenticated', 'completed', 'expired'))", "scene has a new constraint"},
		{"ALTER TABLE scanlogin.account ADD CHECK (length(name) < 30)", "account has a new constraint: a row that was right fails: CHECK ((length(name) < 30))"},
		{"ALTER TABLE scanlogin.scene ADD FOREIGN KEY (account_id) REFERENCES scanlogin.account", "scene has a new constraint"},
		{"CREATE TABLE scanlogin.passkey (account_id bigint REFERENCES scanlogin.account)", "account is held by rows of passkey"},
		{"CREATE UNIQUE INDEX ON scanlogin.wechat_identity (account_id)", "wechat_identity has to be unique in a new way"},
		{"ALTER TABLE scanlogin.wechat_push ADD UNIQUE (reply)", "wechat_push has to be unique in a new way"},
		{"ALTER TABLE scanlogin.account ADD email text DEFAULT 'none' UNIQUE", "account has to be unique in a new way"},
		{"ALTER TABLE scanlogin.account ADD email text; CREATE UNIQUE INDEX ON scanlogin.account (lower(email), name)", "account has to be unique in a new way"},
		{"ALTER TABLE scanlogin.account ADD email text; CREATE UNIQUE INDEX ON scanlogin.account (coalesce(email, ''))", "account has to be unique in a new way"},
		{"ALTER TABLE scanlogin.web_session ADD EXCLUDE (account_id WITH =)", "web_session has to be unique in a new way"},
		{"ALTER TABLE scanlogin.wechat_codes DROP CONSTRAINT wechat_codes_pkey", "CountCodes is not what it was: (text, integer) became (ERROR: there is no unique or exclusion constraint"},
		{"DROP INDEX scanlogin.account_name", "account is no longer unique as it was: CREATE UNIQUE INDEX ON scanlogin.account USING btree (lower(name))"},
		{"ALTER SEQUENCE scanlogin.scene_ring MINVALUE -1", "sequence scene_ring was"},
		{"CREATE FUNCTION scanlogin.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER refuse BEFORE INSERT ON scanlogin.account FOR EACH ROW EXECUTE FUNCTION scanlogin.f()", "account has a new trigger, which no older instance knows of: refuse"},
		{"CREATE RULE ignore AS ON DELETE TO scanlogin.web_session DO INSTEAD NOTHING", "web_session has a new rule"},
		{"ALTER TABLE scanlogin.account ENABLE ROW LEVEL SECURITY", "account has a new row security"},
	} {
		problems := strings.Join(afterMigration(t, tx, before, statements, c.migration), "\n")
		if !strings.Contains(problems, c.want) {
			t.Errorf("%s: got %q, want %q", c.migration, problems, c.want)
		}
	}
}

func TestAMigrationThatOnlyAddsIsAccepted(t *testing.T) {
	t.Parallel()
	tx := begin(t, schemaAt(t, newestSchema(t)))
	statements := statementsOf(t, newestSchema(t))
	before := look(t, tx, statements)
	if problems := breaks(before, look(t, tx, statements)); len(problems) > 0 {
		t.Errorf("nothing has changed, and it is refused: %v", problems)
	}
	for _, migration := range []string{
		"ALTER TABLE scanlogin.account ADD email text",
		"ALTER TABLE scanlogin.account ADD email text UNIQUE",
		"ALTER TABLE scanlogin.account ADD email text; CREATE UNIQUE INDEX ON scanlogin.account (email) WHERE email IS NOT NULL",
		"ALTER TABLE scanlogin.account ADD seen_at timestamptz NOT NULL DEFAULT now()",
		"ALTER TABLE scanlogin.account ADD level text NOT NULL DEFAULT 'user' CHECK (level IN ('user', 'admin'))",
		"ALTER TABLE scanlogin.account ADD parent bigint REFERENCES scanlogin.account ON DELETE SET NULL",
		"CREATE TABLE scanlogin.news (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL UNIQUE CHECK (what <> ''))",
		"CREATE TABLE scanlogin.passkey (account_id bigint NOT NULL REFERENCES scanlogin.account ON DELETE CASCADE)",
		"CREATE INDEX ON scanlogin.web_session (created_at)",
		"DROP INDEX scanlogin.web_session_account",
		"ALTER TABLE scanlogin.scene DROP CONSTRAINT scene_state_check, ADD CHECK (state IN ('waiting', 'seen', 'scanned', 'authenticated', 'bind_required', 'completed', 'declined', 'expired'))",
		"ALTER TABLE scanlogin.account ALTER password DROP NOT NULL",
		"CREATE FUNCTION scanlogin.other() RETURNS text LANGUAGE sql AS 'SELECT $$1$$'",
		"CREATE OR REPLACE FUNCTION scanlogin.timeline() RETURNS text LANGUAGE sql AS 'SELECT $$1$$'",
		"CREATE SEQUENCE scanlogin.other",
		"ALTER TABLE scanlogin.scene SET (fillfactor = 60)",
	} {
		if problems := afterMigration(t, tx, before, statements, migration); len(problems) > 0 {
			t.Errorf("%s is refused:\n%s", migration, strings.Join(problems, "\n"))
		}
	}
}

// afterMigration tells what breaks, and takes the migration back.
func afterMigration(t testing.TB, tx pgx.Tx, before view, statements []statement, migration string) []string {
	t.Helper()
	sub := must(tx.Begin(t.Context()))(t)
	must(sub.Exec(t.Context(), migration))(t)
	problems := breaks(before, look(t, sub, statements))
	must(0, sub.Rollback(t.Context()))(t)
	return problems
}

// A migration that waits for a lock makes everybody wait who comes after it.
func TestAMigrationGivesUpOnALock(t *testing.T) {
	t.Parallel()
	for _, name := range must(fs.Glob(scansql.Migrations, "migrations/*.sql"))(t) {
		text := string(must(fs.ReadFile(scansql.Migrations, name))(t))
		up, _, _ := strings.Cut(text, "-- +goose Down")
		locks := regexp.MustCompile(`(?i)\b(ALTER TABLE|CREATE (UNIQUE )?INDEX|CREATE TRIGGER|DROP)\b`).MatchString(up)
		if must(goose.NumericComponent(name))(t) >= 4 && locks && !strings.Contains(up, "SET LOCAL lock_timeout = ") {
			t.Errorf("%s may wait for a lock for ever: it needs SET LOCAL lock_timeout", name)
		}
	}
}
