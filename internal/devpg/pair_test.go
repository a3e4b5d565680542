package devpg

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func mustStartPair(t *testing.T, primary, standby Config) (p, s *Server) {
	t.Helper()
	p, s, err := StartPair(t.Context(), primary, standby)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustStop(t, p) })
	t.Cleanup(func() { mustStop(t, s) })
	return p, s
}

// syncPair is a pair whose primary waits for the standby to have applied a commit.
func syncPair(t *testing.T) (p, s *Server) {
	t.Helper()
	settings := map[string]string{"synchronous_standby_names": StandbyName, "synchronous_commit": "remote_apply"}
	return mustStartPair(t, Config{Dir: newDir(t), Fast: true, Settings: settings}, Config{Dir: newDir(t), Fast: true})
}

func promote(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAStandbyHasWhatThePrimaryHas(t *testing.T) {
	t.Parallel()
	p, s := syncPair(t)
	mustExec(t, p, "CREATE TABLE kept AS SELECT 'yes' AS answer")
	if got := ask(t, s.URL("postgres"), "SELECT answer FROM kept"); got != "yes" {
		t.Errorf("got %q", got)
	}
	_, err := mustConnect(t, s.URL("postgres")).Exec(t.Context(), "CREATE TABLE refused ()")
	wantError(t, err, "read-only")
	info, err := os.Stat(s.folder.data())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the standby's data is %v (%v), want mode 0700", info.Mode(), err)
	}
}

// The standby of a primary that is gone takes its place, finds clients by itself,
// and gets a standby of its own.
func TestAPromotedStandbyGoesOn(t *testing.T) {
	t.Parallel()
	p, s := syncPair(t)
	url := URL("postgres", p, s) + "&target_session_attrs=read-write"
	serving := func() string { return ask(t, url, "SELECT current_setting('unix_socket_directories')") }
	if got := serving(); !strings.Contains(got, p.folder.sockets) {
		t.Errorf("%s serves, want the primary", got)
	}
	mustExec(t, p, "CREATE TABLE kept AS SELECT 'yes' AS answer")
	p.Kill()
	promote(t, s)
	if got := serving(); !strings.Contains(got, s.folder.sockets) {
		t.Errorf("%s serves, want what was the standby", got)
	}
	mustExec(t, s, "INSERT INTO kept VALUES ('more')")

	s.Kill()
	mustStop(t, s)
	again, second := mustStartPair(t, s.Config(), Config{Dir: newDir(t), Fast: true})
	const answers = "SELECT string_agg(answer, ',' ORDER BY answer) FROM kept"
	if got := ask(t, again.URL("postgres"), answers); got != "more,yes" {
		t.Errorf("after its restart: %q", got)
	}
	if got := ask(t, second.URL("postgres"), answers); got != "more,yes" {
		t.Errorf("its standby: %q", got)
	}
}

func TestAStandbyThatLagsLosesWhatItMissed(t *testing.T) {
	t.Parallel()
	p, s := mustStartPair(t, Config{Fast: true}, Config{Fast: true})
	mustExec(t, p, "CREATE TABLE kept AS SELECT 'early' AS answer")
	awaitAnswer(t, s, "SELECT (to_regclass('kept') IS NOT NULL)::text", "true")
	mustExec(t, s, "ALTER SYSTEM SET primary_conninfo = ''")
	mustExec(t, s, "SELECT pg_reload_conf()")
	awaitAnswer(t, p, "SELECT count(*)::text FROM pg_stat_replication", "0")
	mustExec(t, p, "INSERT INTO kept VALUES ('late')")
	p.Kill()
	promote(t, s)
	if got := ask(t, s.URL("postgres"), "SELECT string_agg(answer, ',') FROM kept"); got != "early" {
		t.Errorf("got %q", got)
	}
}

// awaitAnswer asks until it gets the answer.
func awaitAnswer(t *testing.T, s *Server, query, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for got := ""; got != want; {
		if err := conn.QueryRow(ctx, query).Scan(&got); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		<-tick.C
	}
}

func TestRefusesAStandbyOfAnotherPrimary(t *testing.T) {
	t.Parallel()
	other := Config{Dir: newDir(t), Fast: true}
	mustStop(t, mustStart(t, other))
	primary := Config{Dir: newDir(t), Fast: true}
	_, _, err := StartPair(t.Context(), primary, other)
	wantError(t, err, "pair", other.Dir, "isn't a standby's")
	mustStart(t, primary) // neither runs
	mustStart(t, other)
}

func TestQuotesWhatPostgreSQLReads(t *testing.T) {
	t.Parallel()
	p, s := mustStartPair(t, Config{Dir: filepath.Join(newDir(t), `it's a \ folder`), Fast: true}, Config{Fast: true})
	awaitAnswer(t, p, "SELECT application_name FROM pg_stat_replication", StandbyName)
	if got := ask(t, s.URL("postgres"), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("in recovery: %s", got)
	}
}
