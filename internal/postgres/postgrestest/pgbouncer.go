package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// pooled is pgbouncer with fewer connections to the server than a test has to it, in
// transaction mode. It believes who somebody says to be, behind a folder that only its
// user may enter.
const pooled = `[databases]
* = host=%[1]s port=%[2]d user=%[4]s
[pgbouncer]
pool_mode = transaction
default_pool_size = 3
max_client_conn = 500
listen_addr =
unix_socket_dir = %[3]s
listen_port = 6432
auth_type = any
`

// NewPooler starts pgbouncer in transaction mode, with 3 connections, before the server of
// this URL, and returns the URL of the same database through it, for the same role. It
// ends with the test.
func NewPooler(t testing.TB, direct string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "pgbouncer-") // short, as a socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	ini := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(ini, fmt.Appendf(nil, pooled, cfg.Host, cfg.Port, dir, cfg.User), 0o644); err != nil {
		t.Fatal(err)
	}
	// As whom the server runs: pgbouncer refuses to be root, and has to reach its socket.
	attr, err := runLike(cfg.Host, dir)
	if err != nil {
		t.Fatal(err)
	}
	run(t, attr, "pgbouncer", ini)
	query := url.Values{"host": {dir}, "port": {"6432"}, "user": {cfg.User}}
	through := (&url.URL{Scheme: "postgres", Path: "/" + cfg.Database, RawQuery: query.Encode()}).String()
	awaitAnswer(t, through)
	return through
}

// runLike has a process run as the owner of the first folder, and gives it the second.
func runLike(owned, give string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{}
	dieWithParent(attr)
	if os.Geteuid() != 0 {
		return attr, nil
	}
	info, err := os.Stat(owned)
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("who runs PostgreSQL is unknown here")
	}
	attr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	return attr, os.Chown(give, int(owner.Uid), int(owner.Gid))
}

// run starts a program that runs until the test's end.
func run(t testing.TB, attr *syscall.SysProcAttr, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		t.Fatalf("%s is missing: install it (apt-get install %s)", program, program)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = attr, &output, &output
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel ties the parent-death signal to the thread that forked.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, or it has said why not
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-ended:
			t.Errorf("%s ended by itself", program)
		default:
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", program, output.String())
		}
	})
}

func awaitAnswer(t testing.TB, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no answer: %v", err)
		case <-tick.C:
		}
	}
}
