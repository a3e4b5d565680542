// Package postgrestest gives tests real PostgreSQL: a fresh database for each
// test on one server for each test process, or a server of their own to break.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"scanlogin/internal/devpg"
	"scanlogin/internal/postgres"
)

// Schema is where the databases of this package have their tables.
const Schema = "scanlogin"

// The roles that there are beside the superuser: one owns the tables, the other has what
// an instance needs.
const (
	Owner   = "scanlogin_owner"
	Service = "scanlogin_service"
)

const (
	template = "scanlogin_template"
	patience = time.Minute // for a start on a busy machine
)

// shared is the server of this test process. Package state, because testing has
// no other place for what the tests of a process share: Main, which stops it,
// can't hand it to them.
var shared sharedServer

type sharedServer struct {
	once      sync.Once
	server    *devpg.Server
	err       error
	strategy  string
	databases atomic.Int64
}

// Main is the TestMain of a package that uses this one: it runs the tests, stops
// the server that they shared, and fails when goroutines are left.
func Main(m *testing.M) {
	code := m.Run()
	err := shared.stop()
	if code == 0 {
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// NewDatabase returns the URL of a fresh database with all migrations applied in
// Schema, for the superuser; [As] makes it one for somebody else. It is dropped, with
// whoever is still connected, after the test.
func NewDatabase(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := shared.get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", shared.databases.Add(1))
	if err := execute(ctx, server, "CREATE DATABASE "+name+" OWNER "+Owner+" TEMPLATE "+template+shared.strategy); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := execute(ctx, server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return server.URL(name)
}

// As is a URL of this package for another role.
func As(database, role string) string {
	u, err := url.Parse(database)
	if err != nil {
		panic(err) // of this package, it is one
	}
	q := u.Query()
	q.Set("user", role)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // a plus is no space there
	return u.String()
}

// Migrate makes the roles where they are missing, and brings a database to its schema: the
// one at this URL, which is for the superuser.
func Migrate(t testing.TB, database string) {
	t.Helper()
	if err := migrate(t.Context(), database); err != nil {
		t.Fatal(err)
	}
}

// roles are for a whole server. The owner is the database's as well, as in the manual.
const roles = `DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '` + Owner + `') THEN
        CREATE ROLE ` + Owner + ` LOGIN;
        CREATE ROLE ` + Service + ` LOGIN;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO ` + Owner + `', current_database());
END
$$`

func migrate(ctx context.Context, database string) error {
	if err := executeAt(ctx, database, roles); err != nil {
		return err
	}
	return postgres.Migrate(ctx, As(database, Owner), Schema, Service)
}

// NewServer starts a server with an empty database named postgres, for a test
// that stops, kills or reconfigures it. It ends with the test.
func NewServer(t testing.TB, settings map[string]string) *devpg.Server {
	t.Helper()
	return start(t, devpg.Config{Dir: newDir(t), Fast: true, Settings: settings})
}

// NewPair is NewServer with a standby. The settings are the primary's: with
// synchronous_standby_names set to devpg.StandbyName its commits wait for the
// standby.
func NewPair(t testing.TB, settings map[string]string) (primary, standby *devpg.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	primary, standby, err := devpg.StartPair(ctx,
		devpg.Config{Dir: newDir(t), Fast: true, Settings: settings},
		devpg.Config{Dir: newDir(t), Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, primary) })
	t.Cleanup(func() { stop(t, standby) })
	return primary, standby
}

// newDir is a folder under /tmp: for the short name that a socket needs, and for
// root, since the user that PostgreSQL then runs as can't enter those of t.TempDir.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Restart stops the server, unless it has ended by itself, and returns one on
// the same data under the same URL.
func Restart(t testing.TB, server *devpg.Server) *devpg.Server {
	t.Helper()
	stop(t, server)
	return start(t, server.Config())
}

func start(t testing.TB, cfg devpg.Config) *devpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := devpg.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t testing.TB, server *devpg.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func (s *sharedServer) get(ctx context.Context) (*devpg.Server, error) {
	s.once.Do(func() { s.err = s.start(context.WithoutCancel(ctx)) })
	return s.server, s.err
}

// start has a time limit of its own: every caller of get waits for what the first
// of them started, and that one's test may end early.
func (s *sharedServer) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.server, err = devpg.Start(ctx, devpg.Config{Fast: true}); err != nil {
		return err
	}
	if err := execute(ctx, s.server, "CREATE DATABASE "+template); err != nil {
		return err
	}
	if err := migrate(ctx, s.server.URL(template)); err != nil {
		return err
	}
	return s.chooseStrategy(ctx)
}

// chooseStrategy asks for the copy of files where there is a choice, from
// PostgreSQL 15 on: the other way writes every page to the WAL as well.
func (s *sharedServer) chooseStrategy(ctx context.Context) error {
	return connected(ctx, s.server.URL("postgres"), func(conn *pgx.Conn) error {
		var choice bool
		err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int >= 150000").Scan(&choice)
		if choice {
			s.strategy = " STRATEGY file_copy"
		}
		return err
	})
}

// stop ends the server where a test has started it.
func (s *sharedServer) stop() error {
	s.once.Do(func() {}) // not started by now: not started any more
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.server.Stop(ctx)
}

func execute(ctx context.Context, server *devpg.Server, statement string) error {
	return executeAt(ctx, server.URL("postgres"), statement)
}

func executeAt(ctx context.Context, database, statement string) error {
	return connected(ctx, database, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		return nil
	})
}

func connected(ctx context.Context, database string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(ctx))
}
