package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"scanlogin/internal/e2e/proc"
)

// message is one event of a stream.
type message struct{ name, data string }

// source is an EventSource (WHATWG HTML, 9.2): it connects again by itself when a
// connection breaks, says then what it has seen last, and gives up for good after any
// answer but 200.
type source struct {
	w       *world
	jar     *jar
	lastID  string
	retry   time.Duration
	asked   int64 // when the request of the present connection was sent
	onEvent func(message) (goOn bool)
	onOpen  func()
	onLost  func(detail string)
}

// run reads until onEvent has enough or ctx ends (status 0), or until the EventSource
// gives up: the status and who said it.
func (s *source) run(ctx context.Context) (status int, from string) {
	for ctx.Err() == nil {
		status, from, enough := s.connect(ctx)
		switch {
		case enough || ctx.Err() != nil:
			return 0, ""
		case status != 0:
			return status, from
		}
		proc.Pause(ctx, s.retry)
	}
	return 0, ""
}

// connect is one connection. status is 0 where the EventSource would connect again.
func (s *source) connect(ctx context.Context) (status int, from string, enough bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.w.site+"/login/events", http.NoBody)
	if err != nil {
		return http.StatusTeapot, "", false // not a URL
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if cookies := s.jar.header(); cookies != "" {
		req.Header.Set("Cookie", cookies)
	}
	if s.lastID != "" {
		req.Header.Set("Last-Event-ID", s.lastID)
	}
	s.asked = s.w.journal.now()
	s.onOpen()
	resp, err := s.w.client.Do(req)
	if err != nil {
		s.lost(ctx, "no connection")
		return 0, "", false
	}
	defer resp.Body.Close()
	s.jar.take(resp)
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.StatusCode, resp.Header.Get("X-Instance"), false
	}
	if s.read(resp.Body) {
		return 0, "", true
	}
	s.lost(ctx, "broken")
	return 0, "", false
}

// lost says nothing of connections that the page itself has closed.
func (s *source) lost(ctx context.Context, detail string) {
	if ctx.Err() == nil {
		s.onLost(detail)
	}
}

// read parses the stream (9.2.6). It is true when onEvent has enough.
func (s *source) read(body io.Reader) bool {
	lines := bufio.NewReaderSize(body, 2<<10)
	var m message
	id, has := s.lastID, false
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return false // what is incomplete is dropped
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if has {
				s.lastID = id
				if !s.onEvent(m) {
					return true
				}
			}
			m, has = message{}, false
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			m.name = value
		case "data":
			m.data, has = m.data+value, true
		case "id":
			id = value
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				s.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}
