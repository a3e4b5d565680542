package devpg

import (
	"bytes"
	"os"
	"strings"
	"sync"
)

const keptLines = 12

// output is where the server writes its log: to a file, with the last lines
// kept for errors, and ready closed at the line that says so.
type output struct {
	file  *os.File
	ready chan struct{}

	mu      sync.Mutex
	partial []byte
	lines   []string
	isReady bool
}

// newOutput writes the log of this run over that of the last, so that it
// doesn't grow for ever.
func newOutput(path string) (*output, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &output{file: file, ready: make(chan struct{})}, nil
}

// Write never fails: a full disk may cost us log lines, but an error here would
// close the pipe that the server writes to.
func (o *output) Write(p []byte) (int, error) {
	_, _ = o.file.Write(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, p...)
	for {
		line, rest, found := bytes.Cut(o.partial, []byte{'\n'})
		if !found {
			return len(p), nil
		}
		o.partial = rest
		o.add(string(line))
	}
}

func (o *output) add(line string) {
	o.lines = append(o.lines, line)
	if len(o.lines) > keptLines {
		o.lines = o.lines[1:]
	}
	if !o.isReady && strings.Contains(line, "database system is ready to accept connections") {
		o.isReady = true
		close(o.ready)
	}
}

// tail is the server's last words.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

func (o *output) close() { _ = o.file.Close() }
