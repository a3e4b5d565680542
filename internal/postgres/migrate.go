package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"testing/fstest"

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

// Up applies what is pending; safe while other instances do the same. It returns the
// names of the migrations that it applied.
func (m *Migrator) Up(ctx context.Context) ([]string, error) {
	if err := m.createSchema(ctx); err != nil {
		return nil, fmt.Errorf("creating the schema %s: %w", m.schema.name, err)
	}
	results, err := m.provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("applying migrations: %w", err)
	}
	var names []string
	for _, r := range results {
		names = append(names, r.Source.Path)
	}
	return names, nil
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

// Migrate is Up for whoever has no more to do.
func Migrate(ctx context.Context, url, schemaName string) error {
	m, err := NewMigrator(url, schemaName)
	if err != nil {
		return err
	}
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
	switch {
	case err != nil:
		return fmt.Errorf("asking the database for its schema's version: %w", err)
	case have < newest:
		return fmt.Errorf("the schema is at version %d, this binary needs %d: run scanlogin migrate up", have, newest)
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
