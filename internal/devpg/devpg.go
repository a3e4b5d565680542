// Package devpg runs the PostgreSQL server that `scanlogin dev` and the tests
// start for themselves: found on this machine, initialised in a folder of its
// own, reached over a unix socket that only its owner can open, and gone when
// this process is gone, however it ends (on Linux; elsewhere a SIGKILL leaves
// the server behind).
package devpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says where a server lives and how it runs. The zero value is a server
// in a temporary folder with PostgreSQL's usual durability.
type Config struct {
	// Dir is the folder that the server owns: it is created, its mode becomes
	// 0700, and as root its owner becomes the user that PostgreSQL runs as. The
	// data in it is kept between runs. Empty: a temporary folder, removed by Stop.
	Dir string
	// Fast gives up the safety of the data in a crash of the machine for speed,
	// for tests.
	Fast bool
	// Settings are PostgreSQL's own, over the defaults of this package. Where
	// they open TCP (listen_addresses), every local user is trusted there.
	Settings map[string]string
	// Logger hears of starts and stops; nil discards. What the server itself
	// says goes to postgres.log in its folder.
	Logger *slog.Logger
}

// Server is a running PostgreSQL server.
type Server struct {
	cfg      Config
	folder   *folder
	bin      string
	settings map[string]string
	cmd      *exec.Cmd
	output   *output
	stopping atomic.Bool
	release  func() error
	done     chan struct{}
	err      error // why the server ended; to be read after done
}

// Start initialises the folder where that is needed, starts a server on it and
// returns once it accepts connections. ctx bounds the start only; Stop ends the
// server. The error is ErrNotFound where no PostgreSQL is installed; where the
// server didn't come up, it holds the server's last words.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.cfg.Logger.InfoContext(ctx, "PostgreSQL started", "dir", s.folder.path, "pid", s.cmd.Process.Pid)
	return s, nil
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := newServer(ctx, cfg, (*folder).initialise)
	if err != nil {
		return nil, err
	}
	return s, s.run(ctx)
}

// newServer makes a server that doesn't run yet: its folder is locked and holds
// data, made by newData where there was none.
func newServer(ctx context.Context, cfg Config, newData func(f *folder, ctx context.Context, bin string, fast bool) error) (_ *Server, err error) {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	bin, err := findBin(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(cfg.Dir, bin)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, folder.close())
		}
	}()
	if !folder.hasData() {
		if err := newData(folder, ctx, bin, cfg.Fast); err != nil {
			return nil, err
		}
	}
	folder.awaitPrevious(ctx)
	return &Server{
		cfg: cfg, folder: folder, bin: bin, settings: settings(cfg, folder.sockets),
		release: sync.OnceValue(folder.close),
	}, nil
}

// settings merges the caller's settings over what this package needs.
func settings(cfg Config, sockets string) map[string]string {
	set := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": `"` + sockets + `"`,
		"port":                    "5432", // names the socket
		"max_connections":         "200",
	}
	if cfg.Fast {
		// Commits stay synchronous: what was committed survives Kill.
		maps.Copy(set, map[string]string{"fsync": "off", "full_page_writes": "off"})
	}
	maps.Copy(set, cfg.Settings)
	return set
}

// run starts the server and waits until it is ready. Where it isn't, the folder is given
// back.
func (s *Server) run(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for patience := time.Now().Add(heirsEnd); ; {
		if s.output, err = newOutput(filepath.Join(s.folder.path, "postgres.log")); err != nil {
			return err
		}
		err = s.launch(ctx)
		if err == nil || !s.output.said(heirsWords) || time.Now().After(patience) || ctx.Err() != nil {
			return err
		}
		endHeirs(s.folder.data())
		<-tick.C
	}
}

// The processes of a server that was killed end when they notice that, which in PostgreSQL 13
// takes some of them up to a minute. Until then they share its memory, and PostgreSQL refuses
// to start on their data.
const (
	heirsWords = "pre-existing shared memory block"
	heirsEnd   = 10 * time.Second
)

// launch starts the server process and waits until it is ready.
func (s *Server) launch(ctx context.Context) error {
	s.done, s.err = make(chan struct{}), nil
	args := []string{"-D", s.folder.data()}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	// The server outlives the context of its start.
	s.cmd = s.folder.command(context.WithoutCancel(ctx), filepath.Join(s.bin, "postgres"), args...)
	// SIGQUIT is the immediate shutdown: it doesn't wait for anyone, and what
	// was committed is recovered by the next start.
	dieWithParent(s.cmd.SysProcAttr, syscall.SIGQUIT)
	s.cmd.Stderr = s.output
	s.cmd.WaitDelay = 10 * time.Second
	started := make(chan error, 1)
	go s.supervise(started)
	if err := <-started; err != nil {
		return err
	}
	return s.await(ctx, s.output.ready)
}

// await waits until the server has said something. It is stopped when ctx ends
// before that.
func (s *Server) await(ctx context.Context, said <-chan struct{}) error {
	select {
	case <-said:
		return nil
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("not ready: %w: %s", context.Cause(ctx), s.output.tail()), s.Stop(ctx))
	}
}

// supervise starts the process and waits for its end. The kernel ties the
// parent-death signal to the thread that forked, not to the process: this
// goroutine keeps its thread alive for as long as the server runs.
func (s *Server) supervise(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	defer s.output.close()
	err := s.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = s.cmd.Wait()
	if !s.stopping.Load() {
		s.err = fmt.Errorf("PostgreSQL ended by itself (%s): %s", describe(err), s.output.tail())
	}
}

func describe(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// URL names a database of this server for pgx and libpq, as the superuser
// postgres.
func (s *Server) URL(database string) string { return URL(database, s) }

// URL names a database of several servers, of which a client takes the first that
// suits it (target_session_attrs).
func URL(database string, servers ...*Server) string {
	var hosts, ports []string
	for _, s := range servers {
		hosts = append(hosts, s.folder.sockets)
		ports = append(ports, s.settings["port"])
	}
	query := url.Values{"host": {strings.Join(hosts, ",")}, "port": {strings.Join(ports, ",")}, "user": {"postgres"}}
	// A plus is no space there, unlike in a form.
	encoded := strings.ReplaceAll(query.Encode(), "+", "%20")
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: encoded}).String()
}

// Config returns what the server was started with. After Stop, a Start with it
// serves the same data under the same URL, if Dir is set and no longer than a
// socket's path may be.
func (s *Server) Config() Config { return s.cfg }

// Done is closed when the server process has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server ended by itself; nil while it runs and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop shuts the server down: transactions are rolled back, connections closed,
// and what was committed is on disk. It waits until every process is gone; when
// ctx ends before that, the shutdown becomes an immediate one. Stopping twice,
// or a server that died, is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.signal(syscall.SIGINT)
	select {
	case <-s.done:
	case <-ctx.Done():
		s.signal(syscall.SIGQUIT)
		<-s.done // PostgreSQL kills what still runs 5 s after SIGQUIT
	}
	return s.release()
}

// Kill is a crash, for tests: the server gets SIGKILL, and its processes end when
// they notice that. Stop still releases the folder.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.done
}

// Crash is an immediate stop, for tests: every process of the server ends in the
// middle of what it does. Stop still releases the folder.
func (s *Server) Crash() {
	s.signal(syscall.SIGQUIT)
	<-s.done
}

// signal ignores its error: the one it can meet is that the process is gone.
func (s *Server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// environment is ours without PostgreSQL's variables, which would redirect the
// server, and with messages in English, which output understands.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") })
	return append(env, "LC_ALL=C")
}
