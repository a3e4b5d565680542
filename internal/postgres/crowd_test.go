package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"scanlogin/internal/devpg"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres/postgrestest"
)

// worldOn is a world on servers of its own, which a test may end.
func worldOn(t testing.TB, scenes int32, servers ...*devpg.Server) *world {
	t.Helper()
	postgrestest.Migrate(t, servers[0].URL("postgres"))
	return worldAt(t, devpg.URL("postgres", servers...), scenes)
}

// crowd is browsers that log in again and again, each as a person of its own, while the
// server comes to harm. A call that isn't answered is made again, as pages and WeChat do.
// Its journal holds what was answered: that has to stay true, whatever happens.
type crowd struct {
	*world
	people []*person
	stop   context.CancelFunc
	done   sync.WaitGroup

	made atomic.Int64 // codes, ready or not

	mu       sync.Mutex
	shown    map[string]login.ID // ticket -> login
	held     map[int32]login.ID  // scene -> login
	sessions map[[32]byte]int64  // token -> account
	ready    int                 // codes shown that were made ahead
	lost     []string            // what turned out not to be true
}

// person is a WeChat user with an account.
type person struct {
	openID  string
	account int64
	logins  atomic.Int64 // completed
}

func newCrowd(w *world, people int) *crowd {
	w.t.Helper()
	c := &crowd{world: w, stop: func() {}, shown: map[string]login.ID{}, held: map[int32]login.ID{}, sessions: map[[32]byte]int64{}}
	for i := range people {
		p := &person{openID: "person " + strconv.Itoa(i)}
		p.account = w.account(p.openID)
		w.tie(p.openID, p.account)
		c.people = append(c.people, p)
	}
	return c
}

// start sets everybody going, and has codes made ahead.
func (c *crowd) start() {
	ctx, stop := context.WithCancel(c.t.Context())
	c.stop = stop
	for _, p := range c.people {
		c.done.Go(func() { c.browse(ctx, p) })
	}
	c.done.Go(func() {
		for ctx.Err() == nil {
			_ = c.makeCodes(ctx) // the server may be away
			breathe(ctx)
		}
	})
	c.t.Cleanup(func() { stop(); c.done.Wait() })
}

// await waits until everybody has logged in n times more.
func (c *crowd) await(n int64) {
	c.t.Helper()
	for _, p := range c.people {
		goal := p.logins.Load() + n
		await(c.t, "the logins of "+p.openID, func() bool { return p.logins.Load() >= goal })
	}
}

// awaitSum waits until n logins more were completed by whomever.
func (c *crowd) awaitSum(n int64) {
	c.t.Helper()
	sum := func() (n int64) {
		for _, p := range c.people {
			n += p.logins.Load()
		}
		return n
	}
	goal := sum() + n
	await(c.t, "logins", func() bool { return sum() >= goal })
}

// finish lets everybody finish and returns what was lost.
func (c *crowd) finish() []string {
	c.t.Helper()
	c.stop()
	c.done.Wait()
	c.admin.Reset() // its connections may be of a server that is gone
	c.compareSessions()
	c.compareAudit()
	return c.lost
}

// compareAudit finds sessions without their row in the audit log, and rows without their
// session: nobody here has signed out. A login that was scanned is there once, be the scan
// pushed ever so often.
func (c *crowd) compareAudit() {
	c.t.Helper()
	rows, err := c.admin.Query(c.t.Context(), `SELECT coalesce(s.id, l.id), coalesce(s.n, 0), coalesce(l.n, 0)
		FROM (SELECT account_id AS id, count(*) AS n FROM scanlogin.web_session GROUP BY 1) s
		FULL JOIN (SELECT account_id AS id, count(*) AS n FROM scanlogin.audit WHERE kind = 'login' GROUP BY 1) l ON l.id = s.id
		WHERE s.n IS DISTINCT FROM l.n`)
	c.ok(err)
	var account, sessions, logged int64
	_, err = pgx.ForEachRow(rows, []any{&account, &sessions, &logged}, func() error {
		c.lose("account %d has %d sessions and %d rows of logins", account, sessions, logged)
		return nil
	})
	c.ok(err)
	if n := get[int](c.world, `SELECT count(*) FROM (
			SELECT FROM scanlogin.audit WHERE kind IN ('scan', 'login') GROUP BY login
			HAVING count(*) FILTER (WHERE kind = 'scan') <> 1 OR count(*) FILTER (WHERE kind = 'login') > 1) odd`); n != 0 {
		c.lose("%d logins are in the audit log without their scan, or twice", n)
	}
}

// compareSessions finds sessions that were promised and aren't there, and those of which
// nobody was told: every call has been answered by now.
func (c *crowd) compareSessions() {
	c.t.Helper()
	rows, err := c.admin.Query(c.t.Context(), "SELECT token_hash, account_id FROM scanlogin.web_session")
	c.ok(err)
	defer rows.Close()
	left := c.sessions
	for rows.Next() {
		var token []byte
		var account int64
		c.ok(rows.Scan(&token, &account))
		if want := left[[32]byte(token)]; want != account {
			c.lose("a session of account %d is one of account %d", want, account)
		}
		delete(left, [32]byte(token))
	}
	c.ok(rows.Err())
	for _, account := range left {
		c.lose("a session of account %d is gone", account)
	}
}

func (c *crowd) lose(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = append(c.lost, fmt.Sprintf(format, args...))
}

// browse goes on until ctx ends, but always to the end of a login.
func (c *crowd) browse(ctx context.Context, p *person) {
	for i := 0; ctx.Err() == nil; i++ {
		l, ok := c.begin()
		switch {
		case !ok:
			breathe(ctx)
		case i%4 == 3: // closed the page
			c.free(l)
			_ = c.logins.Leave(c.t.Context(), []login.Ref{l.Ref}) // where it isn't heard, the scene is held for longer
		default:
			c.logIn(p, l)
		}
	}
}

// begin shows a code, or fails as a page does that can't be loaded.
func (c *crowd) begin() (l login.Login, ok bool) {
	l, err := c.logins.Claim(c.t.Context(), newID(), long, 0)
	if err != nil {
		return l, false
	}
	c.hold(l)
	if l.Ticket == (login.Ticket{}) {
		l.Ticket = c.newTicket("late")
		err = c.logins.SetTicket(c.t.Context(), l.Ref, l.Ticket)
		if errors.Is(err, login.ErrEnded) {
			c.lose("the claim of scene %d", l.Scene)
		}
		if err != nil {
			return l, false
		}
	}
	c.show(l)
	return l, true
}

func (c *crowd) newTicket(kind string) login.Ticket {
	ticket := fmt.Sprintf("%s %d", kind, c.made.Add(1))
	return login.Ticket{Ticket: ticket, URL: kind}
}

func (c *crowd) hold(l login.Login) {
	c.mu.Lock()
	other, held := c.held[l.Scene]
	c.held[l.Scene] = l.ID
	c.mu.Unlock()
	if held {
		c.lose("scene %d is held by %v and by %v", l.Scene, other.Short(), l.ID.Short())
	}
}

// free is called before the server is told: it may give the scene away before we hear of it.
func (c *crowd) free(l login.Login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, l.Scene)
}

func (c *crowd) show(l login.Login) {
	c.mu.Lock()
	other, twice := c.shown[l.Ticket.Ticket]
	c.shown[l.Ticket.Ticket] = l.ID
	if l.URL == "ready" {
		c.ready++
	}
	c.mu.Unlock()
	if twice {
		c.lose("code %q is shown by %v and by %v", l.Ticket.Ticket, other.Short(), l.ID.Short())
	}
}

// logIn scans and completes. Once a code is shown, nothing may come between.
func (c *crowd) logIn(p *person, l login.Login) {
	var outcome login.Outcome
	err := c.untilAnswered(func() (err error) {
		outcome, _, err = c.logins.Scan(c.t.Context(), scanOf(l, p.openID), long)
		return err
	})
	if err != nil || outcome != login.LoggedIn {
		c.lose("a scan of the code that scene %d shows: %v, %s", l.Scene, outcome, errName(err))
	}
	c.free(l)
	token := newHash()
	// A repeat of what was done and not answered finds the login ended. Whether it was
	// done is to be seen in the sessions.
	err = c.untilAnswered(func() error { return c.logins.Complete(c.t.Context(), l.Ref, login.Session{Hash: token}, long) })
	if err != nil && !errors.Is(err, login.ErrEnded) {
		c.lose("a scanned login of scene %d is %s", l.Scene, errName(err))
	}
	c.mu.Lock()
	c.sessions[token] = p.account
	c.mu.Unlock()
	p.logins.Add(1)
}

// untilAnswered repeats a call until the server says yes or no.
func (c *crowd) untilAnswered(call func() error) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		err := call()
		if err == nil || errors.Is(err, login.ErrEnded) || errors.Is(err, login.ErrNotReady) || ctx.Err() != nil {
			return err
		}
		breathe(ctx)
	}
}

// makeCodes makes a code for each scene that has none.
func (c *crowd) makeCodes(ctx context.Context) error {
	r := c.reserve()
	position, size, err := r.Ring(ctx)
	if err != nil {
		return err
	}
	bare, err := r.Bare(ctx, position, size, size, long)
	for _, scene := range bare {
		if err == nil {
			err = r.Prepare(ctx, scene, c.newTicket("ready"), 2*long, long)
		}
	}
	return err
}

// breathe keeps whoever repeats something from doing nothing else.
func breathe(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Millisecond):
	}
}

// wantNothingLost fails the test for what the crowd has lost, and where it has tried nothing.
func wantNothingLost(t *testing.T, c *crowd) {
	t.Helper()
	lost := c.finish()
	for i, what := range lost {
		if i == 10 {
			t.Errorf("and %d more", len(lost)-i)
			break
		}
		t.Errorf("lost: %s", what)
	}
	t.Logf("%d codes were shown, %d of them made ahead", len(c.shown), c.ready)
	if c.ready == 0 {
		t.Error("no code was made ahead")
	}
}
