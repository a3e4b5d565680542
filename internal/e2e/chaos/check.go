package main

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// What must not happen, in the words of the report.
const (
	badLost     = "acknowledged scans that never reached a browser"
	badOther    = "browsers logged in as someone else"
	badTwice    = "logins completed twice"
	badHeld     = "scenes held twice"
	badStale    = "scans of ended logins that were acknowledged"
	badEarly    = "codes that ended before their time"
	badSuccess  = "successes without a session"
	badSession  = "sessions lost"
	badExit     = "exits that were not clean"
	badAnswer   = "answers that the contract doesn't know"
	badTooQuiet = "runs that show nothing"
)

func badKinds() []string {
	return []string{
		badLost, badOther, badTwice, badHeld, badStale, badEarly, badSuccess,
		badSession, badExit, badAnswer, badTooQuiet,
	}
}

const (
	// slack is how much the two ends of a connection may differ about when it broke.
	slack = 2 * time.Second
	// afterFault is how long an answer may still be a fault's doing: a request may have
	// waited for so long.
	afterFault = 10 * time.Second
)

// violation is something that must not happen, with the lines that show it.
type violation struct {
	kind  string
	what  string
	lines []entry
}

// report is what a journal says.
type report struct {
	seed       uint64
	length     time.Duration
	browsers   int
	codes      int // shown, each a login
	finished   int // logins that ended in a session
	scans      int // pushes
	unanswered int // pushes that WeChat gave up
	acked      int // pushes acknowledged as logged_in or must_bind
	stale      int // pushes about logins that had ended, and were refused
	answerLost int // logins whose session was made, but whose answer was lost with a connection
	broken     int // streams
	faults     map[string]int
	planned    int
	latencies  latencies
	violations []violation
}

func (r *report) count(kind string) (n int) {
	for _, v := range r.violations {
		if v.kind == kind {
			n++
		}
	}
	return n
}

// check reads a journal. It knows nothing but what is written there.
func check(entries []entry) *report {
	c := &checker{
		entries: entries,
		report:  report{faults: map[string]int{}, latencies: latencies{}},
		logins:  map[string]*login{}, visits: map[int]*visit{}, starts: map[int]*scanStart{},
		open: map[int]int{}, holders: map[int]*login{},
	}
	for n := range entries {
		c.read(&entries[n])
	}
	c.judge()
	return &c.report
}

// login is what the journal says of one ticket.
type login struct {
	ticket   string
	scene    int
	by       *visit // who showed it first
	seen     int64  // when its code was shown first
	until    int64  // its code is good at least until here, if nothing ends it before
	latest   int64  // after this the code has expired for certain
	ended    int64  // when its end was told, or its browser left for good; 0: not
	told     *entry // the first success or bind-required
	expired  *entry
	answered int64 // when it was completed; 0: not
	sets     []entry
	sessions []entry
	scans    []scan
	tries    []entry // to complete it or to bind
	lines    []entry
}

// scan is a push and its outcome.
type scan struct {
	entry
	start *scanStart
}

type scanStart struct {
	entry
	offline int64 // since when the browser had no stream then; 0: it had one
}

// visit is what the journal says of one browser.
type visit struct {
	n         int
	login     *login // the present one
	connected map[int]bool
	offline   int64 // since when no tab is connected
	longest   int64 // that it was so with the present login
	gone      int64 // when it left for good; 0: it didn't
	aways     []window
	done      bool
}

type window struct{ start, end int64 }

func (w window) overlaps(start, end int64) bool { return w.start <= end && start <= w.end }

type checker struct {
	report
	entries []entry
	timing  timing
	logins  map[string]*login
	visits  map[int]*visit
	starts  map[int]*scanStart
	windows []window    // of faults
	open    map[int]int // windows by the numbers of faults
	holders map[int]*login
	end     int64
}

func (c *checker) bad(kind, what string, lines ...entry) {
	c.violations = append(c.violations, violation{kind, what, lines})
}

// read takes in one line.
func (c *checker) read(e *entry) {
	c.end = e.At
	v := c.visit(e.Browser)
	if l := c.logins[e.Ticket]; l != nil {
		l.lines = append(l.lines, *e)
	}
	switch e.Kind {
	case kindRun:
		c.seed, c.planned = e.Seed, e.Planned
		if e.Timing != nil {
			c.timing = *e.Timing
		}
	case kindOpen:
		if v.offline == 0 && len(v.connected) == 0 {
			v.offline = e.At
		}
	case kindQR:
		c.shown(v, e)
	case kindEvent:
		c.event(v, e)
	case kindLost:
		c.broken++
		v.disconnect(e.Tab, e.At)
	case kindAnswer:
		v.disconnect(e.Tab, e.At)
		c.status(e)
	case kindLeave:
		c.left(v, e)
	case kindBack:
		if n := len(v.aways); n > 0 {
			v.aways[n-1].end = e.At
		}
	case kindDone:
		v.done = true
	case kindScanStart:
		s := &scanStart{entry: *e}
		if l := c.logins[e.Ticket]; l != nil {
			s.offline = l.by.offline
		}
		c.starts[e.Scan] = s
		c.scans++
	case kindScan:
		c.scanned(e)
	case kindComplete, kindBind:
		c.completed(e)
	case kindSession:
		c.session(e)
	case kindFault:
		c.fault(e)
	case kindExit:
		c.exit(e)
	}
}

func (c *checker) visit(n int) *visit {
	v := c.visits[n]
	if v == nil && n > 0 {
		v = &visit{n: n, connected: map[int]bool{}}
		c.visits[n] = v
	}
	return v
}

// connect says that a tab has heard of the server.
func (v *visit) connect(tab int, at int64) {
	if v.offline > 0 {
		v.longest = max(v.longest, at-v.offline)
	}
	v.connected[tab], v.offline = true, 0
}

func (v *visit) disconnect(tab int, at int64) {
	delete(v.connected, tab)
	if len(v.connected) == 0 && v.offline == 0 {
		v.offline = at
	}
}

// shown: a code is shown, for the first time or once more.
func (c *checker) shown(v *visit, e *entry) {
	l := c.logins[e.Ticket]
	if l == nil {
		l = &login{ticket: e.Ticket, scene: e.Scene, by: v, seen: e.At, lines: []entry{*e}}
		c.logins[e.Ticket] = l
		c.codes++
	}
	if l.by != v {
		c.bad(badHeld, fmt.Sprintf("browsers %d and %d show the same ticket", l.by.n, v.n), append(l.head(), *e)...)
		return
	}
	if v.login != l {
		v.login, v.longest, v.offline = l, 0, 0
		c.hold(l, e)
	}
	if h := c.holders[l.scene]; h != l && e.Asked > h.seen {
		c.bad(badHeld, fmt.Sprintf("browser %d still has scene %d, which browser %d was given", v.n, l.scene, h.by.n), append(h.head(), l.lines...)...)
	}
	v.connect(e.Tab, e.At)
	// The seconds left were true at some moment between the question and the answer,
	// and rounded up.
	l.until = max(l.until, e.Asked+int64(e.ExpiresIn-1)*1e6)
	l.latest = max(l.latest, e.At+int64(e.ExpiresIn)*1e6)
}

// hold: a scene goes on to another login, and nobody may be holding it then.
func (c *checker) hold(l *login, e *entry) {
	if h := c.holders[l.scene]; h != nil && h.by != l.by && c.holds(h, e.At) {
		c.bad(badHeld, fmt.Sprintf("browser %d is given scene %d, which browser %d has", l.by.n, l.scene, h.by.n), append(h.lines, *e)...)
	}
	c.holders[l.scene] = l
}

// holds tells whether the login has its scene for certain at that time: from when its
// code is shown until its time is over, its end is told, or its browser has been gone for
// as long as the grace. One that was scanned keeps its scene for longer; nobody knows how
// long from outside, so nothing is said of that.
func (c *checker) holds(l *login, at int64) bool {
	away := l.by.offline > 0 && at > l.by.offline+c.patience()
	return l.by.login == l && l.ended == 0 && at < l.until && !away
}

func (c *checker) event(v *visit, e *entry) {
	v.connect(e.Tab, e.At)
	l := v.login
	if l == nil || l.ticket != e.Ticket {
		return
	}
	switch e.Name {
	case "success", "bind-required":
		if l.told == nil {
			l.told = e
		}
		l.end(e.At)
	case "expired":
		v.disconnect(e.Tab, e.At)
		if l.expired == nil {
			l.expired = e
		}
		l.end(e.At)
		if l.told == nil && e.At < l.until && v.longest < c.patience() && len(v.aways) == 0 {
			c.bad(badEarly, fmt.Sprintf("%.1f s before its time", float64(l.until-e.At)/1e6), l.lines...)
		}
	case "unavailable":
		v.disconnect(e.Tab, e.At)
	}
}

// patience is for how long a browser may be away and find its code again for certain.
func (c *checker) patience() int64 { return (c.timing.Grace - slack).Microseconds() }

func (l *login) end(at int64) {
	if l.ended == 0 {
		l.ended = at
	}
}

// head is enough to know a login by.
func (l *login) head() []entry { return slices.Clone(l.lines[:min(len(l.lines), 12)]) }

func (c *checker) left(v *visit, e *entry) {
	for tab := range v.connected {
		v.disconnect(tab, e.At)
	}
	if v.offline == 0 {
		v.offline = e.At
	}
	if e.Detail != "gone" {
		v.aways = append(v.aways, window{e.At, 1 << 62})
		return
	}
	v.gone = e.At
	if v.login != nil {
		v.login.end(e.At)
	}
}

func (c *checker) scanned(e *entry) {
	start := c.starts[e.Scan]
	l := c.logins[e.Ticket]
	if start == nil || l == nil {
		c.bad(badTooQuiet, "a scan of a code that nobody has shown", *e)
		return
	}
	if !e.Acknowledged && len(e.Statuses) > 0 {
		c.unanswered++
	}
	l.scans = append(l.scans, scan{*e, start})
}

func (c *checker) completed(e *entry) {
	l := c.logins[e.Ticket]
	if l == nil {
		c.bad(badAnswer, "a login was completed that nobody has shown", *e)
		return
	}
	l.tries = append(l.tries, *e)
	if e.Set {
		l.sets = append(l.sets, *e)
	}
	switch e.Status {
	case http.StatusOK:
		if l.answered == 0 {
			l.answered = e.At
		}
	case 0, http.StatusConflict, http.StatusGone:
	default:
		c.status(e)
	}
}

func (c *checker) session(e *entry) {
	if e.Status != http.StatusOK {
		c.bad(badSession, fmt.Sprintf("status %d for a session that was just made", e.Status), *e)
		return
	}
	if l := c.logins[e.Ticket]; l != nil {
		l.sessions = append(l.sessions, *e)
	}
}

func (c *checker) fault(e *entry) {
	if e.Phase == "start" {
		c.faults[e.Name]++
		c.open[e.Fault] = len(c.windows)
		c.windows = append(c.windows, window{e.At, 1 << 62})
		return
	}
	c.windows[c.open[e.Fault]].end = e.At
}

func (c *checker) exit(e *entry) {
	switch {
	case e.Detail == faultKill:
	case e.Detail == "itself" && e.Code == 1 && c.faulty(e.At-afterFault.Microseconds(), e.At):
		// It could not start while the database was away; its supervisor tries again.
	case e.Detail == "itself":
		c.bad(badExit, fmt.Sprintf("instance %s ended by itself, exit code %d", e.Name, e.Code), *e)
	case e.Code != 0 || e.Took > c.timing.Exit.Microseconds():
		c.bad(badExit, fmt.Sprintf("instance %s: exit code %d, %.1f s after SIGTERM", e.Name, e.Code, float64(e.Took)/1e6), *e)
	}
}

// faulty tells whether anything was broken between these times.
func (c *checker) faulty(start, end int64) bool {
	return slices.ContainsFunc(c.windows, func(w window) bool { return w.overlaps(start, end) })
}

// status judges an answer that is no success.
func (c *checker) status(e *entry) {
	switch {
	case e.From == "" && (e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout):
		return // the balancer found no instance, or lost it
	case e.Kind == kindAnswer && e.Status == http.StatusNoContent && e.Detail == "last-event-id":
		return
	case e.Kind != kindAnswer && e.Status >= http.StatusInternalServerError &&
		c.faulty(e.Asked-afterFault.Microseconds(), e.At):
		return // the page tries again
	}
	c.bad(badAnswer, fmt.Sprintf("%s: status %d from %q", e.Kind, e.Status, e.From), *e)
}

// judge looks at each login when all is known.
func (c *checker) judge() {
	c.length = time.Duration(c.end) * time.Microsecond
	c.browsers = len(c.visits)
	logins := make([]*login, 0, len(c.logins))
	for _, l := range c.logins {
		logins = append(logins, l)
	}
	slices.SortFunc(logins, func(a, b *login) int { return int(a.seen - b.seen) })
	for _, l := range logins {
		c.delivered(l)
		c.owned(l)
		c.once(l)
	}
	c.enough()
}

// entitled tells whether the phone was told that it has logged in, or is about to.
func (s *scan) entitled() bool {
	return s.Acknowledged && (s.Reply == "logged_in" || s.Reply == "must_bind")
}

// delivered: a scan that was acknowledged as a login reaches the browser that shows the
// code, sooner or later: within the time that a scanned login has (BIND_TTL), or by the
// end of the run. A browser that its owner closed for good needs to hear nothing. The
// delay is measured from the first such scan.
func (c *checker) delivered(l *login) {
	first := true
	over := l.over()
	for n := range l.scans {
		s := &l.scans[n]
		if !s.entitled() {
			if s.Acknowledged && s.start.At > over {
				c.stale++
			}
			continue
		}
		c.acked++
		if first := l.firstTry(s.Person); first > over && (l.told == nil || !l.owns(s.Person)) {
			c.bad(badStale, fmt.Sprintf("%s was told %s after the login's end", s.Person, s.Reply), l.lines...)
		}
		if l.told == nil && l.by.gone == 0 {
			c.bad(badLost, fmt.Sprintf("browser %d never heard of it", l.by.n), l.lines...)
		}
		if first && l.told != nil {
			c.latencies.add(c.class(l, s), l.told.At-s.At, l.told.At-s.start.At)
		}
		first = false
	}
}

// over is from when on the login had ended for certain.
func (l *login) over() int64 {
	at := l.latest
	if l.answered > 0 {
		at = min(at, l.answered)
	}
	if l.expired != nil {
		at = min(at, l.expired.At)
	}
	return at
}

// firstTry is when that person scanned this code first.
func (l *login) firstTry(person string) int64 {
	for _, s := range l.scans {
		if s.Person == person {
			return s.start.At
		}
	}
	return 0
}

// owns tells whether it was this person who was logged in here.
func (l *login) owns(person string) bool {
	return slices.ContainsFunc(l.sessions, func(e entry) bool { return e.User == person })
}

// class says where a delay belongs: one that a fault may have caused, one of calm times,
// or one of a browser that its owner had closed meanwhile.
func (c *checker) class(l *login, s *scan) string {
	start := s.start.At
	if s.start.offline > 0 {
		start = min(start, s.start.offline)
	}
	if slices.ContainsFunc(l.by.aways, func(w window) bool { return w.overlaps(s.start.At-slack.Microseconds(), l.told.At) }) {
		return classAway
	}
	if c.faulty(start, l.told.At) {
		return classInside
	}
	return classOutside
}

// owned: whose session it is, a scan of the very code that this browser showed has
// decided: that of the one person who was told so, or, where WeChat's push was never
// answered, that of somebody whose push it was. Whoever was told that the code is used or
// has expired, and nothing else, is never logged in.
func (c *checker) owned(l *login) {
	told, unsure := map[string]bool{}, map[string]bool{}
	for n := range l.scans {
		switch s := &l.scans[n]; {
		case s.entitled():
			told[s.Person] = true
		case !s.Acknowledged && len(s.Statuses) > 0: // else the phone itself has refused the code
			unsure[s.Person] = true
		}
	}
	if len(told) > 1 {
		c.bad(badOther, fmt.Sprintf("%d people were told that this login is theirs", len(told)), l.lines...)
	}
	for _, e := range l.sessions {
		if told[e.User] || len(told) == 0 && unsure[e.User] {
			continue
		}
		c.bad(badOther, fmt.Sprintf("browser %d is logged in as %s", l.by.n, e.User), l.lines...)
	}
}

// once: a login becomes one session, and where the browser was told of its success and
// heard every answer, it does become one.
func (c *checker) once(l *login) {
	switch {
	case len(l.sets) > 1:
		c.bad(badTwice, fmt.Sprintf("%d sessions", len(l.sets)), l.lines...)
	case len(l.sets) == 1:
		c.finished++
	}
	if len(l.sets) > 0 || len(l.tries) == 0 {
		return
	}
	last := l.tries[len(l.tries)-1]
	if last.Status != http.StatusGone {
		return
	}
	unheard := slices.ContainsFunc(l.tries, func(e entry) bool { return e.Status == 0 || e.Status >= http.StatusInternalServerError })
	if unheard {
		c.answerLost++
		return
	}
	c.bad(badSuccess, fmt.Sprintf("browser %d was told that the login has succeeded, and then that it has ended", l.by.n), l.lines...)
}

// enough: a run in which nothing happened shows nothing.
func (c *checker) enough() {
	fired := 0
	for _, n := range c.faults {
		fired += n
	}
	switch {
	case c.finished == 0 || c.acked == 0 || c.codes == 0:
		c.bad(badTooQuiet, fmt.Sprintf("%d codes, %d acknowledged scans, %d logins", c.codes, c.acked, c.finished))
	case fired < c.planned:
		c.bad(badTooQuiet, fmt.Sprintf("%d faults of %d", fired, c.planned))
	case len(c.entries) == 0 || c.entries[len(c.entries)-1].Kind != kindEnd:
		c.bad(badTooQuiet, "the journal has no end")
	}
}
