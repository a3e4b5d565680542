package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	dataName = "data"
	// lockName also marks a folder as this package's.
	lockName = "devpg.lock"
	// maxSocketPath fits sun_path of Linux (108 bytes) and macOS (104).
	maxSocketPath = 103
	tempPattern   = "scanlogin-pg-"
)

// folder is the place of one server: the data, the socket, the log, and a lock
// that is held for as long as the server runs.
type folder struct {
	path      string // absolute, links resolved
	sockets   string // inside path, or a temporary folder where that is too long
	temporary bool   // path is removed on close
	lock      *os.File
	runAs     *runAs // nil: as ourselves
}

// openFolder makes or opens the folder, takes its lock and hands it to the user
// that the server will run as. bin is checked to be within that user's reach.
func openFolder(dir, bin string) (_ *folder, err error) {
	f := &folder{temporary: dir == ""}
	if f.path, err = makeDir(dir); err != nil {
		return nil, err
	}
	if f.lock, err = lockDir(f.path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.runAs, err = whoRuns(f.data()); err != nil {
		return nil, err
	}
	if err := f.runAs.reaches(filepath.Dir(f.path), bin); err != nil {
		return nil, err
	}
	if err := f.runAs.own(f.path); err != nil {
		return nil, err
	}
	return f, f.makeSockets()
}

// makeDir returns dir as the absolute path of an existing folder. It refuses a
// folder with other people's files in it, whose owner and mode would change.
func makeDir(dir string) (string, error) {
	if dir == "" {
		removeAbandoned()
		return os.MkdirTemp("", tempPattern)
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", err
	}
	_, err = os.Stat(filepath.Join(path, lockName))
	if err != nil && len(entries) > 0 {
		return "", fmt.Errorf("the data folder %s holds other files: choose an empty or a new one", path)
	}
	return path, nil
}

// removeAbandoned removes temporary folders whose process was killed before it
// could. The minute spares one that is being made now and isn't locked yet.
func removeAbandoned() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPattern+"*"))
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

// lockDir takes the folder for this process; the kernel gives it back when the
// process ends.
func lockDir(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("another server runs on %s: stop it, or choose another data folder (%w)", path, err)
	}
	return lock, nil
}

// makeSockets makes the folder of the socket, which only its owner can enter:
// whoever can connect is the superuser.
func (f *folder) makeSockets() (err error) {
	f.sockets = filepath.Join(f.path, "run")
	if len(f.sockets+"/.s.PGSQL.65535.lock") <= maxSocketPath {
		err = os.MkdirAll(f.sockets, 0o700)
	} else {
		// Not tempPattern: no lock would keep removeAbandoned away.
		f.sockets, err = os.MkdirTemp("/tmp", "scanlogin-socket-")
	}
	if err != nil {
		return err
	}
	return f.runAs.own(f.sockets)
}

func (f *folder) data() string { return filepath.Join(f.path, dataName) }

// command prepares a program of PostgreSQL: as the right user, in a place that
// it may read, and in a process group of its own, for a terminal's ctrl-C goes
// to us, who stop things in order.
func (f *folder) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = f.path
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: f.runAs.credential()}
	return cmd
}

func (f *folder) hasData() bool {
	_, err := os.Stat(f.data())
	return err == nil
}

// initialise makes new data in the first of two locales that this system has.
func (f *folder) initialise(ctx context.Context, bin string, fast bool) error {
	err := f.initdb(ctx, bin, "C.UTF-8", fast)
	if err != nil && ctx.Err() == nil {
		err = f.initdb(ctx, bin, "C", fast)
	}
	return err
}

func (f *folder) initdb(ctx context.Context, bin, locale string, fast bool) error {
	return f.fill(func(unfinished string) error {
		args := []string{"-D", unfinished, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=" + locale}
		if fast {
			args = append(args, "--no-sync")
		}
		return f.runTool(ctx, filepath.Join(bin, "initdb"), args...)
	})
}

// fill has the data made under another name: what stands under the right one is
// always complete.
func (f *folder) fill(with func(unfinished string) error) error {
	unfinished := f.data() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := with(unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, f.data())
}

// runTool runs a program to its end.
func (f *folder) runTool(ctx context.Context, name string, args ...string) error {
	cmd := f.command(ctx, name, args...)
	cmd.WaitDelay = time.Second
	dieWithParent(cmd.SysProcAttr, syscall.SIGTERM)
	runtime.LockOSThread() // see Server.supervise
	defer runtime.UnlockOSThread()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// awaitPrevious waits, for 3 s at most, for the server of a process that was
// killed a moment ago: it is about to end. What else the file may name, a
// stranger with a reused process id, is for PostgreSQL to judge.
func (f *folder) awaitPrevious(ctx context.Context) {
	content, _ := os.ReadFile(filepath.Join(f.data(), "postmaster.pid"))
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 1 {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 150 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// close gives the folder back, and removes what was temporary.
func (f *folder) close() error {
	var err error
	if f.sockets != "" && filepath.Dir(f.sockets) != f.path {
		err = os.RemoveAll(f.sockets)
	}
	if f.temporary {
		err = errors.Join(err, os.RemoveAll(f.path))
	}
	return errors.Join(err, f.lock.Close())
}
