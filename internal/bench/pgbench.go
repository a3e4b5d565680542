package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"scanlogin/internal/devpg"
)

// pgbench is PostgreSQL's own load generator, in C: clients that run one script over and
// over with prepared statements, each on a connection of its own.
type pgbench struct {
	server    *devpg.Server
	database  string
	script    string
	variables map[string]string // of the script
}

// work is how much was done, and how fast.
type work struct {
	n    int64
	rate float64 // a second
}

// run has so many clients work. The time that they take to connect doesn't count.
func (p pgbench) run(ctx context.Context, clients int, length time.Duration) (work, error) {
	args := []string{
		"--no-vacuum", "--protocol=prepared", "--file=-",
		"--client=" + strconv.Itoa(clients), "--jobs=" + strconv.Itoa(min(clients, 2)),
		"--time=" + strconv.Itoa(max(1, int(length.Seconds()))),
	}
	for _, name := range slices.Sorted(maps.Keys(p.variables)) {
		args = append(args, "--define="+name+"="+p.variables[name])
	}
	cmd := exec.CommandContext(ctx, p.server.Tool("pgbench"), append(args, p.server.URL(p.database))...)
	cmd.Stdin = strings.NewReader(p.script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return work{}, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	return parsePgbench(string(out))
}

// parsePgbench finds the figures in what pgbench prints. Before version 14 it says two
// rates, the one without the time to connect last.
func parsePgbench(out string) (w work, err error) {
	if w.n, err = strconv.ParseInt(after(out, "number of transactions actually processed: "), 10, 64); err == nil {
		w.rate, err = strconv.ParseFloat(after(out, "tps = "), 64)
	}
	if err == nil && strings.Contains(out, "aborted") {
		err = errors.New("a client gave up")
	}
	if err != nil {
		return work{}, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	return w, nil
}

// after is the word that follows a text's last occurrence.
func after(s, text string) string {
	i := strings.LastIndex(s, text)
	if i < 0 {
		return ""
	}
	word, _, _ := strings.Cut(s[i+len(text):], "\n")
	word, _, _ = strings.Cut(word, " ")
	return word
}
