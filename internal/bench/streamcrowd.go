package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// openers is how many browsers of a crowd are about to open a stream at once.
const openers = 16

// crowd is browsers with a stream each, all at one server. They are sockets and nothing
// else, so that what is seen is the server.
type crowd struct {
	addr    string
	first   string // what the first event holds
	conns   []net.Conn
	cookies []string // of each browser that was given one; the next crowd may go on with them
}

// open opens more streams until there are n. Each counts once its first event is complete.
func (c *crowd) open(ctx context.Context, path func(i int) string, n int) error {
	first := len(c.conns)
	c.conns = append(c.conns, make([]net.Conn, n-first)...)
	if more := n - len(c.cookies); more > 0 {
		c.cookies = append(c.cookies, make([]string, more)...)
	}
	var work errgroup.Group
	work.SetLimit(openers)
	for i := first; i < n; i++ {
		work.Go(func() (err error) {
			c.conns[i], c.cookies[i], err = c.openStream(ctx, i, path(i))
			return err
		})
	}
	return work.Wait()
}

// browserAddr is where a browser connects from: addresses of the loopback with a thousand
// ports each. The kernel's own choice would use up the ports of everybody else here.
func browserAddr(i int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i/1_000)), Port: 21_000 + i%1_000}
}

// openStream returns the connection, and the cookie to come back with.
func (c *crowd) openStream(ctx context.Context, i int, path string) (_ net.Conn, cookie string, err error) {
	d := net.Dialer{LocalAddr: browserAddr(i)}
	conn, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, "", err
	}
	cookie = c.cookies[i]
	request := "GET " + path + " HTTP/1.1\r\nHost: " + c.addr + "\r\nAccept: text/event-stream\r\nSec-Fetch-Site: same-origin\r\n"
	if cookie != "" {
		request += "Cookie: " + cookie + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, "", errors.Join(err, conn.Close())
	}
	answer, err := readUntil(conn, completes(c.first))
	if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		err = fmt.Errorf("the answer is %.100q", answer)
	}
	if err != nil {
		return nil, "", errors.Join(err, conn.Close())
	}
	if _, set, ok := bytes.Cut(answer, []byte("Set-Cookie: ")); ok {
		value, _, _ := bytes.Cut(set, []byte(";"))
		cookie = string(value)
	}
	return conn, cookie, nil
}

// completes tells whether the event that holds text is complete.
func completes(text string) func([]byte) bool {
	return func(b []byte) bool {
		_, rest, ok := bytes.Cut(b, []byte(text))
		return ok && bytes.Contains(rest, []byte("\n\n"))
	}
}

// readUntil returns what was read until it was enough.
func readUntil(conn net.Conn, enough func([]byte) bool) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var buf [4 << 10]byte
	n := 0
	for !enough(buf[:n]) {
		more, err := conn.Read(buf[n:])
		if err != nil {
			return nil, fmt.Errorf("reading a stream after %.100q: %w", buf[:n], err)
		}
		if n += more; n == len(buf) {
			return nil, fmt.Errorf("a stream says too much: %.100q", buf[:n])
		}
	}
	return bytes.Clone(buf[:n]), nil
}

// close closes at once what is left: a crowd leaves no connections in TIME_WAIT.
func (c *crowd) close() {
	for _, conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it may be closed already
			_ = tcp.Close()
		}
	}
	c.conns = nil
}

// bindRequired is what is published here: the event that a stream goes on after.
const bindRequired = "bind-required"

// latency publishes for one browser, and is how long its event takes to its socket.
func (c *crowd) latency(p *publisher, i int) (time.Duration, error) {
	start := time.Now()
	if err := p.publish(i, bindRequired, `{"signup":false}`); err != nil {
		return 0, err
	}
	_, err := readUntil(c.conns[i], completes(bindRequired))
	took := time.Since(start)
	return took, errors.Join(err, p.published())
}

// publisher posts to a server over one connection.
type publisher struct {
	conn net.Conn
	in   *bufio.Reader
}

func newPublisher(ctx context.Context, addr string) (*publisher, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	return &publisher{conn, bufio.NewReader(conn)}, err
}

func (p *publisher) publish(i int, event, data string) error {
	_, err := fmt.Fprintf(p.conn, "POST /publish?id=%s HTTP/1.1\r\nHost: a\r\nX-EventSource-Event: %s\r\nContent-Length: %d\r\n\r\n%s",
		idOf(i), event, len(data), data)
	return err
}

// published waits for the answer.
func (p *publisher) published() error {
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("publishing: status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// idOf is the login, or the channel, of a browser.
func idOf(i int) string { return fmt.Sprintf("%032x", i) }

func eventsOf(i int) string { return "/events?id=" + idOf(i) }

// ended waits until the server has ended every stream, and returns the times after which
// the browsers were told to come back.
func (c *crowd) ended() (retries []time.Duration, err error) {
	for _, conn := range c.conns {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return nil, err
		}
		rest, err := io.ReadAll(conn)
		if err != nil {
			return nil, fmt.Errorf("reading the end of a stream: %w", err)
		}
		d, err := lastRetry(string(rest))
		if err != nil {
			return nil, err
		}
		retries = append(retries, d)
	}
	return retries, nil
}

// lastRetry is the one that counts.
func lastRetry(events string) (time.Duration, error) {
	_, line, ok := strings.Cut(events[max(0, strings.LastIndex(events, "retry: ")):], "retry: ")
	if !ok {
		return 0, fmt.Errorf("a stream ends without a retry line: %.100q", events)
	}
	line, _, _ = strings.Cut(line, "\n")
	ms, err := strconv.Atoi(line)
	return time.Duration(ms) * time.Millisecond, err
}
