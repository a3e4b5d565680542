package devpg

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"sync"
)

const keptLines = 12

// output is where the server writes its log: to a file, with the last lines
// kept for errors, and a channel closed at the line that says so.
type output struct {
	file      *os.File
	ready     chan struct{} // connections are accepted, if only to read
	writable  chan struct{} // and to write
	streaming chan struct{} // a standby is connected to its primary

	mu      sync.Mutex
	partial []byte
	lines   []string
}

// The words of PostgreSQL 13 differ from those of 14 and later by a hyphen.
var (
	readyWords     = regexp.MustCompile(`database system is ready to accept (read.only )?connections`)
	writableWords  = regexp.MustCompile(`database system is ready to accept connections`)
	streamingWords = regexp.MustCompile(`started streaming WAL from primary`)
)

// newOutput writes the log of this run over that of the last, so that it
// doesn't grow for ever.
func newOutput(path string) (*output, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &output{file: file, ready: make(chan struct{}), writable: make(chan struct{}), streaming: make(chan struct{})}, nil
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
	closeAt(o.ready, readyWords, line)
	closeAt(o.writable, writableWords, line)
	closeAt(o.streaming, streamingWords, line)
}

// closeAt closes a channel, once, at a line with these words.
func closeAt(said chan struct{}, words *regexp.Regexp, line string) {
	select {
	case <-said:
	default:
		if words.MatchString(line) {
			close(said)
		}
	}
}

// said tells whether these words are among the server's last.
func (o *output) said(words string) bool { return strings.Contains(o.tail(), words) }

// tail is the server's last words.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

func (o *output) close() { _ = o.file.Close() }
