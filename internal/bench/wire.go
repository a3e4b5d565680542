package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// wire is a connection to an instance with as little of an HTTP client as there can be:
// it has to share the machine with what it measures.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialWire(ctx context.Context, addr string) (*wire, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{conn, bufio.NewReader(conn)}, nil
}

// do sends a request as it is and reads the answer, which has to say how long it is.
func (w *wire) do(request []byte) (status int, body []byte, err error) {
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		switch value, isLength := bytes.CutPrefix(line, []byte("Content-Length: ")); {
		case first:
			if _, err := fmt.Sscanf(string(line), "HTTP/1.1 %d ", &status); err != nil {
				return 0, nil, fmt.Errorf("%q: %w", line, err)
			}
		case isLength:
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, err
			}
		case len(bytes.TrimSpace(line)) == 0:
			if length < 0 {
				return 0, nil, fmt.Errorf("an answer of status %d that doesn't say how long it is", status)
			}
			body = make([]byte, length)
			_, err := io.ReadFull(w.in, body)
			return status, body, err
		}
	}
}
