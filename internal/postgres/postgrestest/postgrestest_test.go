package postgrestest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/devpg"
	"scanlogin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func mustExec(t testing.TB, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestEveryDatabaseIsFreshAndMigrated(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := postgrestest.NewDatabase(t)
			mustExec(t, url, "SELECT FROM "+postgrestest.Schema+".goose_db_version")
			mustExec(t, url, "CREATE TABLE mark ()") // fails where the other test's is
		})
	}
}

func TestARestartedServerKeepsItsDataAndURL(t *testing.T) {
	t.Parallel()
	server := postgrestest.NewServer(t, map[string]string{"max_connections": "20"})
	url := server.URL("postgres")
	mustExec(t, url, "CREATE TABLE mark ()")
	server.Kill()
	postgrestest.Restart(t, server)
	mustExec(t, url, "TABLE mark")
}

func TestAPairIsReachedUnderOneURL(t *testing.T) {
	t.Parallel()
	primary, standby := postgrestest.NewPair(t, map[string]string{"synchronous_standby_names": devpg.StandbyName})
	url := devpg.URL("postgres", primary, standby) + "&target_session_attrs=read-write"
	mustExec(t, url, "CREATE TABLE mark ()")
	primary.Kill()
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, url, "INSERT INTO mark DEFAULT VALUES")
}

func BenchmarkNewDatabase(b *testing.B) {
	for b.Loop() {
		postgrestest.NewDatabase(b)
	}
}
