package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"scanlogin/internal/e2e/proc"
)

// roleVariable names what a process that this program starts of itself is.
const roleVariable = "BENCH_ROLE"

// roles are the programs that are measured beside scanlogin, and those that put load on
// it. Each reads its configuration as JSON from standard input, and ends with its parent.
func roles() map[string]func(ctx context.Context, config json.RawMessage) error {
	return map[string]func(context.Context, json.RawMessage) error{
		"bare":          roleBare,
		"stream-hub":    roleHub,
		"stream-loop":   roleLoop,
		"stream-hijack": roleHijack,
	}
}

func runRole(name string) int {
	role, ok := roles()[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: there is no role %q\n", name)
		return 2
	}
	config, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = role(context.Background(), config)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
		return 1
	}
	return 0
}

// startRole starts this program as another one.
func startRole(name string, config any, env ...string) (*proc.Process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path) //nolint:noctx // it ends with this process, or when it is told to
	cmd.Env = append(append(os.Environ(), roleVariable+"="+name), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(cmd)
	if err != nil {
		return nil, err
	}
	_, err = stdin.Write(in)
	return p, errors.Join(err, stdin.Close())
}
