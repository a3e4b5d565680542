package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parseAll reads a stream to its end, in pieces of one byte.
func parseAll(t *testing.T, in io.Reader) (events [][2]string, p parser) {
	t.Helper()
	p.in = bufio.NewReader(iotest.OneByteReader(in))
	for {
		e, err := p.next()
		if errors.Is(err, io.EOF) {
			return events, p
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, [2]string{e.name, string(e.data)})
	}
}

func TestEventStreamIsReadAsByABrowser(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		want   [][2]string
		lastID string
		retry  time.Duration
	}{
		"LF":                            {in: "event: qr\ndata: 1\n\n", want: [][2]string{{"qr", "1"}}},
		"CRLF":                          {in: "event: qr\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n", want: [][2]string{{"qr", "1"}, {"", "2"}}},
		"CR":                            {in: "event: qr\rdata: 1\r\rdata: 2\r\r", want: [][2]string{{"qr", "1"}, {"", "2"}}},
		"mixed":                         {in: "event: qr\rdata: 1\n\r\ndata: 2\r\n\n", want: [][2]string{{"qr", "1"}, {"", "2"}}},
		"lines of data":                 {in: "data: 1\ndata:  2\ndata\n\n", want: [][2]string{{"", "1\n 2\n"}}},
		"no data is no event":           {in: "event: success\nid: 7\n\ndata: 1\n\n", want: [][2]string{{"", "1"}}, lastID: "7"},
		"comments":                      {in: ":\n\n: database unavailable\n\ndata:1\n\n", want: [][2]string{{"", "1"}}},
		"unknown fields":                {in: "x: y\ndata: 1\nDATA: 2\n\n", want: [][2]string{{"", "1"}}},
		"an event without its end":      {in: "id: 7\ndata: 1\n", want: nil},
		"an id stays":                   {in: "id: 7\ndata: 1\n\ndata: 2\n\n", want: [][2]string{{"", "1"}, {"", "2"}}, lastID: "7"},
		"an id can be taken back":       {in: "id: 7\ndata: 1\n\nid\n\n", want: [][2]string{{"", "1"}}},
		"an id with NULL is none":       {in: "id: 7\x00\ndata: 1\n\n", want: [][2]string{{"", "1"}}},
		"retry":                         {in: "retry: 1500\n\n", retry: 1500 * time.Millisecond},
		"retry that is no number":       {in: "retry: 20\nretry: -1\nretry: 1s\n\n", retry: 20 * time.Millisecond},
		"a colon in a value is a value": {in: "data: a:b\n\n", want: [][2]string{{"", "a:b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, p := parseAll(t, strings.NewReader(c.in))
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if p.lastID != c.lastID || p.retry != c.retry {
				t.Errorf("id %q, retry %v; want %q, %v", p.lastID, p.retry, c.lastID, c.retry)
			}
		})
	}
}

// Behind a proxy a stream is chunked, and chunks don't care for lines.
func TestChunksMayEndAnywhere(t *testing.T) {
	in := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"3\r\neve\r\n8;x=y\r\nnt: qr\nd\r\n9\r\nata: 1\n\nd\r\nA\r\nata: 22\n\n:\r\n0\r\n\r\n"
	resp, err := http.ReadResponse(bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(in)), bufferSize), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := parseAll(t, resp.Body)
	if d := cmp.Diff([][2]string{{"qr", "1"}, {"", "22"}}, got); d != "" {
		t.Error(d)
	}
}

// Nothing may be waited for behind an event: it would be as late as the next heartbeat.
func TestEventIsThereWithItsLastByte(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n"} {
		never := iotest.ErrReader(errors.New("read too far"))
		p := parser{in: bufio.NewReader(io.MultiReader(strings.NewReader("data: 1"+end+end), never))}
		if e, err := p.next(); err != nil || string(e.data) != "1" {
			t.Errorf("%q: %q, %v", end, e.data, err)
		}
	}
}

func TestJarKeepsTheLastOfEachName(t *testing.T) {
	var j jar
	j.take([]*http.Cookie{{Name: "login", Value: "1"}, {Name: "session", Value: "a"}})
	j.take([]*http.Cookie{{Name: "login", Value: "2"}})
	if j.String() != "session=a; login=2" {
		t.Errorf("%q", j)
	}
	j.take([]*http.Cookie{{Name: "session", MaxAge: -1}})
	if j.String() != "login=2" {
		t.Errorf("%q", j)
	}
}
