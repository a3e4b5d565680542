package e2e

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// A fence that says ```sh is run. One that says ```sh docker needs what no test has, a
// machine with that on it: of those bash reads the words, and no more.
var (
	fence     = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")
	elsewhere = []string{"docker", "kubernetes", "systemd", "server"}
	others    = []string{"caddy", "css", "go", "haproxy", "html", "http", "ini", "js", "json", "mermaid", "nginx", "promql", "sql", "text", "yaml"}
	makeCall  = regexp.MustCompile(`(?m)^\s*make ([a-z0-9-]+)`)
)

// Every command in README and docs, run as somebody does who reads a page from its top, with
// `make run` in another shell.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		t.Run(strings.TrimPrefix(page, root+"/"), func(t *testing.T) {
			t.Parallel()
			script := commandsOf(t, page)
			if script == "" {
				return
			}
			newReader(t).follow(script)
		})
	}
}

// pages are all that people read here.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{root + "/README.md"}
	err := filepath.WalkDir(root+"/docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// commandsOf are the commands of a page that can be run here. The others are read, as far
// as that goes.
func commandsOf(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, f := range fence.FindAllStringSubmatch(string(text), -1) {
		language, where, _ := strings.Cut(f[1], " ")
		if language != "sh" {
			if !slices.Contains(others, language) {
				t.Errorf("a fence of no language that this test knows: %q", f[1])
			}
			continue
		}
		checkTargets(t, f[2])
		switch {
		case where == "":
			script.WriteString(makeCall.ReplaceAllString(f[2], ": make $1"))
		case !slices.Contains(elsewhere, where):
			t.Errorf("commands to be run nowhere that this test knows: %q", f[1])
		default:
			bash(t, t.TempDir(), os.Environ(), "bash", "-n", "-c", f[2])
			t.Logf("read, not run, for want of %s:\n%s", where, f[2])
		}
	}
	return script.String()
}

// checkTargets makes sure of what a test can't run from within `make test`.
func checkTargets(t *testing.T, script string) {
	t.Helper()
	for _, call := range makeCall.FindAllStringSubmatch(script, -1) {
		bash(t, root, os.Environ(), "make", "-n", call[1])
	}
}

func bash(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, env, dieWithParent()
	cmd.WaitDelay = time.Second // a page may leave something running
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// reader is somebody with a shell, beside `scanlogin dev`.
type reader struct {
	t     *testing.T
	dir   string
	env   []string
	ports *strings.Replacer // those of the page to those here
}

func newReader(t *testing.T) *reader {
	t.Helper()
	d := startDev(t)
	dir := t.TempDir()
	program, err := filepath.Abs(binary)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "bin"), 0o755)
	}
	if err == nil {
		err = os.Symlink(program, filepath.Join(dir, "bin", "scanlogin"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return &reader{
		t: t, dir: dir,
		env: append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "DATABASE_URL="+d.database),
		ports: strings.NewReplacer(
			"localhost:8080", d.w.a.addr, "localhost:8081", d.w.b.addr, "localhost:8090", d.wechat,
			"localhost:9090", d.w.a.ops, "localhost:9091", d.w.b.ops),
	}
}

func (r *reader) follow(script string) {
	r.t.Helper()
	bash(r.t, r.dir, r.env, "bash", "-xeu", "-c", r.ports.Replace(script))
}
