package devpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that this machine has no PostgreSQL server to run.
var ErrNotFound = errors.New("PostgreSQL's server isn't in PG_BIN, PATH or /usr/lib/postgresql/*/bin: " +
	"install it (apt-get install postgresql) or set PG_BIN to the folder of initdb and postgres")

// findBin returns the folder of the server's programs: the first candidate, or
// the first of the version that made the data which dir already holds.
func findBin(ctx context.Context, dir string) (string, error) {
	bins := candidates()
	if len(bins) == 0 {
		return "", ErrNotFound
	}
	want, err := dataVersion(dir)
	if err != nil || want == "" {
		return bins[0], err
	}
	var have []string
	for _, bin := range bins {
		version, err := binVersion(ctx, bin)
		if err != nil {
			return "", err
		}
		if version == want {
			return bin, nil
		}
		have = append(have, version)
	}
	return "", fmt.Errorf("the data in %s is PostgreSQL %s's and only PostgreSQL %s is installed: "+
		"install version %[2]s, or move the folder away to start afresh", dir, want, strings.Join(slices.Compact(have), ", "))
}

// candidates lists the folders that hold both programs, best first. PG_BIN,
// where it is set, is the only one.
func candidates() []string {
	var bins []string
	if bin := os.Getenv("PG_BIN"); bin != "" {
		bins = []string{bin}
	} else {
		bins = append(fromPath(), installed()...)
	}
	return slices.DeleteFunc(bins, func(bin string) bool {
		_, errServer := exec.LookPath(filepath.Join(bin, "postgres"))
		_, errInit := exec.LookPath(filepath.Join(bin, "initdb"))
		return errServer != nil || errInit != nil
	})
}

// fromPath follows a link such as /usr/local/bin/postgres to the real folder:
// initdb looks for its siblings there.
func fromPath() []string {
	path, err := exec.LookPath("postgres")
	if err != nil {
		return nil
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	return []string{filepath.Dir(target)}
}

// installed lists where Debian and Homebrew keep what isn't in PATH, the newest
// version first.
func installed() []string {
	var bins []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern) // fails for a bad pattern only
		bins = append(bins, found...)
	}
	slices.SortStableFunc(bins, func(a, b string) int { return cmp.Compare(folderVersion(b), folderVersion(a)) })
	return bins
}

// folderVersion reads 15 out of /usr/lib/postgresql/15/bin.
func folderVersion(bin string) float64 {
	_, version, _ := strings.Cut(filepath.Base(filepath.Dir(bin)), "@")
	number, _ := strconv.ParseFloat(cmp.Or(version, filepath.Base(filepath.Dir(bin))), 64)
	return number
}

// dataVersion is the major version that made the data in dir; empty where there
// is none yet.
func dataVersion(dir string) (string, error) {
	version, err := os.ReadFile(filepath.Join(dir, dataName, "PG_VERSION"))
	if dir == "" || errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(version)), err
}

// binVersion asks the program itself: "postgres (PostgreSQL) 15.18 (Debian …)".
func binVersion(ctx context.Context, bin string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s/postgres --version: %w", bin, err)
	}
	_, version, _ := strings.Cut(string(out), ") ")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 1 {
		return "", fmt.Errorf("%s/postgres --version: can't read %q", bin, out)
	}
	return version[:end], nil
}
