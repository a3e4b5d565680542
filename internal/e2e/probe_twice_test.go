package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// crowds are how many send the same at once.
func crowds() []int { return []int{2, 16} }

// twice sends each request that changes something many times at once, to both instances: it
// has one effect.
func (p *prober) twice() {
	p.Helper()
	for _, n := range crowds() {
		name := fmt.Sprintf("twice%d", n)
		p.account(p.T, name)
		p.completedOnce(n, name)
		p.confirmedOnce(n)
		p.boundOnce(n, name)
		p.revokedOnce(n, name)
		b := story{T: p.T, world: p.world}.signedIn(name, p.b)
		p.unboundOnce(n, name, b)
		p.readOnce(n, name, b)
		p.changedOnce(n, name, b)
	}
}

// atOnce sends what this browser would, with the cookies that it has now, and counts the
// statuses.
func (p *prober) atOnce(n int, b *browser, path string, body content, also ...string) (statuses map[int]int, bodies []string) {
	p.Helper()
	s := shot{name: fmt.Sprintf("%d times %s", n, path), method: "POST", target: path, body: body.text, lines: append(also, held(b))}
	if body.kind != "" {
		s.lines = append(s.lines, "Content-Type: "+body.kind)
	}
	replies := make([]reply, n)
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			replies[i] = p.send([]*instance{p.a, p.b}[i%2], s)
		})
	}
	done.Wait()
	statuses = map[int]int{}
	for _, r := range replies {
		p.judge("many at once", s, r)
		statuses[r.status]++
		bodies = append(bodies, r.body)
		for _, c := range (&http.Response{Header: r.header}).Cookies() {
			p.keep(c.Value)
		}
	}
	return statuses, bodies
}

// once insists that one of n had the effect, and that the others were told so.
func (p *prober) once(what string, n int, statuses map[int]int, done int, late ...int) {
	p.Helper()
	others := 0
	for _, status := range late {
		others += statuses[status]
	}
	if statuses[done] != 1 || others != n-1 {
		p.Errorf("%d times at once, %s: %v", n, what, statuses)
	}
}

// is insists on a number in the database.
func (p *prober) is(what string, want int, query string) {
	p.Helper()
	if got := p.count(query); got != want {
		p.Errorf("%s: %d, want %d", what, got, want)
	}
}

func sessionsOf(name string) string {
	return "SELECT count(*) FROM scanlogin.web_session s JOIN scanlogin.account a ON a.id = s.account_id WHERE a.name = '" + name + "'"
}

func (p *prober) completedOnce(n int, name string) {
	p.Helper()
	who := p.person(true)
	p.tie(p.T, who, name)
	b := p.confirmed(who, "success")
	statuses, _ := p.atOnce(n, b, "/login/complete", content{})
	p.once("completed", n, statuses, http.StatusOK, http.StatusGone)
	p.is("sessions of a login that was completed", 1, sessionsOf(name))
}

func (p *prober) confirmedOnce(n int) {
	p.Helper()
	b, stream, code := p.asked(p.person(true))
	statuses, _ := p.atOnce(n, b, "/login/confirm", form("code", code))
	p.once("confirmed", n, statuses, http.StatusOK, http.StatusConflict)
	stream.expect("bind-required")
	fresh := fmt.Sprintf("new%d", n)
	statuses, _ = p.atOnce(n, b, "/user/signup", form("username", fresh, "password", password))
	p.once("signed up", n, statuses, http.StatusOK, http.StatusConflict, http.StatusGone)
	p.is("accounts of a name", 1, "SELECT count(*) FROM scanlogin.account WHERE name = '"+fresh+"'")
	p.is("sessions of who signed up", 1, sessionsOf(fresh))
}

func (p *prober) boundOnce(n int, name string) {
	p.Helper()
	who := p.person(true)
	b := p.confirmed(who, "bind-required")
	statuses, _ := p.atOnce(n, b, "/user/bind", form("username", name, "password", password))
	p.once("bound", n, statuses, http.StatusOK, http.StatusGone, http.StatusConflict)
	p.is("ties of a phone", 1, "SELECT count(*) FROM scanlogin.wechat_identity WHERE openid = '"+who.OpenID+"'")
	p.is("sessions of a login that was bound", 2, sessionsOf(name))
}

func (p *prober) revokedOnce(n int, name string) {
	p.Helper()
	s := story{T: p.T, world: p.world}
	b, other := s.signedIn(name, p.a), s.signedIn(name, p.b)
	id := s.current(other).ID
	statuses, _ := p.atOnce(n, b, "/user/sessions/revoke", form("id", id), "Accept: application/json")
	p.once("revoked", n, statuses, http.StatusOK, http.StatusNotFound)
	s.in("revoked", other, false)
	statuses, _ = p.atOnce(n, b, "/logout", content{})
	if statuses[http.StatusSeeOther] != n {
		p.Errorf("%d logouts at once: %v", n, statuses)
	}
	s.in("logged out", b, false)
}

func (p *prober) unboundOnce(n int, name string, b *browser) {
	p.Helper()
	before := p.written("unbound", name)
	statuses, _ := p.atOnce(n, b, "/user/unbind", content{}, "Accept: application/json")
	if statuses[http.StatusOK] != n {
		p.Errorf("%d unbinds at once: %v", n, statuses)
	}
	p.is("ties of who has unbound", 0, "SELECT count(*) FROM scanlogin.wechat_identity i JOIN scanlogin.account a ON a.id = i.account_id WHERE a.name = '"+name+"'")
	if after := p.written("unbound", name); after != before+1 {
		p.Errorf("unbound %d times at once: %d notices", n, after-before)
	}
}

// written is how many notices of a kind an account has, told or not: a phone of each test is
// out of reach.
func (p *prober) written(kind, name string) int {
	return p.count("SELECT count(*) FROM scanlogin.notice n JOIN scanlogin.account a ON a.id = n.account_id WHERE a.name = '" + name + "' AND kind = '" + kind + "'")
}

func (p *prober) readOnce(n int, name string, b *browser) {
	p.Helper()
	s := story{T: p.T, world: p.world}
	s.settled(name)
	ids, _ := s.shownNotices(b, p.b)
	if len(ids) == 0 {
		p.Fatal("nothing to read")
	}
	_, bodies := p.atOnce(n, b, "/user/notices", content{"application/json", `{"id":[` + strings.Join(ids, ",") + `]}`})
	seen := map[string]int{}
	for _, body := range bodies {
		seen[strings.TrimSpace(body)]++
	}
	all := 0
	for body, times := range seen {
		var read int
		if _, err := fmt.Sscanf(body, `{"seen":%d,"status":true}`, &read); err != nil {
			p.Fatalf("%q: %v", body, err)
		}
		all += read * times
	}
	if all != len(ids) {
		p.Errorf("%d notices read %d times in all: %v", len(ids), all, slices.Sorted(maps.Keys(seen)))
	}
}

func (p *prober) changedOnce(n int, name string, b *browser) {
	p.Helper()
	statuses, _ := p.atOnce(n, b, "/user/password", form("current", password, "password", "another horse"), "Accept: application/json")
	p.once("changed", n, statuses, http.StatusOK, http.StatusUnauthorized, http.StatusForbidden)
	p.is("changes of a password", 1, "SELECT password_changes FROM scanlogin.account WHERE name = '"+name+"'")
	p.is("sessions after a change", 1, sessionsOf(name))
	if written := p.written("password_changed", name); written != 1 {
		p.Errorf("%d notices of one change", written)
	}
}
