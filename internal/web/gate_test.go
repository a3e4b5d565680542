package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/stream"
	"scanlogin/internal/wechat"
)

func TestWhoCameFirstGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.build(1, 5)
		var order []int
		next := make(chan struct{})
		for i := range 6 {
			go func() {
				_, _ = through(t.Context(), &g, func() (int, error) {
					order = append(order, i)
					<-next
					return 0, nil
				})
			}()
			synctest.Wait()
		}
		if _, err := through(t.Context(), &g, func() (int, error) { return 0, nil }); !errors.Is(err, errBusy) {
			t.Errorf("one too many: %v", err)
		}
		for range 6 {
			next <- struct{}{}
			synctest.Wait()
		}
		if !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("they went in as %v", order)
		}
		wantEmpty(t, &g)
	})
}

func TestPlacesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.build(1, 1)
		broken := errors.New("broken")
		if _, err := through(t.Context(), &g, func() (int, error) { return 7, broken }); !errors.Is(err, broken) {
			t.Errorf("f's error became %v", err)
		}
		wantEmpty(t, &g)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic got lost")
				}
			}()
			_, _ = through(t.Context(), &g, func() (int, error) { panic("f") })
		}()
		wantEmpty(t, &g)
		if n, err := through(t.Context(), &g, func() (int, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := through(ctx, &g, func() (int, error) { t.Error("there was room"); return 0, nil })
			if !errors.Is(err, errBusy) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("waiting in vain: %v", err)
			}
			return 7, nil
		}); n != 7 || err != nil {
			t.Errorf("through = %d, %v", n, err)
		}
		wantEmpty(t, &g)
	})
}

// A statement that is begun with no time left takes its connection with it.
func TestWhoWaitsLeavesTimeForTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.build(1, 1)
		done := make(chan struct{})
		go func() {
			_, _ = through(t.Context(), &g, func() (int, error) { <-done; return 0, nil })
		}()
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), callbackDeadline)
		defer cancel()
		_, err := through(ctx, &g, func() (int, error) { t.Error("there was room"); return 0, nil })
		if !errors.Is(err, errBusy) || time.Since(start) != callbackDeadline/2 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(done)
		synctest.Wait()
		wantEmpty(t, &g)
	})
}

func wantEmpty(t *testing.T, gates ...*gate) {
	t.Helper()
	for _, g := range gates {
		if len(g.present) != 0 || len(g.in) != 0 {
			t.Errorf("%d are still there, %d of them at work", len(g.present), len(g.in))
		}
	}
}

// store is a login.Store of which a test writes what it needs.
type store struct {
	login.Store
	scan  func(context.Context) error
	begin func(context.Context) error // and resume
}

func (s store) Scan(ctx context.Context, _ login.Scan, _ time.Duration) (login.Outcome, login.ID, error) {
	return login.Stale, login.ID{}, s.scan(ctx)
}

func (s store) Claim(ctx context.Context, _ login.ID, _, _ time.Duration) (login.Login, error) {
	return login.Login{}, s.begin(ctx)
}

func (s store) Join(ctx context.Context, _ login.Ref) (login.Login, error) {
	return login.Login{}, s.begin(ctx)
}

// stuck is a database that doesn't answer.
func stuck(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

const token = "token"

func newServerWith(t *testing.T, db store) (*Server, http.Handler) {
	t.Helper()
	s, h, _ := newServer(t, "http://localhost:8080")
	s.Logins.Store, s.Logins.Logger = db, s.Logger
	s.Hub = stream.NewHub(stream.Config{Logger: s.Logger})
	s.Callback = &wechat.Callback{Token: token}
	for _, g := range []*gate{&s.callbacks, &s.begins, &s.resumes} {
		g.build(fewAtWork, fewWaiting)
	}
	return s, h
}

func scanned(ctx context.Context) *http.Request {
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	q := url.Values{"timestamp": {timestamp}, "nonce": {"1"}, "signature": {wechat.Sign(token, timestamp, "1")}}
	return httptest.NewRequestWithContext(ctx, http.MethodPost, "/wechat/callback?"+q.Encode(), strings.NewReader(
		"<xml><FromUserName>o1</FromUserName><MsgType>event</MsgType><Event>SCAN</Event><EventKey>7</EventKey><Ticket>t</Ticket></xml>"))
}

// opened is the request of a new browser, or of one that has a login already.
func opened(ctx context.Context, again bool) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/login/events", nil)
	if again {
		key := login.Key{Scene: 7, Secret: login.NewSecret()}
		r.AddCookie(&http.Cookie{Name: "scanlogin_login", Value: key.Cookie()})
	}
	return r
}

// flood sends n requests at once and returns who was answered before anything else
// happened; the others' answers are there after wait.
func flood(h http.Handler, n int, request func() *http.Request) (now []*httptest.ResponseRecorder, wait func() []*httptest.ResponseRecorder) {
	var mu sync.Mutex
	var answers []*httptest.ResponseRecorder
	var work sync.WaitGroup
	for range n {
		work.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request())
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, w)
		})
	}
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	before := len(answers)
	return slices.Clone(answers), func() []*httptest.ResponseRecorder {
		work.Wait()
		return answers[before:]
	}
}

func statuses(answers []*httptest.ResponseRecorder) string {
	count := map[int]int{}
	for _, w := range answers {
		count[w.Code]++
	}
	return fmt.Sprint(count)
}

// Gates are smaller in tests, and get so many more than there is room for.
const (
	fewAtWork  = 4
	fewWaiting = 40
	over       = 10
)

func TestBurstOfCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan struct{})
		s, h := newServerWith(t, store{scan: func(context.Context) error { <-answers; return nil }})
		now, wait := flood(h, fewAtWork+fewWaiting+over, func() *http.Request { return scanned(t.Context()) })
		if got, want := statuses(now), fmt.Sprintf("map[503:%d]", over); got != want {
			t.Errorf("at once: %s, want %s", got, want)
		}
		for _, w := range now {
			if w.Header().Get("Retry-After") != "5" || w.Body.String() != "busy\n" {
				t.Fatalf("%v %q", w.Header(), w.Body)
			}
		}
		if n := s.Stats().CallbacksTurnedAway; n != over {
			t.Errorf("%d were counted", n)
		}
		close(answers)
		if got, want := statuses(wait()), fmt.Sprintf("map[200:%d]", fewAtWork+fewWaiting); got != want {
			t.Errorf("when the database has answered: %s, want %s", got, want)
		}
		wantEmpty(t, &s.callbacks)
	})
}

// Whoever can't sign costs no place, and can't keep one by sending slowly.
func TestForgedCallbacksTakeNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newServerWith(t, store{scan: stuck})
		s.callbacks.build(0, 0)
		forged := scanned(t.Context())
		forged.URL.RawQuery = strings.Replace(forged.URL.RawQuery, "nonce=1", "nonce=2", 1)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, forged)
		if w.Code != http.StatusForbidden {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestStuckDatabaseKeepsNoCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newServerWith(t, store{scan: stuck})
		gone, hangUp := context.WithCancel(t.Context())
		_, wait := flood(h, fewAtWork+fewWaiting, func() *http.Request { return scanned(gone) })
		hangUp() // WeChat needn't stay: what has been pushed is recorded if it can be
		start := time.Now()
		if got, want := statuses(wait()), fmt.Sprintf("map[503:%d]", fewAtWork+fewWaiting); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if took := time.Since(start); took != callbackDeadline {
			t.Errorf("it took %v", took)
		}
		wantEmpty(t, &s.callbacks)
	})
}

func TestFloodOfStreamsLeavesCallbacksAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newServerWith(t, store{begin: stuck, scan: func(context.Context) error { return nil }})
		gone, hangUp := context.WithCancel(t.Context())
		waits := make(map[bool]func() []*httptest.ResponseRecorder)
		for _, again := range []bool{false, true} {
			now, wait := flood(h, fewAtWork+fewWaiting+over, func() *http.Request { return opened(gone, again) })
			if got, want := statuses(now), fmt.Sprintf("map[200:%d]", over); got != want {
				t.Errorf("again %v: %s at once, want %s", again, got, want)
			}
			for _, w := range now {
				body := w.Body.String()
				if w.Header().Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(body, "retry: ") || strings.Contains(body, "data:") {
					t.Fatalf("%v %q", w.Header(), body)
				}
			}
			waits[again] = wait
		}
		if n := s.Stats().StreamsTurnedAway; n != 2*over {
			t.Errorf("%d were counted", n)
		}
		start := time.Now()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, scanned(t.Context()))
		if w.Code != http.StatusOK || time.Since(start) != 0 {
			t.Errorf("the callback got %d after %v", w.Code, time.Since(start))
		}
		hangUp()
		waits[false]()
		waits[true]()
		if took := time.Since(start); took != 0 {
			t.Errorf("those who hung up were kept for %v", took)
		}
		wantEmpty(t, &s.begins, &s.resumes)
	})
}

func TestPanicKeepsNoPlace(t *testing.T) {
	boom := func(context.Context) error { panic("boom") }
	s, h := newServerWith(t, store{scan: boom, begin: boom})
	for _, r := range []*http.Request{scanned(t.Context()), opened(t.Context(), false), opened(t.Context(), true)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError {
			t.Errorf("%s: %d", r.URL.Path, w.Code)
		}
	}
	wantEmpty(t, &s.callbacks, &s.begins, &s.resumes)
}
