package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

// What must hold whatever happens, in whatever order and at once:
//
//   - no scene has two holders, and nobody's login ends but by an act that ends it;
//   - nobody is logged in as somebody whose scan wasn't of the code that their browser
//     showed at that time;
//   - no picture of a code, made ahead or not, shown or not, counts but for the browser
//     that shows it; an old one changes nothing;
//   - where a scan has to be confirmed, no browser is logged in whose number or code the
//     person who scanned didn't confirm, and three wrong answers are the end;
//   - a login completes once at most;
//   - a login that has ended never comes back.

func TestAnySequence(t *testing.T)     { anyInterleaving(t, 1) }
func TestAnyInterleaving(t *testing.T) { anyInterleaving(t, 4) }

// people scan: the first has an account already.
var people = []string{"ann", "bob", "cyd"}

const tiedPeople = 1

func anyInterleaving(t *testing.T, width int) {
	t.Parallel()
	w := newWorld(t, 1)
	var accounts []int64
	for _, name := range people {
		accounts = append(accounts, w.account(name))
	}
	dbs := []*postgres.DB{w.db, w.instance(), w.instance()}
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, w, dbs, accounts, rapid.Int32Range(2, 3).Draw(t, "scenes"))
		for range rapid.IntRange(4, 14).Draw(t, "steps") {
			acts := make([]act, rapid.IntRange(1, width).Draw(t, "at once"))
			for i := range acts {
				acts[i] = m.draw()
			}
			m.alone = width == 1
			told := make([]string, len(acts))
			atOnce(len(acts), func(i int) { told[i] = acts[i].run() })
			for i, a := range acts {
				t.Logf("%s: %s", a.name, told[i])
			}
			m.check(len(acts) == 1)
		}
	})
}

// act is one thing that somebody does; run says what came of it.
type act struct {
	name string
	run  func() string
}

// attempt is a login as its browser and the test know it.
type attempt struct {
	name   string
	key    login.Key
	ticket string

	// What was seen of it.
	mu       sync.Mutex
	streams  int            // opened, less those gone
	scanners map[string]int // who was told that the scan counts, by how often
	outcome  login.Outcome  // what they were told last
	asked    bool           // the scan has to be confirmed
	sure     bool           // and was
	declined bool           // or wasn't
	wrong    int            // answers
	ended    bool           // by time, by its last stream or by a session
	session  *session
	problems []string
}

// session is one that the test was given.
type session struct {
	hash    [32]byte
	account int64 // that it was bound to, 0 where the tie decides
}

// picture is a code that somebody may have a picture of: every one that WeChat made.
type picture struct {
	scene  int32
	ticket string
}

// scanned is a scan of a picture, whoever's code that is.
type scanned struct {
	picture
	person  string
	outcome login.Outcome
}

// model is what the test knows of one run.
type model struct {
	*rapid.T
	w        *world
	accounts []int64
	services []*login.Service
	born     atomic.Int32
	scenes   int32

	confirm login.Confirm // what a scan leads to

	alone bool // one act at a time

	mu       sync.Mutex
	attempts []*attempt
	pictures []picture
	scans    []scanned // of pictures, since the last check
	missed   int       // claims refused, since the last check
}

func newModel(t *rapid.T, w *world, dbs []*postgres.DB, accounts []int64, scenes int32) *model {
	w.exec("UPDATE scanlogin.scene SET login = NULL, state = 'expired', ticket = '', openid = NULL, expires_at = 'epoch', ready_ticket = '', ready_url = '', ready_until = 'epoch'")
	w.exec("DELETE FROM scanlogin.confirmation")
	w.exec("DELETE FROM scanlogin.web_session")
	w.exec("DELETE FROM scanlogin.wechat_identity")
	w.resize(scenes)
	for i := range tiedPeople {
		w.tie(people[i], accounts[i])
	}
	m := &model{T: t, w: w, accounts: accounts, scenes: scenes}
	m.confirm = rapid.SampledFrom([]login.Confirm{login.ConfirmOff, login.ConfirmReply, login.ConfirmCode}).Draw(t, "confirm")
	for _, db := range dbs {
		m.services = append(m.services, &login.Service{
			Store: postgres.Logins{DB: db, AppID: appID},
			Tickets: func(_ context.Context, scene int32, _ time.Duration) (login.Ticket, error) {
				return m.newCode(scene), nil
			},
			Notify:   func(context.Context, login.ID) error { return nil },
			Confirm:  m.confirm,
			SceneTTL: long, BindTTL: long, SessionTTL: long,
			Logger: slog.New(slog.DiscardHandler),
		})
	}
	return m
}

// newCode makes one, of which everybody gets a picture.
func (m *model) newCode(scene int32) login.Ticket {
	ticket := fmt.Sprintf("code %d of scene %d", m.born.Add(1), scene)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pictures = append(m.pictures, picture{scene, ticket})
	return login.Ticket{Ticket: ticket, URL: ticket}
}

// draw decides on one act; what it meets when it runs is another matter.
func (m *model) draw() act {
	s := rapid.SampledFrom(m.services).Draw(m.T, "instance")
	switch rapid.IntRange(0, 5).Draw(m.T, "about") {
	case 0:
		scene := rapid.Int32Range(1, m.scenes).Draw(m.T, "scene")
		ttl := rapid.SampledFrom([]time.Duration{long / 2, 2 * long}).Draw(m.T, "ttl")
		fresh := rapid.SampledFrom([]time.Duration{0, long, 3 * long}).Draw(m.T, "fresh")
		return act{fmt.Sprintf("a code is made ahead for scene %d", scene), func() string { return m.prepare(scene, ttl, fresh) }}
	case 1:
		if len(m.pictures) == 0 {
			break
		}
		p := rapid.SampledFrom(m.pictures).Draw(m.T, "picture")
		if rapid.IntRange(0, 3).Draw(m.T, "forged") == 0 {
			p.scene = rapid.Int32Range(1, m.scenes).Draw(m.T, "scene")
		}
		person := rapid.SampledFrom(people).Draw(m.T, "person")
		return act{fmt.Sprintf("%s scans a picture of %s at scene %d", person, p.ticket, p.scene), func() string { return m.scanPicture(s, p, person) }}
	}
	if len(m.attempts) == 0 {
		return act{"begin", func() string { return m.begin(s) }}
	}
	// The youngest most of all: they hold the scenes that the older ones held.
	back := rapid.IntRange(0, min(5, len(m.attempts)-1)).Draw(m.T, "login")
	a := m.attempts[len(m.attempts)-1-back]
	person := rapid.SampledFrom(people).Draw(m.T, "person")
	account := rapid.SampledFrom(m.accounts).Draw(m.T, "account")
	// A browser with the key of another login, of the same scene or not.
	other := rapid.SampledFrom(m.attempts).Draw(m.T, "scene of")
	foreign := login.Key{Scene: other.key.Scene, Secret: a.key.Secret}
	acts := []act{
		{"begin", func() string { return m.begin(s) }},
		{"begin", func() string { return m.begin(s) }},
		{"four begin", func() string { return m.beginTogether(s, 4) }},
		{a.name + " resumes", func() string { return m.resume(s, a) }},
		{a.name + " loses a stream", func() string { return m.leave(s, a, 1) }},
		{a.name + " loses all streams", func() string { return m.leave(s, a, 3) }},
		{a.name + " runs out of time", func() string { return m.expire(a) }},
		{person + " scans " + a.name, func() string { return m.scan(s, a, person) }},
		{person + " scans " + a.name, func() string { return m.scan(s, a, person) }},
		{person + " scans " + a.name, func() string { return m.scan(s, a, person) }},
		{a.name + " completes", func() string { return m.complete(s, a, a.key) }},
		{a.name + " completes", func() string { return m.complete(s, a, a.key) }},
		{a.name + " completes at the scene of " + other.name, func() string { return m.complete(s, a, foreign) }},
		{a.name + " binds", func() string { return m.bind(s, a, a.key, account) }},
		{a.name + " binds", func() string { return m.bind(s, a, a.key, account) }},
		{a.name + " binds at the scene of " + other.name, func() string { return m.bind(s, a, foreign, account) }},
	}
	if m.confirm != login.ConfirmOff {
		answering := rapid.SampledFrom([]string{"0", "7"}).Draw(m.T, "answering")
		acts = append(acts,
			act{person + " answers with the number of " + a.name, func() string { return m.answer(s, person, m.secret(a)) }},
			act{person + " answers with the number of " + other.name, func() string { return m.answer(s, person, m.secret(other)) }},
			act{person + " answers " + answering, func() string { return m.answer(s, person, answering) }},
			act{a.name + " types its code", func() string { return m.typeCode(s, a, a.key, m.secret(a)) }},
			act{a.name + " types the code of " + other.name, func() string { return m.typeCode(s, a, a.key, m.secret(other)) }},
			act{a.name + " types its code at the scene of " + other.name, func() string { return m.typeCode(s, a, foreign, m.secret(a)) }},
			act{a.name + " types another code", func() string { return m.typeCode(s, a, a.key, "none") }},
		)
	}
	// What comes next in the story comes as often as all else together: far into it is
	// where the guards stand.
	var next []act
	for _, act := range acts {
		if slices.Contains(a.next(person), act.name) {
			next = append(next, act)
		}
	}
	if len(next) > 0 && rapid.Bool().Draw(m.T, "as usual") {
		acts = next
	}
	return rapid.SampledFrom(acts).Draw(m.T, "act")
}

// next is what is usually done with the login, in time or a little late.
func (a *attempt) next(person string) []string {
	switch {
	case a.session != nil:
		return nil
	case a.outcome == login.ToConfirm && !a.sure:
		return []string{
			person + " answers with the number of " + a.name, person + " answers 0", person + " answers 7",
			a.name + " types its code", a.name + " types another code", a.name + " completes", a.name + " binds",
		}
	case a.outcome == login.ToConfirm:
		return []string{a.name + " completes", a.name + " binds"}
	case a.outcome == login.LoggedIn:
		return []string{a.name + " completes", a.name + " runs out of time"}
	case a.outcome == login.MustBind:
		return []string{a.name + " binds", a.name + " runs out of time"}
	}
	return []string{person + " scans " + a.name}
}

func (m *model) begin(s *login.Service) string {
	secret := login.NewSecret()
	l, err := s.Begin(m.w.t.Context(), secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, login.ErrExhausted) {
		m.missed++
		return "no scene"
	}
	a := &attempt{
		name: fmt.Sprintf("login %d", len(m.attempts)+1), key: login.Key{Scene: l.Scene, Secret: secret},
		ticket: l.Ticket.Ticket, streams: 1, scanners: map[string]int{},
	}
	if err != nil {
		a.problem("begin: %v", err)
	}
	m.attempts = append(m.attempts, a)
	return fmt.Sprintf("%s holds scene %d", a.name, l.Scene)
}

// beginTogether starts more logins than one instance claims for in a statement of its own.
func (m *model) beginTogether(s *login.Service, n int) string {
	told := make([]string, n)
	atOnce(n, func(i int) { told[i] = m.begin(s) })
	return strings.Join(told, ", ")
}

func (m *model) resume(s *login.Service, a *attempt) string {
	was := a.wasEnded()
	l, err := s.Resume(m.w.t.Context(), a.key)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && was:
		a.problem("was resumed after its end")
	case err == nil && l.Ticket.Ticket != a.ticket:
		a.problem("was resumed with the code %q, not %q", l.Ticket.Ticket, a.ticket)
	case err == nil:
		a.streams++
	case !errors.Is(err, login.ErrEnded):
		a.problem("resume: %v", err)
	}
	return errName(err)
}

func (m *model) leave(s *login.Service, a *attempt, streams int) string {
	err := s.Gone(m.w.t.Context(), slices.Repeat([]login.Ref{a.key.Ref()}, streams))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.problem("leave: %v", err)
	}
	a.streams -= streams
	return errName(err)
}

func (m *model) expire(a *attempt) string {
	tag, err := m.w.admin.Exec(m.w.t.Context(), `UPDATE scanlogin.scene SET expires_at = now() - interval '1 s'
		WHERE id = $1 AND login = $2 AND state NOT IN ('completed', 'expired') AND expires_at > now()`, a.key.Scene, a.key.Ref().ID)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.problem("expire: %v", err)
		return err.Error()
	}
	if tag.RowsAffected() == 1 {
		a.ended = true
		return "ended"
	}
	return "too late"
}

func (m *model) scan(s *login.Service, a *attempt, person string) string {
	was, completed := a.wasEnded(), a.hasSession()
	o, err := s.Scanned(m.w.t.Context(), login.Scan{Scene: a.key.Scene, Ticket: a.ticket, OpenID: person})
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil:
		a.problem("scan: %v", err)
	case counts(o):
		// A repeat may come after the completion; a first scan may not come after an end.
		if was && !completed {
			a.problem("was scanned by %s after its end: %v", person, o)
		}
		a.told(person, o)
	}
	return o.String()
}

// counts tells whether somebody was told that their scan has led to something.
func counts(o login.Outcome) bool {
	return o == login.LoggedIn || o == login.MustBind || o == login.ToConfirm
}

// told notes what somebody was told of their scan. Who scans again after having confirmed is
// told what came of that. It needs the lock.
func (a *attempt) told(person string, o login.Outcome) {
	a.asked = a.asked || o == login.ToConfirm
	if a.outcome != login.Stale && a.outcome != o && !a.asked {
		a.problem("told %s %v and %v", person, a.outcome, o)
	}
	if !a.asked {
		a.outcome = o
	} else if a.outcome == login.Stale {
		a.outcome = login.ToConfirm
	}
	a.scanners[person]++
}

// secret is what the login's page shows, or what the person was sent.
func (m *model) secret(a *attempt) (secret string) {
	err := m.w.admin.QueryRow(m.w.t.Context(), "SELECT coalesce((SELECT secret FROM scanlogin.confirmation WHERE login = $1), '5')", a.key.Ref().ID).Scan(&secret)
	if err != nil {
		m.Errorf("secret: %v", err)
	}
	return secret
}

// answer is a message of somebody.
func (m *model) answer(s *login.Service, person, text string) string {
	v, err := s.Answered(m.w.t.Context(), login.Answer{OpenID: person, Text: text, Push: newPush()})
	if errors.Is(err, login.ErrNotAsked) {
		return "not asked"
	}
	if err != nil {
		m.Errorf("answer: %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.attempts {
		a.judged(person, v, m.alone)
	}
	return v.Outcome.String()
}

// judged notes what a message has led to, if this login was among those that it was about.
func (a *attempt) judged(person string, v login.Verdict, alone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := slices.Contains(v.Changed, a.key.Ref().ID)
	pending := a.scanners[person] > 0 && a.asked && !a.sure && !a.ended
	if wrong := v.Outcome == login.WrongNumber || v.Outcome == login.WrongThrice; wrong && pending && alone {
		if a.wrong++; (a.wrong >= login.MaxTries) != changed {
			a.problem("has had %d wrong answers; that it ended is %v", a.wrong, changed)
		}
	}
	switch {
	case !changed:
	case alone && !pending:
		a.problem("was answered by %s, who isn't asked: %v", person, v.Outcome)
	case v.Outcome == login.LoggedIn, v.Outcome == login.MustBind:
		a.sure, a.outcome = true, v.Outcome
	default:
		a.declined, a.ended = true, true
	}
}

// typeCode is a code that is typed into a browser.
func (m *model) typeCode(s *login.Service, a *attempt, k login.Key, code string) string {
	own := m.secret(a)
	left, err := s.ConfirmCode(m.w.t.Context(), k, code)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && k != a.key:
		a.problem("was confirmed with a key of another scene")
	case err == nil && m.alone && own != code:
		a.problem("was confirmed by the code %s, not %s", code, own)
	case err == nil && m.confirm != login.ConfirmCode:
		a.problem("was confirmed by a code that nobody was sent")
	case err == nil:
		a.sure = true
	case errors.Is(err, login.ErrCode):
		if a.wrong++; a.wrong > login.MaxTries || m.alone && left != login.MaxTries-a.wrong {
			a.problem("has had %d wrong codes, with %d left", a.wrong, left)
		}
		if left == 0 {
			a.declined, a.ended = true, true
		}
	case !errors.Is(err, login.ErrNotAsked) && !errors.Is(err, login.ErrEnded):
		a.problem("code: %v", err)
	}
	return errName(err)
}

// prepare makes a code ahead, and renews one that is not fresh.
func (m *model) prepare(scene int32, ttl, fresh time.Duration) string {
	err := postgres.Reserve{DB: m.w.db}.Prepare(m.w.t.Context(), scene, m.newCode(scene), ttl, fresh)
	if err != nil {
		m.Errorf("prepare: %v", err)
	}
	return errName(err)
}

// scanPicture scans a code as anybody can who has a picture of it; check tells what it
// should have led to.
func (m *model) scanPicture(s *login.Service, p picture, person string) string {
	before, a := m.rows(), m.shows(p)
	over := a != nil && a.wasEnded() && !a.hasSession()
	o, err := s.Scanned(m.w.t.Context(), login.Scan{Scene: p.scene, Ticket: p.ticket, OpenID: person})
	if err != nil {
		m.Errorf("scan of a picture: %v", err)
	}
	if over && counts(o) {
		m.Errorf("a picture of a code that has ended was told %v", o)
	}
	if m.alone && (a == nil || a.ended || len(a.scanners) > 0) {
		if after := m.rows(); after != before {
			m.Errorf("the scan of an old code changed\n%s\nto\n%s", before, after)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scans = append(m.scans, scanned{p, person, o})
	return o.String()
}

// rows is all that the scenes are, where nobody else changes them.
func (m *model) rows() (all string) {
	if !m.alone {
		return ""
	}
	if err := m.w.admin.QueryRow(m.w.t.Context(), "SELECT string_agg(s::text, E'\n' ORDER BY id) FROM scanlogin.scene s").Scan(&all); err != nil {
		m.Errorf("rows: %v", err)
	}
	return all
}

// shows is the login that showed the code, if one did.
func (m *model) shows(p picture) *attempt {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.attempts {
		if a.ticket == p.ticket && a.key.Scene == p.scene {
			return a
		}
	}
	return nil
}

// checkPictures finds out whose codes the pictures were of.
func (m *model) checkPictures() {
	for _, s := range m.scans {
		if !counts(s.outcome) {
			continue
		}
		a := m.shows(s.picture)
		if a == nil {
			m.Errorf("a picture of %s at scene %d, which no browser showed, was told %v", s.ticket, s.scene, s.outcome)
			continue
		}
		a.told(s.person, s.outcome)
	}
	m.scans = nil
	shown := map[string]*attempt{}
	for _, a := range m.attempts {
		if other := shown[a.ticket]; other != nil {
			a.problem("shows the code of %s", other.name)
		}
		shown[a.ticket] = a
	}
}

func (m *model) complete(s *login.Service, a *attempt, k login.Key) string {
	hash := newHash()
	return a.end(k, &session{hash: hash}, login.LoggedIn, func() error { return s.Complete(m.w.t.Context(), k, login.Session{Hash: hash}) })
}

func (m *model) bind(s *login.Service, a *attempt, k login.Key, account int64) string {
	hash := newHash()
	return a.end(k, &session{hash, account}, login.MustBind, func() error { return s.Bind(m.w.t.Context(), k, login.Owner{ID: account}, login.Session{Hash: hash}) })
}

func (a *attempt) end(k login.Key, given *session, needs login.Outcome, act func() error) string {
	was := a.wasEnded()
	err := act()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && k != a.key:
		a.problem("ended with a key of another scene")
	case err == nil && was:
		a.problem("ended again after its end")
	case err == nil && a.session != nil:
		a.problem("became two sessions")
	case err != nil && !errors.Is(err, login.ErrEnded) && !errors.Is(err, login.ErrNotReady) && (!errors.Is(err, login.ErrTied) || needs != login.MustBind):
		a.problem("end: %v", err)
	}
	if err == nil {
		a.session, a.ended = given, true
	}
	return errName(err)
}

func (a *attempt) wasEnded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended
}

func (a *attempt) hasSession() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.session != nil
}

func (a *attempt) problem(format string, args ...any) {
	a.problems = append(a.problems, a.name+" "+fmt.Sprintf(format, args...))
}

// check compares what the test knows with what the database says, when nothing moves.
func (m *model) check(alone bool) {
	m.checkPictures()
	states := m.states()
	accounts, ties := m.sessions(), m.ties()
	holders := map[int32]*attempt{}
	live := 0
	for _, a := range m.attempts {
		if len(a.scanners) == 0 && a.streams <= 0 {
			a.ended = true // its last stream has gone while it waited
		}
		if got, want := states[a.key.Ref().ID], a.want(); !slices.Contains(want, got) {
			a.problem("is %v, want %v", got, want)
		}
		if len(a.scanners) > 1 {
			a.problem("counts the scans of %v", a.scanners)
		}
		if !a.ended {
			live++
			if other := holders[a.key.Scene]; other != nil {
				a.problem("holds scene %d, as %s does", a.key.Scene, other.name)
			}
			holders[a.key.Scene] = a
		}
		if a.session != nil {
			a.checkSession(accounts, ties)
			delete(accounts, a.session.hash)
		}
		for _, p := range a.problems {
			m.Error(p)
		}
	}
	if len(accounts) > 0 {
		m.Errorf("%d sessions that nobody was given", len(accounts))
	}
	if alone && m.missed > 0 && live < int(m.scenes) {
		m.Errorf("no scene was free where %d of %d are held", live, m.scenes)
	}
	m.missed = 0
	if most := m.mostWrong(); most >= login.MaxTries {
		m.Errorf("a login that goes on has had %d wrong answers", most)
	}
	if m.Failed() {
		m.FailNow()
	}
}

// want is the states that the login may be in.
func (a *attempt) want() []login.State {
	switch {
	case a.session != nil:
		return []login.State{login.Completed, login.Expired} // the scene may have the next holder by now
	case a.declined:
		return []login.State{login.Declined, login.Expired} // as above
	case a.ended:
		return []login.State{login.Expired}
	case a.outcome == login.ToConfirm && a.sure:
		return []login.State{login.Authenticated, login.BindRequired}
	case a.outcome == login.ToConfirm:
		return []login.State{login.Scanned}
	case a.outcome == login.LoggedIn:
		return []login.State{login.Authenticated}
	case a.outcome == login.MustBind:
		return []login.State{login.BindRequired}
	}
	return []login.State{login.Waiting}
}

// checkSession is who is logged in: the one who scanned this browser's own code.
func (a *attempt) checkSession(accounts map[[32]byte]int64, ties map[string]int64) {
	account, there := accounts[a.session.hash]
	if !there {
		a.problem("was given a session that isn't there")
	}
	if a.asked && !a.sure {
		a.problem("became a session of account %d, and nobody has confirmed it", account)
	}
	if len(a.scanners) == 0 {
		a.problem("became a session of account %d, and nobody has scanned it", account)
	}
	for person := range a.scanners {
		if ties[person] != account {
			a.problem("was scanned by %s, who has account %d, and became a session of %d", person, ties[person], account)
		}
	}
	if bound := a.session.account; bound != 0 && bound != account {
		a.problem("was bound to account %d, and became a session of %d", bound, account)
	}
}

func (m *model) states() map[login.ID]login.State {
	var watches []login.Watch
	for _, a := range m.attempts {
		watches = append(watches, login.Watch{Ref: a.key.Ref()})
	}
	found, err := m.services[0].Look(m.w.t.Context(), watches)
	if err != nil {
		m.Fatal(err)
	}
	states := map[login.ID]login.State{}
	for _, l := range found {
		states[l.ID] = l.State
	}
	return states
}

// mostWrong is how many wrong answers any question has had.
func (m *model) mostWrong() (most int) {
	if err := m.w.admin.QueryRow(m.w.t.Context(), "SELECT coalesce(max(wrong), 0) FROM scanlogin.confirmation").Scan(&most); err != nil {
		m.Fatal(err)
	}
	return most
}

func (m *model) sessions() map[[32]byte]int64 {
	accounts := map[[32]byte]int64{}
	for hash, account := range accountsBy[[]byte](m, "SELECT token_hash, account_id FROM scanlogin.web_session") {
		accounts[[32]byte(hash)] = account
	}
	return accounts
}

func (m *model) ties() map[string]int64 {
	return maps.Collect(accountsBy[string](m, "SELECT openid, account_id FROM scanlogin.wechat_identity"))
}

// accountsBy reads rows of a key and an account.
func accountsBy[K any](m *model, query string) iter.Seq2[K, int64] {
	return func(yield func(K, int64) bool) {
		rows, err := m.w.admin.Query(m.w.t.Context(), query)
		if err != nil {
			m.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var key K
			var account int64
			if err := rows.Scan(&key, &account); err != nil {
				m.Fatal(err)
			}
			if !yield(key, account) {
				return
			}
		}
		if rows.Err() != nil {
			m.Fatal(rows.Err())
		}
	}
}
