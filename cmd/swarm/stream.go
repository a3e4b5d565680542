package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long a stream may be silent: twice the 15 s within which scanlogin
// promises a comment. It is as long for the answer to a request.
const patience = 30 * time.Second

// Streams are many and nearly always silent: small buffers, at the price of a few reads
// for a code.
const bufferSize = 512

// event is one that a page would be told of.
type event struct {
	name string
	data []byte
	at   time.Time // when its last byte was read
}

// parser reads an event stream (WHATWG HTML, 9.2.6).
type parser struct {
	in      *bufio.Reader
	afterCR bool   // an LF that comes now belongs to the line end before
	id      string // of the event that is read, or the last that had one

	lastID string
	retry  time.Duration // 0: none was given
}

// next is the next event; one without a data line is none, as in every browser. It
// returns without waiting for anything behind the event.
func (p *parser) next() (event, error) {
	var e event
	for {
		line, err := p.line()
		if err != nil {
			return event{}, err // what is incomplete is no event
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			e.name = string(value)
		case "data":
			e.data = append(append(e.data, value...), '\n')
		case "id":
			if !bytes.Contains(value, []byte{0}) {
				p.id = string(value)
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				p.retry = time.Duration(ms) * time.Millisecond
			}
		}
		if len(line) > 0 {
			continue
		}
		p.lastID = p.id
		if len(e.data) > 0 {
			e.data, e.at = e.data[:len(e.data)-1], time.Now()
			return e, nil
		}
		e = event{}
	}
}

// line is the next line, without its end: CR, LF or both.
func (p *parser) line() ([]byte, error) {
	var line []byte
	for {
		c, err := p.in.ReadByte()
		if err != nil {
			return nil, err
		}
		after := p.afterCR
		p.afterCR = c == '\r'
		switch {
		case c == '\n' && after:
		case c == '\n', c == '\r':
			return line, nil
		default:
			line = append(line, c)
		}
	}
}

// stream is one connection with an event stream on it.
type stream struct {
	parser
	conn    net.Conn
	release func() bool // no longer closed when the run ends
}

// dial sends a request for an event stream and reads the head of the answer, whose Body
// is the stream's. The connection is closed when ctx ends.
func (s *swarm) dial(ctx context.Context, t target, header string) (*stream, *http.Response, error) {
	conn, err := s.dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, nil, err
	}
	st := &stream{conn: conn, release: context.AfterFunc(ctx, func() { conn.Close() })}
	_, err = io.WriteString(conn, "GET /login/events HTTP/1.1\r\nHost: "+t.host+"\r\nAccept: text/event-stream\r\n"+
		"Cache-Control: no-store\r\nSec-Fetch-Site: same-origin\r\nUser-Agent: scanlogin-swarm\r\n"+header+"\r\n")
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(bufio.NewReaderSize(patient{conn}, bufferSize), nil)
	}
	if err != nil {
		st.close()
		return nil, nil, err
	}
	st.in = bufio.NewReaderSize(resp.Body, bufferSize)
	return st, resp, nil
}

// close may be called by anybody, and more than once.
func (st *stream) close() {
	st.release()
	st.conn.Close()
}

// patient reads until the peer has been silent for too long.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// jar holds a browser's cookies: the login's and the session's, so a slice will do. It
// ignores Secure on purpose: swarm stands behind the TLS.
type jar []string

func (j *jar) take(cookies []*http.Cookie) {
	for _, c := range cookies {
		*j = slices.DeleteFunc(*j, func(kept string) bool { return strings.HasPrefix(kept, c.Name+"=") })
		if c.MaxAge >= 0 {
			*j = append(*j, c.Name+"="+c.Value)
		}
	}
}

func (j jar) String() string { return strings.Join(j, "; ") }
