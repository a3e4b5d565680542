package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// limitedWorld has limits, and believes what its browsers say of where they are.
func limitedWorld(t *testing.T, own settings) *world {
	t.Helper()
	s := settings{"RATE_LIMITS": "on", "TRUSTED_PROXIES": "127.0.0.1"}
	maps.Copy(s, own)
	return newWorld(t, options{settings: s})
}

// at is a new browser with this address.
func at(t testing.TB, w *world, addr string) *browser {
	b := newBrowser(t, w)
	b.header.Set("X-Forwarded-For", addr)
	return b
}

// limitsPass lets time pass for every limit, as far as the database is concerned. Less than
// none makes growing waits longer, which would be over before a busy machine has looked.
func (w *world) limitsPass(d time.Duration) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(w.t.Context()) }()
	if _, err := conn.Exec(w.t.Context(), "UPDATE scanlogin.rate_limit SET tat = tat - $1::interval WHERE tat > 'epoch' AND ($1::interval > interval '0' OR tries > 0)", d); err != nil {
		w.t.Fatal(err)
	}
}

// refusals is how many an instance has counted.
func (i *instance) refusals(limit string) (n int) {
	i.w.t.Helper()
	a := newBrowser(i.w.t, i.w).do(http.MethodGet, "http://"+i.ops+"/metrics", content{})
	for line := range strings.Lines(a.body) {
		if value, ok := strings.CutPrefix(line, `scanlogin_rate_limited_total{limit="`+limit+`"} `); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	i.w.t.Fatalf("no limit %q in the metrics", limit)
	return 0
}

// rateLimited expects the stream to say so, and returns when to try again.
func (s *eventStream) rateLimited() time.Duration {
	s.t.Helper()
	var data struct {
		Reason  string `json:"reason"`
		RetryIn int    `json:"retry_in"`
	}
	e := s.expect("unavailable")
	if err := json.Unmarshal([]byte(e.data), &data); err != nil || data.Reason != "rate_limited" || data.RetryIn < 1 {
		s.t.Fatalf("unavailable: %s", e.data)
	}
	s.end()
	return time.Duration(data.RetryIn) * time.Second
}

func TestLimitsAreSharedByInstances(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_CODES": "6/1h"})
	const home = "203.0.113.7"
	var last *browser
	for n := range 6 {
		last = at(t, w, home)
		last.events([]*instance{w.a, w.b}[n%2]).code()
	}
	for _, i := range []*instance{w.a, w.b} {
		if wait := at(t, w, home).events(i).rateLimited(); wait < 9*time.Minute || wait > 11*time.Minute {
			t.Errorf("is told to wait for %v, want 10 min", wait)
		}
		if n := i.refusals("codes"); n != 1 {
			t.Errorf("instance %s has counted %d refusals", i.name, n)
		}
		last.events(i).code() // whoever has a code keeps it
		at(t, w, "203.0.113.8").events(i).code()
	}
	w.limitsPass(10 * time.Minute)
	at(t, w, home).events(w.a).code()
	at(t, w, home).events(w.b).rateLimited()
}

func TestOneAddressCannotTakeThePool(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"SCENE_POOL": "100"})
	const greedy = 60
	var mu sync.Mutex
	got := map[string]int{}
	var work sync.WaitGroup
	for n := range greedy {
		work.Go(func() {
			b := at(t, w, "2001:db8:0:1::"+strconv.FormatInt(int64(n+1), 16)) // one connection has so many
			e := b.events([]*instance{w.a, w.b}[n%2]).next()
			mu.Lock()
			defer mu.Unlock()
			got[e.name]++
		})
	}
	work.Wait()
	if got["qr"] != 20 || got["unavailable"] != greedy-20 {
		t.Errorf("%v, want 20 codes", got)
	}
	at(t, w, "2001:db8:0:2::1").events(w.a).code()
	at(t, w, "198.51.100.1").events(w.b).code()
}

func TestOneNetworkCannotTakeTheDaysCodes(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_CODES_DAY": "5/24h"})
	for n := range 5 {
		at(t, w, fmt.Sprintf("203.0.113.%d", n)).events(w.a).code()
	}
	at(t, w, "203.0.113.9").events(w.b).rateLimited()
	if made := w.sim.Stats().Codes; made != 5 {
		t.Errorf("WeChat has made %d codes for it", made)
	}
	at(t, w, "198.51.100.1").events(w.b).code()
}

func (b *browser) signIn(i *instance, name, password string) answer {
	b.t.Helper()
	return b.post(i, "/login", form("username", name, "password", password), "Accept", "application/json")
}

func TestPasswordGuessingSlowsDown(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_PASSWORDS": "3/9m"})
	w.account(t, "alice")
	for _, name := range []string{"alice", "nobody"} { // there is no telling who exists
		guesser := at(t, w, "203.0.113.7")
		for n := range 3 {
			guesser.signIn([]*instance{w.a, w.b}[n%2], name, "wrong password").want(t, http.StatusUnauthorized)
		}
		w.limitsPass(time.Second)
		guesser.signIn(w.a, name, "wrong password").want(t, http.StatusUnauthorized)
		for wait := 2; wait < 180; wait *= 2 {
			w.limitsPass(time.Duration(wait) * time.Second)
			guesser.signIn(w.a, name, "wrong password").want(t, http.StatusUnauthorized)
		}
		a := guesser.signIn(w.b, name, password).want(t, http.StatusTooManyRequests) // be it the right one
		if s, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || s < 100 || s > 180 {
			t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
		}
		if a.json(t, "error") != "rate_limited" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%v: %s", a.header, a.body)
		}
		page := guesser.post(w.b, "/login", form("username", name, "password", password), "Accept", "text/html").want(t, http.StatusTooManyRequests)
		if !strings.Contains(page.body, "Too many attempts") {
			t.Errorf("the page says %.300s", page.body)
		}
	}
	if n := w.b.refusals("passwords"); n != 4 {
		t.Errorf("%d refusals are counted", n)
	}
}

// The account's password is the same at every door.
func TestBindingIsNoSecondDoorForGuesses(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_PASSWORDS": "2/9m"})
	w.account(t, "alice")
	b := at(t, w, "203.0.113.7")
	stream := b.events(w.a)
	w.scan(t, w.person(true), stream.code().Ticket)
	stream.expect("bind-required")
	b.post(w.a, "/user/bind", form("username", "alice", "password", "wrong password")).want(t, http.StatusForbidden)
	b.signIn(w.b, "ALICE", "wrong password").want(t, http.StatusUnauthorized)
	w.limitsPass(-time.Minute)
	a := b.post(w.b, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusTooManyRequests)
	if a.json(t, "status") != false || a.json(t, "err") == "" || a.header.Get("Retry-After") == "" {
		t.Errorf("%v: %s", a.header, a.body)
	}
	w.limitsPass(2 * time.Minute)
	b.post(w.b, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusOK)
}

func TestAStolenSessionIsNoDoorForGuesses(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_PASSWORDS": "2/9m"})
	w.account(t, "alice")
	b := at(t, w, "203.0.113.7")
	b.signIn(w.a, "alice", password).want(t, http.StatusSeeOther)
	change := func(i *instance, current string) answer {
		return b.post(i, "/user/password", form("current", current, "password", "another horse battery"))
	}
	change(w.a, "wrong password").want(t, http.StatusForbidden)
	change(w.b, "wrong password").want(t, http.StatusForbidden)
	w.limitsPass(-time.Minute)
	if a := change(w.a, password).want(t, http.StatusTooManyRequests); a.header.Get("Retry-After") == "" {
		t.Errorf("%v: %s", a.header, a.body)
	}
	w.limitsPass(2 * time.Minute)
	change(w.b, password).want(t, http.StatusSeeOther)
}

func TestAStrangerCannotLockOutAnAccount(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_PASSWORDS": "3/1h", "LIMIT_PASSWORDS_ACCOUNT": "9/1h"})
	w.account(t, "alice")
	const office = "203.0.113.7"
	owner := at(t, w, office)
	owner.signIn(w.a, "alice", password).want(t, http.StatusSeeOther)

	// From another network, until its tries are over.
	for range 3 {
		at(t, w, "198.51.100.1").signIn(w.a, "alice", "wrong password").want(t, http.StatusUnauthorized)
	}
	w.limitsPass(-time.Minute)
	at(t, w, "198.51.100.2").signIn(w.b, "alice", "wrong password").want(t, http.StatusTooManyRequests)
	at(t, w, office).signIn(w.b, "alice", password).want(t, http.StatusSeeOther) // a new browser of the owner's

	// From everywhere, also from the office.
	for n := range 9 {
		from := []string{office, "192.0.2.1", "2001:db8::1"}[n%3]
		at(t, w, from).signIn(w.a, "alice", "wrong password")
	}
	at(t, w, "192.0.3.1").signIn(w.b, "alice", "wrong password").want(t, http.StatusTooManyRequests)
	owner.signIn(w.b, "alice", password).want(t, http.StatusSeeOther)
	owner.header.Set("X-Forwarded-For", "192.0.2.1")
	owner.signIn(w.b, "alice", password).want(t, http.StatusSeeOther)
}

func TestOneAddressCannotTryAllAccounts(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_PASSWORDS_ADDRESS": "5/1h"})
	sprayer := at(t, w, "203.0.113.7")
	for n := range 5 {
		sprayer.signIn(w.a, "user"+strconv.Itoa(n), "Summer2026!").want(t, http.StatusUnauthorized)
	}
	sprayer.signIn(w.b, "user5", "Summer2026!").want(t, http.StatusTooManyRequests)
	at(t, w, "203.0.113.8").signIn(w.b, "user5", "Summer2026!").want(t, http.StatusUnauthorized)
}

// An office behind one address, at nine.
func TestManyPeopleBehindOneAddressSignIn(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_PASSWORDS_ADDRESS": "3/1h", "LIMIT_PASSWORDS_ACCOUNT": "3/1h", "LIMIT_PASSWORDS": "3/1h"})
	w.account(t, "alice")
	for n := range 12 {
		at(t, w, "203.0.113.7").signIn([]*instance{w.a, w.b}[n%2], "alice", password).want(t, http.StatusSeeOther)
	}
}

func TestOneAddressCannotMakeAccountsWithoutEnd(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"SIGNUP": "on", "LIMIT_SIGNUPS": "2/1h"})
	signUp := func(i *instance, from, name string) answer {
		b := at(t, w, from)
		stream := b.events(i)
		w.scan(t, w.person(true), stream.code().Ticket)
		stream.expect("bind-required")
		return b.post(i, "/user/signup", form("username", name, "password", password))
	}
	signUp(w.a, "203.0.113.7", "one").want(t, http.StatusOK)
	signUp(w.b, "203.0.113.7", "two").want(t, http.StatusOK)
	signUp(w.a, "203.0.113.7", "three").want(t, http.StatusTooManyRequests)
	signUp(w.a, "203.0.113.8", "three").want(t, http.StatusOK)
}

func TestAPhoneThatScansWithoutEndIsAcknowledged(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_SCANS": "3/1h"})
	who := w.boundPerson(t, "alice") // the first scan
	for range 2 {
		stream := newBrowser(t, w).events(w.a)
		w.scan(t, who, stream.code().Ticket)
		stream.expect("success")
	}
	stream := newBrowser(t, w).events(w.a)
	ticket := stream.code().Ticket
	if d := w.scan(t, who, ticket); d.Tries != 1 {
		t.Errorf("WeChat had to push %d times", d.Tries)
	}
	if n := w.a.refusals("scans") + w.b.refusals("scans"); n != 1 {
		t.Errorf("%d refusals are counted", n)
	}
	w.limitsPass(time.Hour)
	w.scan(t, who, ticket)
	stream.expect("success")
}

func TestALoginHasOnlySoManyTabs(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, settings{"LIMIT_TABS": "3"})
	b := newBrowser(t, w)
	first := b.events(w.a)
	code := first.code()
	for range 2 {
		if c := b.events(w.a).code(); c.Ticket != code.Ticket {
			t.Error("another code")
		}
	}
	b.events(w.a).rateLimited()
	if n := w.a.refusals("tabs"); n != 1 {
		t.Errorf("%d refusals are counted", n)
	}
	first.close()
	eventually(t, "room for another tab", func() bool { return b.events(w.a).next().name == "qr" })
}

// Whoever sends slowly, to keep connections busy.
func TestSlowHeadersAndBodiesAreCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	const body = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nuser"
	for name, tt := range map[string]struct {
		sent   string
		within time.Duration
		answer string // how it begins; empty: none
	}{
		"a header":    {"GET /login HTTP/1.1\r\nHost: x\r\nX-Slow: ", 6 * time.Second, ""},
		"a body":      {body, 16 * time.Second, "HTTP/1.1 400 "},
		"a push":      {strings.Replace(body, "/login", "/wechat/callback", 1), 16 * time.Second, "HTTP/1.1 400 "},
		"not a word":  {"", 6 * time.Second, ""},
		"half a line": {"GET /lo", 6 * time.Second, "HTTP/1.1 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", w.a.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			start := time.Now()
			if _, err := io.WriteString(conn, tt.sent); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(start.Add(tt.within + patience))
			answer, err := io.ReadAll(bufio.NewReader(conn))
			if err != nil || !strings.HasPrefix(string(answer), tt.answer) || (tt.answer == "") != (len(answer) == 0) {
				t.Errorf("%v, %.100q", err, answer)
			}
			if took := time.Since(start); took > tt.within+patience/2 {
				t.Errorf("the connection stayed for %v", took)
			}
		})
	}
}
