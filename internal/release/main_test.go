package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const committed = 1767323045 // 2026-01-02T03:04:05Z

// checkout is this source as it stands, committed in a repository of its own and tagged v1.2.3.
func checkout(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"cmd", "internal", "sql", "static", "docs"} {
		if err := os.CopyFS(filepath.Join(root, name), os.DirFS(filepath.Join("../..", name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE", "README.md", "CHANGELOG.md"} {
		b, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "a release"}, {"tag", "v1.2.3"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	return root
}

// program is the command, built without the race detector: that makes compression take minutes.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "release")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	return path
}

// run makes a release of root for amd64 and returns every file of it, or what it said.
func run(t *testing.T, program, root string) (map[string][]byte, error) {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command(program, "-o", out, "-archs", "amd64")
	cmd.Dir = root
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(out, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files, nil
}

func TestReleaseIsReproducible(t *testing.T) {
	release, root := program(t), checkout(t)
	first, err := run(t, release, root)
	if err != nil {
		t.Fatal(err)
	}
	second, err := run(t, release, checkout(t))
	if err != nil || len(first) != 3 || len(second) != 3 {
		t.Fatalf("%d and %d files, %v", len(first), len(second), err)
	}
	for name, b := range first {
		if !bytes.Equal(b, second[name]) {
			t.Errorf("%s of two folders: %x and %x", name, sha256.Sum256(b), sha256.Sum256(second[name]))
		}
	}

	const name = "scanlogin-v1.2.3-linux-amd64"
	var sums strings.Builder
	for _, file := range []string{name + ".tar.gz", name + ".cdx.json"} {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(first[file]), file)
	}
	if got := string(first["SHA256SUMS"]); got != sums.String() {
		t.Errorf("SHA256SUMS:\n%swant\n%s", got, &sums)
	}
	binary := unpack(t, first[name+".tar.gz"], name)
	if out, err := exec.Command(binary, "--version").Output(); err != nil || string(out) != "scanlogin v1.2.3\n" {
		t.Errorf("--version: %s, %v", out, err)
	}
	checkBill(t, first[name+".cdx.json"], binary)

	if err := os.WriteFile(filepath.Join(root, "docs", "new.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, release, root); err == nil || !strings.Contains(err.Error(), "git status") {
		t.Errorf("what isn't committed was released: %v", err)
	}
}

// unpack looks at what is in an archive and returns where its binary is now.
func unpack(t *testing.T, archive []byte, folder string) string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "scanlogin")
	var names []string
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name, inside := strings.CutPrefix(head.Name, folder+"/")
		if !inside || head.Uid != 0 || head.Gid != 0 || head.ModTime.Unix() != committed {
			t.Errorf("%s of %d:%d at %v", head.Name, head.Uid, head.Gid, head.ModTime)
		}
		names = append(names, name)
		if name != "scanlogin" {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(binary, b, os.FileMode(head.Mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"scanlogin", "LICENSE", "README.md", "CHANGELOG.md", "docs/deploy/nginx.conf"} {
		if !slices.Contains(names, name) {
			t.Errorf("the archive has no %s", name)
		}
	}
	return binary
}

// checkBill compares a bill with what the binary itself says.
func checkBill(t *testing.T, text []byte, binary string) {
	t.Helper()
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+strings.ReplaceAll(m.Version, "+", "%2B"))
	}
	var got []string
	for _, c := range b.Components {
		got = append(got, c.PURL)
	}
	if !slices.Equal(got, want) || len(want) < 10 || !slices.Equal(b.Dependencies[0].DependsOn, want) {
		t.Errorf("the bill lists %q, the binary %q", got, want)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	main := b.Metadata.Component
	if main.PURL != "pkg:golang/scanlogin@v1.2.3" || main.Hashes[0].Content != fmt.Sprintf("%x", sha256.Sum256(content)) {
		t.Errorf("the bill is of %+v", main)
	}
}
