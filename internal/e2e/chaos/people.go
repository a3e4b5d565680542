package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"scanlogin/internal/e2e/proc"
	"scanlogin/internal/wechatsim"
)

const (
	newPeople  = 400 // who bind their accounts, each once
	latePeople = 20  // who only ever scan old pictures
)

// person has an account that is called as they are.
type person struct{ name, openid string }

// crowd is everybody with a phone.
type crowd struct {
	known chan person // with a tie, and not scanning just now
	fresh chan person // without
	late  []person    // with a tie; nobody may ever be logged in as one of them

	mu     sync.Mutex
	shown  map[string]*code  // by ticket
	holder map[int]string    // the ticket that a scene was last seen with
	album  []*code           // pictures that somebody took
	pushes int               // so far
	acted  map[string]string // words of replies, back to outcomes
}

// code is a QR code that some browser has shown.
type code struct {
	ticket string
	scene  int
	over   bool // its login has ended
}

// addPeople makes accounts and phones, with an account's password as the program hashes it.
func (w *world) addPeople(ctx context.Context) error {
	for _, args := range [][]string{{"migrate", "up"}, {"user", "add", "root"}} {
		cmd := exec.CommandContext(ctx, w.binary, args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+w.database.url())
		cmd.Stdin = strings.NewReader(password + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("scanlogin %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	c := &w.crowd
	c.shown, c.holder, c.acted = map[string]*code{}, map[int]string{}, map[string]string{}
	for outcome, word := range words() {
		c.acted[word] = outcome
	}
	known := 2*w.browsers + 20
	c.known, c.fresh = make(chan person, known), make(chan person, newPeople)
	var names, openids []string
	add := func(name string, follower, tied bool) person {
		p := person{name, w.sim.AddUser(name, follower).OpenID}
		names, openids = append(names, name), append(openids, "")
		if tied {
			openids[len(openids)-1] = p.openid
		}
		return p
	}
	for n := range known {
		c.known <- add(fmt.Sprintf("person-%d", n), n%5 > 0, true)
	}
	for n := range newPeople {
		c.fresh <- add(fmt.Sprintf("new-%d", n), false, false)
	}
	for n := range latePeople {
		c.late = append(c.late, add(fmt.Sprintf("late-%d", n), true, true))
	}
	return w.database.addPeople(ctx, names, openids)
}

// show notes a code that a browser shows.
func (c *crowd) show(ticket string, scene int) *code {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shown[ticket]
	if s == nil {
		s = &code{ticket: ticket, scene: scene}
		c.shown[ticket] = s
		c.holder[scene] = ticket
	}
	return s
}

func (c *crowd) end(s *code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.over = true
}

// photograph keeps a code for later.
func (c *crowd) photograph(s *code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.album = append(c.album, s)
}

// oldPicture takes a picture out of the album whose login has ended. One whose scene shows
// another browser's code by now is the most dangerous.
func (c *crowd) oldPicture() *code {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := -1
	for n, s := range c.album {
		switch {
		case c.holder[s.scene] != s.ticket && c.shown[c.holder[s.scene]] != nil && !c.shown[c.holder[s.scene]].over:
			found = n
		case s.over && rand.IntN(10) == 0:
			found = n
		default:
			continue
		}
		break
	}
	if found < 0 {
		return nil
	}
	s := c.album[found]
	c.album = append(c.album[:found], c.album[found+1:]...)
	return s
}

func (c *crowd) nextPush() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushes++
	return c.pushes
}

// scanLate scans old pictures until ctx ends.
func (w *world) scanLate(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	rest := 300 * time.Millisecond / time.Duration(w.haste)
	for n := 0; proc.Pause(ctx, rest); n++ {
		if s := w.crowd.oldPicture(); s != nil {
			who := w.crowd.late[n%len(w.crowd.late)]
			work.Go(func() { w.push(ctx, who, s.ticket) })
		}
	}
}

// phone scans a code until WeChat has been answered, as people do whom WeChat told that
// the account doesn't work.
func (w *world) phone(ctx context.Context, who person, ticket string) {
	for range 8 {
		if done := w.push(ctx, who, ticket); done || !proc.Pause(ctx, time.Second+rand.N(time.Second)) {
			return
		}
	}
}

// push is one scan. It is true where nothing is gained by another.
func (w *world) push(ctx context.Context, who person, ticket string) (done bool) {
	e := entry{Kind: kindScanStart, Scan: w.crowd.nextPush(), Person: who.name, Ticket: ticket}
	e.Asked = w.journal.add(e)
	e.Kind = kindScan
	// A push that is under way comes to its end, whoever has left meanwhile.
	d, err := w.sim.Scan(context.WithoutCancel(ctx), who.openid, ticket)
	if err != nil {
		e.Detail = err.Error()
		w.journal.add(e)
		return !errors.Is(err, wechatsim.ErrNoCallback)
	}
	for one := &d; one != nil; one = one.Again {
		e.Acknowledged, e.Statuses, e.Reply, e.Detail = !one.Failed, one.Statuses, "", one.Problem
		if e.Acknowledged {
			e.Reply = w.outcome(one.Reply)
		}
		w.journal.add(e)
		done = done || e.Acknowledged
	}
	return done
}

// outcome is what a reply says.
func (w *world) outcome(reply string) string {
	if outcome, ok := w.crowd.acted[reply]; ok {
		return outcome
	}
	return reply
}
