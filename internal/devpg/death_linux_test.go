package devpg

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNothingOutlivesASIGKILL(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), childDir+"="+dir)
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var url string
	if _, err := fmt.Sscan(line, &pid, &url); err != nil {
		t.Fatalf("the child says %q: %v", line, err)
	}
	server, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(server) }()
	conn := mustConnect(t, url)

	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // "signal: killed"
	if _, err := conn.WaitForNotification(t.Context()); !conn.IsClosed() {
		t.Errorf("the connection is still open (%v)", err)
	}
	ended, err := unix.Poll([]unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}, 20_000)
	if err != nil || ended != 1 {
		t.Fatalf("the server of the killed process is still there (%v)", err)
	}
	mustStart(t, Config{Dir: dir, Fast: true})
}

// Whoever is killed leaves processes behind that hold the memory, here for ever.
func TestStartsOverTheHeirsOfAKilledServer(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Dir: newDir(t), Fast: true})
	heir, err := strconv.Atoi(ask(t, s.URL("postgres"), "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
	if err != nil {
		t.Fatal(err)
	}
	mustSignal(t, heir, syscall.SIGSTOP)
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(heir, syscall.SIGKILL)
		}
	})
	s.Kill()
	mustStop(t, s)
	if got := ask(t, mustStart(t, s.Config()).URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("got %q", got)
	}
}

func mustSignal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}
