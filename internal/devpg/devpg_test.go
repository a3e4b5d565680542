package devpg

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// newDir is a folder that PostgreSQL's user reaches where the tests run as root;
// the parent of t.TempDir is closed to it. Its name is short, for the socket.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "devpg-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mustStart(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustStop(t, s) })
	return s
}

func mustStop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func mustConnect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func mustExec(t *testing.T, s *Server, statement string) {
	t.Helper()
	if _, err := mustConnect(t, s.URL("postgres")).Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func ask(t *testing.T, url, query string) (answer string) {
	t.Helper()
	if err := mustConnect(t, url).QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error doesn't say %q: %v", part, err)
		}
	}
}

func TestServesOverASocketOfItsOwn(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Fast: true, Settings: map[string]string{"application_name": "one two"}})
	for query, want := range map[string]string{
		"SHOW listen_addresses": "",
		"SHOW max_connections":  "200",
		"SHOW server_encoding":  "UTF8",
		"SHOW fsync":            "off",
		"SELECT current_user":   "postgres",
		"SELECT reset_val FROM pg_settings WHERE name = 'application_name'": "one two",
	} {
		if got := ask(t, s.URL("postgres"), query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	info, err := os.Stat(s.folder.sockets)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder is %v (%v), want mode 0700", info.Mode(), err)
	}
	mustStop(t, s)
	mustStop(t, s)
	if <-s.Done(); s.Err() != nil {
		t.Errorf("Err after Stop: %v", s.Err())
	}
	if _, err := os.Stat(s.folder.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder is still there: %v", err)
	}
}

// A terminal sends ctrl-C to its whole foreground process group.
func TestKeepsClearOfCtrlC(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Fast: true})
	if group, err := syscall.Getpgid(s.cmd.Process.Pid); err != nil || group == syscall.Getpgrp() {
		t.Errorf("the server is in our process group %d (%v)", group, err)
	}
}

func TestKeepsDataBetweenRuns(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: filepath.Join(newDir(t), "new", "folder")}
	first := mustStart(t, cfg)
	mustExec(t, first, "CREATE TABLE kept AS SELECT 'yes' AS answer")
	mustStop(t, first)
	second := mustStart(t, cfg)
	if first.URL("x") != second.URL("x") {
		t.Errorf("the URL was %s and is %s", first.URL("x"), second.URL("x"))
	}
	if got := ask(t, second.URL("postgres"), "SELECT answer FROM kept"); got != "yes" {
		t.Errorf("got %q", got)
	}
}

func TestTellsOfADeathAndRecovers(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*Server){"killed": (*Server).Kill, "immediate shutdown": (*Server).Crash} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := mustStart(t, Config{Dir: newDir(t), Fast: true})
			mustExec(t, s, "CREATE TABLE kept AS SELECT 'yes' AS answer")
			if s.Err() != nil {
				t.Errorf("Err while it runs: %v", s.Err())
			}
			end(s)
			<-s.Done()
			wantError(t, s.Err(), "ended by itself", how)
			mustStop(t, s)
			_, err := os.Stat(filepath.Join(s.folder.data(), "postmaster.pid"))
			if stale := how == "killed"; (err == nil) != stale {
				t.Errorf("a stale postmaster.pid: %v, want %v", err, stale)
			}
			again := mustStart(t, s.Config())
			if got := ask(t, again.URL("postgres"), "SELECT answer FROM kept"); got != "yes" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRefusesAFolderInUse(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Dir: newDir(t), Fast: true})
	_, err := Start(t.Context(), s.Config())
	wantError(t, err, "another server runs on "+s.folder.path)
	if got := ask(t, s.URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("the first server: %q", got)
	}
}

// A server that something else started on the data: PostgreSQL's own lock.
func TestRefusesDataInUse(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Dir: newDir(t), Fast: true})
	if err := os.Remove(filepath.Join(s.folder.path, lockName)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.folder.path, lockName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), s.Config())
	wantError(t, err, "postmaster.pid", "already exists")
}

func TestRefusesAFolderOfOtherFiles(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: dir, Fast: true})
	wantError(t, err, dir, "other files")
}

func TestStartsOverAnInterruptedInitdb(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	for _, name := range []string{lockName, dataName + ".new/PG_VERSION"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := mustStart(t, Config{Dir: dir, Fast: true})
	if got := ask(t, s.URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("got %q", got)
	}
}

func TestRefusesDataOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if err := os.Mkdir(filepath.Join(dir, dataName), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dataName, "PG_VERSION"), []byte("9.6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bins := candidates()
	if len(bins) == 0 {
		t.Fatal(ErrNotFound)
	}
	here, err := binVersion(t.Context(), bins[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Config{Dir: dir, Fast: true})
	wantError(t, err, dir, "PostgreSQL 9.6", "PostgreSQL "+here)
}

func TestFindsTheSocketAPlaceUnderALongPath(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Dir: filepath.Join(newDir(t), strings.Repeat("long", 25)), Fast: true})
	if got := ask(t, s.URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("got %q", got)
	}
	mustStop(t, s)
	if _, err := os.Stat(s.folder.sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's folder is still there: %v", err)
	}
}

func TestSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Fast: true, Settings: map[string]string{"max_connections": "many"}})
	wantError(t, err, "start PostgreSQL", `"max_connections"`, "many")
}

func TestAStartCanBeCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := newDir(t)
	_, err := Start(ctx, Config{Dir: dir, Fast: true})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	mustStart(t, Config{Dir: dir, Fast: true})
}

func TestSaysWhatToInstall(t *testing.T) {
	t.Setenv("PG_BIN", t.TempDir())
	_, err := Start(t.Context(), Config{Fast: true})
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	wantError(t, err, "apt-get install postgresql")
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than a line: %v", err)
	}
}

func TestFollowsALinkInPath(t *testing.T) {
	bins := candidates()
	if len(bins) == 0 {
		t.Fatal(ErrNotFound)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(bins[0], "postgres"), filepath.Join(dir, "postgres")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	want, err := filepath.EvalSymlinks(bins[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := candidates(); len(got) == 0 || got[0] != want {
		t.Errorf("got %q, want %s first", got, want)
	}
}

func TestPrefersTheNewestVersion(t *testing.T) {
	t.Parallel()
	old, recent := folderVersion("/usr/lib/postgresql/9.6/bin"), folderVersion("/opt/homebrew/opt/postgresql@17/bin")
	if old != 9.6 || recent != 17 {
		t.Errorf("got %v and %v", old, recent)
	}
}

func TestNamesTheFolderThatIsClosedToTheUser(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(newDir(t), "closed")
	inside := filepath.Join(closed, "inside")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	other := uint32(os.Getuid() + 1) // anyone but us, whose folder it is
	nobody := &runAs{name: "nobody", cred: syscall.Credential{Uid: other, Gid: other}}
	if err := nobody.reaches(inside); err != nil {
		t.Errorf("an open folder: %v", err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	wantError(t, nobody.reaches(inside), "user nobody", "can't enter "+closed)
}
