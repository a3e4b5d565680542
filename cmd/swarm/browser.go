package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// errStopped is said to a browser whose EventSource was told to stop for good (204).
var errStopped = errors.New("stopped")

// browser is a page with its EventSource: it reconnects as the browser does, and opens a
// new one where static/panel.js does.
type browser struct {
	s       *swarm
	name    string // of the histogram that a first code belongs to
	cookies jar

	due      time.Time // when it connects next
	lastID   string
	retry    time.Duration
	failures int    // in a row, of the EventSource: the page's backoff
	ticket   string // of the code that it shows

	// What waits for its first event: since when, and since when really.
	opening      string
	since, asked time.Time

	mu     sync.Mutex // for who hangs up
	stream *stream    // nil: not connected
	open   bool       // its answer was a stream
	cut    time.Time  // when the hang-up was due, until the browser has noticed

	// Of a held stream, for who scans it.
	code    code
	shownAt time.Time
	fate    chan event // what came of the scan; nil: it wasn't scanned
}

// browse is a browser that opens the page at due.
func (s *swarm) browse(name string, due time.Time) *browser {
	b := &browser{s: s, name: name, retry: 3 * time.Second}
	b.fresh(due)
	return b
}

// fresh opens a new EventSource at due, which doesn't know of the old one's last event.
func (b *browser) fresh(due time.Time) {
	b.drop()
	b.due, b.lastID = due, ""
	if b.ticket == "" {
		b.await(b.name, due)
	} else {
		b.await("resume", due)
	}
}

// await begins to wait for an event, since then; who waits already goes on.
func (b *browser) await(what string, since time.Time) {
	if b.opening == "" {
		b.opening, b.since = what, since
		b.s.tally.add("awaited", 1)
	}
}

// awaited ends the wait.
func (b *browser) awaited() {
	if b.opening != "" {
		b.opening = ""
		b.s.tally.add("awaited", -1)
	}
}

// close leaves the page. Who waits since before the window's end had no answer in all the
// grace: that counts with its age.
func (b *browser) close() {
	b.drop()
	if b.opening != "" && b.since.Before(b.s.windowEnd()) {
		b.s.tally.add("unanswered", 1)
		b.s.tally.record(b.opening, time.Since(b.since))
	}
	b.awaited()
}

// next is the next event that the page acts upon: qr, success, bind-required, expired.
// With success and expired, the stream is closed. What is in the way is waited for. The
// error is errStopped or that of ctx.
func (b *browser) next(ctx context.Context) (event, error) {
	for ctx.Err() == nil {
		if b.stream == nil {
			if err := b.connect(ctx); err != nil {
				return event{}, err
			}
			continue
		}
		switch e, err := b.stream.next(); {
		case ctx.Err() != nil:
		case err != nil:
			b.lost(err)
		case e.name == "unavailable":
			b.unavailable(e)
		case b.received(e):
			return e, nil
		}
	}
	return event{}, ctx.Err()
}

// received reports whether the page listens to the event.
func (b *browser) received(e event) bool {
	if !slices.Contains([]string{"qr", "success", "bind-required", "expired"}, e.name) {
		return false
	}
	b.failures = 0
	if b.opening != "" {
		b.s.tally.span(b.opening, b.since, b.asked, e.at)
		b.awaited()
	}
	switch e.name {
	case "qr":
		b.s.tally.add("codes", 1)
	case "success", "expired":
		b.drop()
	}
	return true
}

// connect makes one attempt, when it is due. Its error is errStopped or that of ctx.
func (b *browser) connect(ctx context.Context) error {
	if err := sleepUntil(ctx, b.due); err != nil {
		return err
	}
	b.asked = b.s.tally.begin(b.due)
	b.s.tally.add("requests", 1)
	resp, err := b.request(ctx) //nolint:bodyclose // drop closes the connection under it
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // the browser's own retry
		b.drop()
		b.s.tally.fail("open", err)
		b.due = time.Now().Add(b.retry)
		return nil
	case resp.StatusCode == http.StatusNoContent:
		b.awaited()
		b.drop()
		b.s.tally.add("stopped", 1)
		return errStopped
	case !b.open:
		b.s.tally.fail("open", shortError(fmt.Sprintf("status %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))))
		b.fresh(time.Now().Add(backoff(b.failures))) // the EventSource has given up, the page has not
		b.failures++
		return nil
	}
	b.cookies.take(resp.Cookies())
	return nil
}

func (b *browser) request(ctx context.Context) (*http.Response, error) {
	var header strings.Builder
	if len(b.cookies) > 0 {
		header.WriteString("Cookie: " + b.cookies.String() + "\r\n")
	}
	if b.lastID != "" {
		header.WriteString("Last-Event-ID: " + b.lastID + "\r\n")
	}
	st, resp, err := b.s.dial(ctx, b.s.anyTarget(), header.String())
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stream = st
	b.open = resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	if b.open {
		b.s.tally.add("opened", 1)
		b.s.tally.add("open", 1)
	}
	return resp, nil
}

// drop closes the stream, if there is one.
func (b *browser) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stream == nil {
		return
	}
	b.stream.close()
	if b.open {
		b.s.tally.add("open", -1)
	}
	b.stream, b.open = nil, false
}

// lost is the end of a stream that nothing announced: the browser comes back by itself.
func (b *browser) lost(err error) {
	if retry := b.stream.retry; retry > 0 {
		b.retry = retry
	}
	if id := b.stream.lastID; id != "" {
		b.lastID = id
	}
	b.drop()
	left := b.noticed()
	if left.IsZero() {
		left = time.Now()
		b.s.tally.add("reconnects", 1)
		if !errors.Is(err, io.EOF) {
			b.s.tally.fail("stream", err)
		}
	}
	b.due = left.Add(b.retry)
	b.await("resume", b.due)
}

// noticed is when the hang-up was due that ended the stream; zero if none did.
func (b *browser) noticed() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	cut := b.cut
	b.cut = time.Time{}
	return cut
}

// hangUp loses the connection, as planned for due. It reports whether there was one.
func (b *browser) hangUp(due time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open || !b.cut.IsZero() {
		return false
	}
	b.cut = due
	b.stream.conn.Close() // the reader notices
	return true
}

// unavailable waits as the page does, spread over a second.
func (b *browser) unavailable(e event) {
	var data struct {
		Reason  string  `json:"reason"`
		RetryIn float64 `json:"retry_in"`
	}
	_ = json.Unmarshal(e.data, &data) // what is missing is told by the reason that is counted
	b.s.tally.add("unavailable."+data.Reason, 1)
	b.fresh(e.at.Add(time.Duration(max(1, data.RetryIn)*float64(time.Second)) + rand.N(time.Second)))
}

// code is what is needed to scan one.
type code struct {
	Ticket    string `json:"ticket"`
	Scene     int32  `json:"scene_id"`
	ExpiresIn int    `json:"expires_in"`
}

// expires is when a code runs out at the earliest: the seconds left were rounded up.
func (c code) expires(shown time.Time) time.Time {
	return shown.Add(time.Duration(c.ExpiresIn-1) * time.Second)
}

// shown reads a qr event. A code that isn't the one before counts as changed, unless the
// page has asked for another.
func (b *browser) shown(e event) (code, error) {
	var c code
	if err := json.Unmarshal(e.data, &c); err != nil || c.Ticket == "" {
		b.s.tally.fail("stream", shortError("qr without a ticket"))
		return code{}, errors.New("malformed qr event")
	}
	if b.ticket != "" && b.ticket != c.Ticket {
		b.s.tally.add("changed", 1)
	}
	b.ticket = c.Ticket
	return c, nil
}

// show notes the code of a held stream; an empty one can't be scanned.
func (b *browser) show(c code, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.code, b.shownAt = c, at
}

// offer is the scan of what a held stream shows, once. It is false where that is nothing.
func (b *browser) offer(due time.Time) (code, *scan, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sc := &scan{due: due, expires: b.code.expires(b.shownAt)}
	if b.fate != nil || !due.Before(sc.expires) {
		return code{}, nil, false
	}
	b.fate = make(chan event, 1)
	return b.code, sc, true
}

// tell passes the event that comes first after a scan on to who scanned. It reports
// whether there was a scan.
func (b *browser) tell(e event) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.fate <- e:
	default: // nobody has scanned, or it was told
	}
	return b.fate != nil
}

// renew asks for another code, as the button does.
func (b *browser) renew(due time.Time) {
	b.ticket = ""
	b.show(code{}, time.Time{})
	b.fresh(due)
}

// backoff is the page's wait before try n, counted from 0.
func backoff(n int) time.Duration {
	d := min(20*time.Second, time.Second<<min(n, 5))
	return d + rand.N(d/2)
}

// sleepUntil returns the error of ctx if that ends first.
func sleepUntil(ctx context.Context, due time.Time) error {
	d := time.Until(due)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
