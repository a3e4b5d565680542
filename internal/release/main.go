// Command release makes what is published of a commit: an archive for each architecture, a bill of
// materials beside it, and the checksums of all. Whoever makes them of the same commit, with the
// same Go, gets the same bytes: nothing in them tells where, when or by whom they were made.
package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

func main() {
	out := flag.String("o", "dist", "folder to write into")
	archs := flag.String("archs", "amd64,arm64", "architectures, as Go calls them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := release(ctx, *out, strings.Split(*archs, ","))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release writes what the commit that is checked out here is published as.
func release(ctx context.Context, out string, archs []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	files, err := tracked(ctx)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, arch := range archs {
		made, err := releaseFor(ctx, out, arch, files)
		if err != nil {
			return fmt.Errorf("linux/%s: %w", arch, err)
		}
		for _, name := range made {
			b, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				return err
			}
			fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), name)
		}
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// releaseFor returns the names of the files that it made.
func releaseFor(ctx context.Context, out, arch string, files []string) (made []string, err error) {
	dir, err := os.MkdirTemp("", "scanlogin-release-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "scanlogin")
	if err := build(ctx, binary, arch); err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	at, err := commitTime(info)
	if err != nil {
		return nil, err
	}
	name := "scanlogin-" + info.Main.Version + "-linux-" + arch
	made = []string{name + ".tar.gz", name + ".cdx.json"}
	if err := writeArchive(filepath.Join(out, made[0]), name, binary, files, at); err != nil {
		return nil, err
	}
	return made, writeBill(filepath.Join(out, made[1]), binary, info, at)
}

// build leaves nothing to the environment that would show in the binary. The version is the
// commit's tag, which Go takes from git itself.
func build(ctx context.Context, binary, arch string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-tags", "timetzdata", "-ldflags", "-s -w", "-o", binary, "./cmd/scanlogin")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// commitTime is when the commit was made that a binary was built of. A tree that isn't the
// commit is refused: nobody could make the same again.
func commitTime(info *debug.BuildInfo) (time.Time, error) {
	var at time.Time
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.modified" && s.Value != "false":
			return at, errors.New("the work tree is not what was committed: commit or remove what `git status` shows")
		case s.Key == "vcs.time":
			var err error
			if at, err = time.Parse(time.RFC3339, s.Value); err != nil {
				return at, err
			}
		}
	}
	if at.IsZero() {
		return at, errors.New("Go finds no commit here: it has to be a clone, not a linked worktree")
	}
	return at, nil
}

// tracked lists what goes into the archives beside the binary, by slashed path.
func tracked(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "LICENSE", "README.md", "CHANGELOG.md", "docs")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(files)
	return files, nil
}
