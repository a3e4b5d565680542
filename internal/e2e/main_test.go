package e2e

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"scanlogin/internal/postgres/postgrestest"
)

var (
	binary string         // the program under test, built once for the whole run
	ours   io.WriteCloser // open for as long as this process lives: see removeAfterwards
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	postgrestest.Main(m)
}

func prepare() error {
	// These tests wait for other processes far more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "scanlogin-e2e-")
	if err != nil {
		return err
	}
	if err := removeAfterwards(dir); err != nil {
		return err
	}
	binary = filepath.Join(dir, "scanlogin")
	build := exec.Command("go", "build", "-race", "-o", binary, "scanlogin/cmd/scanlogin")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return nil
}

// removeAfterwards removes dir once this process is gone, however it ends: a helper
// waits for the other end of its standard input to close.
func removeAfterwards(dir string) error {
	helper := exec.Command("sh", "-c", `cat >/dev/null; rm -rf "$0"`, dir)
	var err error
	if ours, err = helper.StdinPipe(); err != nil {
		return err
	}
	return helper.Start()
}
