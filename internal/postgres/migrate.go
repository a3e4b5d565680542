package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	scansql "scanlogin/sql"
)

// Migrator brings the schema to the version that this binary knows. It needs a direct
// connection: the lock that keeps instances out of each other's way lives in a session.
type Migrator struct {
	// ServiceRole, where it isn't empty, is the role that instances connect as: Up gives it
	// what they need.
	ServiceRole string

	db       *sql.DB
	provider *goose.Provider
	versions versions
	schema   *schema
}

// NewMigrator opens the database at url, whose tables are or will be in the schema.
func NewMigrator(url, schemaName string) (*Migrator, error) {
	cfg, err := connConfig(url, "scanlogin migrate")
	if err != nil {
		return nil, err
	}
	m := &Migrator{db: stdlib.OpenDB(*cfg), schema: &schema{name: schemaName}}
	if err := m.init(); err != nil {
		_ = m.db.Close()
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return m, nil
}

func (m *Migrator) init() error {
	files, err := m.schema.files(scansql.Migrations, "migrations")
	if err != nil {
		return err
	}
	// As patient as goose is by itself, and less idle: it asks for the lock, never waits.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	store, err := database.NewStore(goose.DialectPostgres, m.schema.qualify(versionsInFiles))
	if err != nil {
		return err
	}
	m.versions = versions{store}
	m.provider, err = goose.NewProvider(goose.DialectCustom, m.db, files,
		goose.WithStore(m.versions), goose.WithSessionLocker(locker))
	return err
}

// versionsInFiles is goose's own table. It is made at run time, so sqlc can't know it.
const versionsInFiles = schemaInFiles + ".goose_db_version"

// versions is goose's table in a schema whose name may have to be quoted. goose puts a
// name into statements as it is, but would look for its quotes in the catalogue too.
type versions struct{ database.Store }

// TableExists implements database.StoreExtender.
func (v versions) TableExists(ctx context.Context, db database.DBTxConn) (there bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", v.Tablename()).Scan(&there)
	return there, err
}

// files is the folder dir of f with the configured schema in its statements.
func (s *schema) files(f fs.FS, dir string) (fs.FS, error) {
	out := fstest.MapFS{} // a file system in memory; nothing of it is about tests
	names, err := fs.Glob(f, dir+"/*.sql")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(f, name)
		if err != nil {
			return nil, err
		}
		out[name] = &fstest.MapFile{Data: []byte(s.replace(string(text)))}
	}
	return fs.Sub(out, dir)
}

// Close closes the connection.
func (m *Migrator) Close() error { return m.db.Close() }

// Up applies what is pending, and gives the service its rights; safe while other instances
// do the same. It returns the names of the migrations that it applied. Whoever may change
// nothing is fine where there is nothing to change.
func (m *Migrator) Up(ctx context.Context) (applied []string, err error) {
	err = m.createSchema(ctx)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == insufficientPrivilege {
		return nil, fmt.Errorf("creating the schema %s: %w: its owner has to run scanlogin migrate up", m.schema.name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the schema %s: %w", m.schema.name, err)
	}
	role, may, err := m.mayChange(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking what the role may do: %w", err)
	}
	if !may {
		return nil, m.nothingPending(ctx, role)
	}
	if err := m.checkServiceRole(ctx); err != nil {
		return nil, err
	}
	results, err := m.provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("applying migrations: %w", err)
	}
	for _, r := range results {
		applied = append(applied, r.Source.Path)
	}
	return applied, m.grant(ctx)
}

// mayChange tells whether our role may change the schema.
func (m *Migrator) mayChange(ctx context.Context) (role string, may bool, err error) {
	err = m.db.QueryRowContext(ctx, "SELECT quote_ident(current_user), has_schema_privilege($1, 'CREATE')", m.schema.name).Scan(&role, &may)
	return role, may, err
}

func (m *Migrator) nothingPending(ctx context.Context, role string) error {
	all, err := m.Status(ctx)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == insufficientPrivilege {
		return fmt.Errorf("%w: %s", err, grantHint(role))
	}
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.State == goose.StatePending {
			return fmt.Errorf("%s is pending, and the role %s can't change the schema: its owner has to run scanlogin migrate up", s.Source.Path, role)
		}
	}
	return nil
}

// checkServiceRole comes before anything is changed.
func (m *Migrator) checkServiceRole(ctx context.Context) error {
	if m.ServiceRole == "" {
		return nil
	}
	var there, owns bool
	var quoted string
	err := m.db.QueryRowContext(ctx, `SELECT r.oid IS NOT NULL, coalesce(pg_has_role(r.oid, n.nspowner, 'USAGE'), false), quote_ident($1)
		FROM pg_namespace n LEFT JOIN pg_roles r ON r.rolname = $1 WHERE n.nspname = $2`, m.ServiceRole, m.schema.name).Scan(&there, &owns, &quoted)
	switch {
	case err != nil:
		return fmt.Errorf("looking for the role %s: %w", m.ServiceRole, err)
	case !there:
		return fmt.Errorf("DATABASE_SERVICE_ROLE: there is no role %s: run CREATE ROLE %s LOGIN PASSWORD '...', as somebody who may", m.ServiceRole, quoted)
	case owns:
		return fmt.Errorf("DATABASE_SERVICE_ROLE: the role %s has every right of the schema's owner: name another", m.ServiceRole)
	}
	return nil
}

// serviceInFiles is the role that the grants are written for.
const serviceInFiles = "scanlogin_service"

// grant knows what the service needs on the schema of this binary. On a newer one somebody
// has granted more than that, which stays.
func (m *Migrator) grant(ctx context.Context) error {
	if m.ServiceRole == "" {
		return nil
	}
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	var have int64
	err = m.db.QueryRowContext(ctx, m.schema.replace("SELECT max(version_id) FROM "+versionsInFiles)).Scan(&have)
	if err != nil {
		return fmt.Errorf("asking the database for its schema's version: %w", err)
	}
	if have > newest {
		return nil
	}
	grants := strings.ReplaceAll(m.schema.replace(scansql.Grants), serviceInFiles, pgx.Identifier{m.ServiceRole}.Sanitize())
	if _, err := m.db.ExecContext(ctx, grants); err != nil { // without arguments it is one transaction
		return fmt.Errorf("granting what the role %s needs: %w", m.ServiceRole, err)
	}
	return nil
}

// insufficientPrivilege is SQLSTATE 42501.
const insufficientPrivilege = "42501"

// grantHint says how a role gets what it lacks.
func grantHint(role string) string {
	return "where " + role + " is the service's role, the owner of the schema runs scanlogin migrate up with DATABASE_SERVICE_ROLE=" + role
}

// createSchema asks first: a role that may not create schemas is fine where it is there.
func (m *Migrator) createSchema(ctx context.Context) error {
	var there bool
	err := m.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", m.schema.name).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = m.db.ExecContext(ctx, m.schema.replace(scansql.Schema))
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == "42P06" || e.Code == "23505") {
		return nil // another instance was faster
	}
	return err
}

// Down takes back the newest migration and returns its name, empty when there is none.
func (m *Migrator) Down(ctx context.Context) (string, error) {
	begun, err := m.versions.TableExists(ctx, m.db)
	if err != nil || !begun {
		return "", err
	}
	r, err := m.provider.Down(ctx)
	if errors.Is(err, goose.ErrNoNextVersion) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("taking back a migration: %w", err)
	}
	return r.Source.Path, nil
}

// Status lists the migrations with their state. It changes nothing.
func (m *Migrator) Status(ctx context.Context) ([]*goose.MigrationStatus, error) {
	begun, err := m.versions.TableExists(ctx, m.db)
	if err != nil {
		return nil, fmt.Errorf("asking for the migrations' state: %w", err)
	}
	if !begun { // goose would make its table first
		var all []*goose.MigrationStatus
		for _, s := range m.provider.ListSources() {
			all = append(all, &goose.MigrationStatus{Source: s, State: goose.StatePending})
		}
		return all, nil
	}
	s, err := m.provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the migrations' state: %w", err)
	}
	return s, nil
}

// Migrate is Up for whoever has no more to do; serviceRole may be empty.
func Migrate(ctx context.Context, url, schemaName, serviceRole string) error {
	m, err := NewMigrator(url, schemaName)
	if err != nil {
		return err
	}
	m.ServiceRole = serviceRole
	_, err = m.Up(ctx)
	if e := m.Close(); err == nil {
		err = e
	}
	return err
}

const currentStatement = "SELECT max(version_id), current_setting('synchronous_commit'), quote_ident(current_user) FROM " + versionsInFiles

// Current returns nil where the database answers, has every migration of this binary, be
// it more (an older instance goes on beside a newer one), and keeps what it was told: with
// synchronous_commit off, a crash of PostgreSQL would show one code to two browsers.
func (db *DB) Current(ctx context.Context) error {
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	var have int64
	var commit, role string
	err = db.pool.QueryRow(ctx, db.schema.qualify(currentStatement)).Scan(&have, &commit, &role)
	denied, isDenied := errors.AsType[*pgconn.PgError](err)
	switch {
	case isDenied && denied.Code == insufficientPrivilege:
		return fmt.Errorf("asking the database for its schema's version: %w: %s", err, grantHint(pgx.Identifier{db.pool.Config().ConnConfig.User}.Sanitize()))
	case err != nil:
		return fmt.Errorf("asking the database for its schema's version: %w", err)
	case have < newest:
		return fmt.Errorf("the schema is at version %d, this binary needs %d: run scanlogin migrate up, as the owner of the schema", have, newest)
	case commit == "off":
		return fmt.Errorf("synchronous_commit is off for our connections, so a crash of PostgreSQL would forget logins: "+
			"run ALTER ROLE %s SET synchronous_commit = on (any level but off will do)", role)
	}
	return nil
}

func newestMigration() (newest int64, err error) {
	names, err := fs.Glob(scansql.Migrations, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}
