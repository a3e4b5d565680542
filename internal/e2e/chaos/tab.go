package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"scanlogin/internal/e2e/proc"
)

// Times of the login page.
const (
	defaultRetry = 3 * time.Second // an EventSource's own, in Chromium
	checking     = 10 * time.Second
	gonePause    = 700 * time.Millisecond
)

// tab is the login page: what static/panel.js does, in the same order.
type tab struct {
	*browser
	n int

	failures  int // of opening a stream
	premature int // answers "not ready" after a success
	completed bool
}

// step is what the page does next.
type step int

const (
	stop step = iota
	reopen
	complete
	bind
	renew
)

// backoff is the page's wait before try n.
func backoff(n int) time.Duration {
	d := min(8*time.Second, time.Second<<min(n, 10))
	return d + rand.N(d/2)
}

// run is the page's life.
func (t *tab) run(ctx context.Context) {
	var after time.Duration
	next := reopen
	for ctx.Err() == nil {
		switch next {
		case stop:
			return
		case reopen:
			if !proc.Pause(ctx, after) {
				return
			}
			next, after = t.follow(ctx)
		case complete:
			next, after = t.complete(ctx)
		case bind:
			next, after = t.bind(ctx), 0
		case renew:
			if !t.habits.renew || t.renewing.Err() != nil {
				t.finish()
				return
			}
			next, after = reopen, 0
		}
	}
}

// follow is one EventSource, until the page closes it or opens another.
func (t *tab) follow(ctx context.Context) (next step, after time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A connection that died unnoticed never tells the end of a code.
	unnoticed := time.AfterFunc(time.Hour, cancel)
	defer unnoticed.Stop()
	s := source{w: t.w, jar: &t.jar, retry: defaultRetry}
	s.onOpen = func() { t.note(entry{Kind: kindOpen}) }
	s.onLost = func(detail string) { t.note(entry{Kind: kindLost, Detail: detail}) }
	next = reopen
	s.onEvent = func(m message) bool {
		t.failures = 0
		if m.name == "qr" {
			unnoticed.Reset(t.showCode(m.data, s.asked) + checking)
			return true
		}
		t.note(entry{Kind: kindEvent, Name: m.name, Asked: s.asked, Ticket: t.ticket()})
		switch m.name {
		case "success":
			next = complete
			return t.habits.forgetful
		case "expired":
			next = renew
			return t.habits.forgetful
		case "bind-required":
			next = bind
		case "unavailable":
			after = retryIn(m.data)
		}
		return false
	}
	status, from := s.run(ctx)
	if status == 0 {
		return next, after
	}
	detail := ""
	if s.lastID != "" {
		detail = "last-event-id"
	}
	t.note(entry{Kind: kindAnswer, Status: status, From: from, Detail: detail})
	if status == http.StatusNoContent {
		if next == reopen {
			next = stop
		}
		return next, 0
	}
	t.failures++
	return next, backoff(t.failures - 1)
}

func (t *tab) note(e entry) {
	e.Browser, e.Tab = t.browser.n, t.n
	t.w.journal.add(e)
}

func (t *tab) ticket() string {
	if c := t.shown(); c != nil {
		return c.ticket
	}
	return ""
}

// showCode returns how long the code can be scanned.
func (t *tab) showCode(data string, asked int64) time.Duration {
	var v struct {
		Ticket    string `json:"ticket"`
		Scene     int    `json:"scene_id"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.note(entry{Kind: kindEvent, Name: "qr that isn't JSON", Detail: err.Error()})
		return 0
	}
	t.note(entry{Kind: kindQR, Ticket: v.Ticket, Scene: v.Scene, ExpiresIn: v.ExpiresIn, Asked: asked})
	t.show(v.Ticket, v.Scene)
	return time.Duration(v.ExpiresIn) * time.Second
}

func retryIn(data string) time.Duration {
	var v struct {
		RetryIn int `json:"retry_in"`
	}
	_ = json.Unmarshal([]byte(data), &v) // what makes no sense counts as the page's default
	if v.RetryIn < 1 {
		v.RetryIn = 5
	}
	return time.Duration(v.RetryIn)*time.Second + rand.N(time.Second)
}

// complete asks for the session until there is an answer.
func (t *tab) complete(ctx context.Context) (step, time.Duration) {
	gone := false
	for failures := 0; ctx.Err() == nil; {
		switch t.askCompletion(ctx) {
		case http.StatusOK:
			t.verify(ctx)
			t.in.Store(true)
			t.finish()
			return stop, 0
		case http.StatusConflict:
			t.premature++
			if t.premature == 1 {
				return reopen, 0
			}
			return reopen, backoff(t.premature)
		case http.StatusGone:
			if gone {
				return renew, 0
			}
			gone = true
			proc.Pause(ctx, gonePause)
		default:
			proc.Pause(ctx, backoff(failures))
			failures++
		}
	}
	return stop, 0
}

// askCompletion posts once, or where another tab does so at the very moment, twice.
func (t *tab) askCompletion(ctx context.Context) (status int) {
	var other sync.WaitGroup
	if t.habits.twice && !t.completed {
		other.Go(func() { t.post(ctx, kindComplete, "/login/complete", "{}") })
	}
	t.completed = true
	status = t.post(ctx, kindComplete, "/login/complete", "{}")
	other.Wait()
	return status
}

func (t *tab) post(ctx context.Context, kind, path, body string) (status int) {
	e := entry{Kind: kind, Ticket: t.ticket(), Asked: t.w.journal.now(), Person: t.who.name}
	a := t.w.request(ctx, http.MethodPost, path, t.jar.header(), body)
	e.Status, e.From = a.status, a.from
	if a.resp != nil {
		e.Set = t.jar.take(a.resp)
	}
	t.note(e)
	return a.status
}

// bind ties the person to their account.
func (t *tab) bind(ctx context.Context) step {
	body, err := json.Marshal(map[string]string{"username": t.who.name, "password": password})
	if err != nil {
		panic(err) // strings only
	}
	proc.Pause(ctx, t.habits.think/4)
	for failures := 0; ctx.Err() == nil; failures++ {
		switch t.post(ctx, kindBind, "/user/bind", string(body)) {
		case http.StatusOK:
			t.verify(ctx)
			t.in.Store(true)
			t.finish()
			return stop
		case http.StatusConflict:
			return reopen
		case http.StatusGone:
			return renew
		}
		proc.Pause(ctx, backoff(failures))
	}
	return stop
}

// verify asks whom this browser is logged in as.
func (t *tab) verify(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		a := t.w.request(ctx, http.MethodGet, "/auth/verify", t.jar.header(), "")
		if a.status == http.StatusOK || a.status == http.StatusUnauthorized {
			t.note(entry{Kind: kindSession, Status: a.status, From: a.from, User: a.user, Ticket: t.ticket()})
			return
		}
		proc.Pause(ctx, backoff(failures))
	}
}
