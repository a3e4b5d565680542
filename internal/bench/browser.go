package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// codePatience is longer than an instance waits for WeChat.
const codePatience = 10 * time.Second

// browse opens browsers at a steady rate, at the instances in turn, however long those
// before take, and waits for the last one. It returns how long each waited for its code;
// one that got none is an error.
func (w *world) browse(ctx context.Context, rate int, length time.Duration) ([]time.Duration, error) {
	n := int(length.Seconds() * float64(rate))
	waits, errs := make([]time.Duration, n), make([]error, n)
	var work sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range n {
		select {
		case <-ctx.Done():
			work.Wait()
			return nil, ctx.Err()
		case <-tick.C:
		}
		addr := w.instances[i%len(w.instances)].addr
		work.Go(func() { waits[i], errs[i] = firstCode(ctx, addr) })
	}
	work.Wait()
	return waits, errors.Join(errs...)
}

// firstCode is how long a browser that was never here waits for its code, on a new
// connection. It leaves then.
func firstCode(ctx context.Context, addr string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, codePatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/login/events", http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	transport := &http.Transport{DisableKeepAlives: true}
	start := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	name, err := firstEvent(bufio.NewScanner(resp.Body))
	took := time.Since(start)
	if err == nil && name != "qr" {
		err = fmt.Errorf("the first event is %q", name)
	}
	return took, err
}

// firstEvent reads until the first event is complete, and returns its name.
func firstEvent(lines *bufio.Scanner) (name string, err error) {
	lines.Buffer(nil, 1<<20) // a picture is in it
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		switch {
		case field == "event":
			name = strings.TrimSpace(value)
		case lines.Text() == "" && name != "":
			return name, nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", errors.New("the stream ended without an event")
}
