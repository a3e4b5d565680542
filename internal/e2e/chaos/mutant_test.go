package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// patch replaces a piece of a source file, which has to be there exactly once.
type patch struct{ file, old, new string }

// overlay writes the patched sources, and the file that tells `go build` of them.
func overlay(t *testing.T, patches []patch) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sources, replaced := map[string]string{}, map[string]string{}
	for n, p := range patches {
		file := filepath.Join(root, p.file)
		if sources[file] == "" {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources[file] = string(b)
			replaced[file] = filepath.Join(dir, strconv.Itoa(n)+".go")
		}
		if strings.Count(sources[file], p.old) != 1 {
			t.Fatalf("%s has %d times what should be broken: %q", p.file, strings.Count(sources[file], p.old), p.old)
		}
		sources[file] = strings.Replace(sources[file], p.old, p.new, 1)
	}
	for file, source := range sources {
		if err := os.WriteFile(replaced[file], []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
