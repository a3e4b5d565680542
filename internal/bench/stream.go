package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"scanlogin/internal/e2e/proc"
)

const aboutStream = `
Browsers open streams, 16 at a time, until the limit of 20,000 open files a process is near, and say
nothing from then on. Every server is a process of its own, measured alone, in turn with the others
in each round; its browsers are another process.

"Hub" is scanlogin's hub behind echo with its rows in memory, to be compared with the peers, which
have no database either: echo with the usual handler that stays and selects; nginx with nchan, one
process; and the floor, net/http and Hijack alone: no framework, no beats, the same bytes each time.
All say a code of 1.2 KB first, which nchan was told before, at no charge; without, it says ` + "`: hi`" + `.
"Serve" is the real thing with PostgreSQL on the same machine: a first open claims a scene whose
code is ready, a resume is at another instance than before, so that the code is drawn anew.
PostgreSQL's own time is not in these figures.

Memory is what Linux counts as resident a second after the last open, less what was resident with
the first few hundred streams, by the streams since. Nothing was asked of Go: it has the garbage in
it that Go lets gather between two collections, as much as what lives. Each socket takes 4.9 KB in
the kernel on top, whoever holds it. CPU is the server's, in the kernel too; that to open is over
the first 10,000. A beat is a comment every 6 s, from all of them (scanlogin's own is 12 s); its cost
is what a quiet turn takes, by the streams, so that the hub's look at every login about every second
is in it, six times a beat. An event's latency is from writing its publication to reading it from
the one socket that it is for, 500 times, one at a time.

In the picture a line is flat while the program itself is most of what is resident, and bends up
where its streams are: at some hundreds for the loop, whose stream is two goroutines with two
buffers and a request; at a thousand for nchan; at some thousands for the hub. From there on it is
straight: no stream costs more for those beside it. Serve starts higher, with its pool of
connections and the pictures of 1,024 to 2,048 codes, and so bends last.

Opening at the hub is just within 1.5 times nchan's CPU, a resume at serve is not. The floor alone,
which is net/http's goroutine, its buffers and the hand-over, is most of the way to either; of what
the hub adds, a profile shows the header and the event, echo, beats, and Go's collector. A resume adds
PostgreSQL's protocol, the drawing of the code, middleware, and what twice the garbage costs to collect.

GOGC stays as Go sets it. Half of it saves a seventh of a stream's memory for a fifth more CPU where
thousands come at once, which is when CPU is short; twice of it saves next to no CPU and takes a
stream to 3 KB. Whoever sees it differently sets GOGC or GOMEMLIMIT: nothing here overrides
them.
`

// streamSizes are how many streams are open when the memory is looked at. The first is
// the warm-up, the last two are where everything else is measured.
func streamSizes(o options) []int {
	return pick(o, []int{300, 1_000, 3_000, 10_000, 19_000}, []int{100, 300, 1_000, 3_000})
}

const (
	settled = time.Second            // after the last open
	calm    = 2 * time.Millisecond   // between two events
	glance  = 200 * time.Millisecond // at the smaller sizes
)

// holder is a server that holds streams, in a process of its own.
type holder struct {
	*proc.Process
	addr string
	ops  string // where its goroutines are told; empty: it has none
}

func (h holder) kill() {
	h.Signal(syscall.SIGKILL)
	<-h.Done
}

func (h holder) usage() (usage, error) { return usageOf(h.Cmd.Process.Pid) }

func (h holder) goroutines(ctx context.Context) (int, error) {
	if h.ops == "" {
		return 0, nil
	}
	return goroutinesOf(ctx, h.ops)
}

// held is what one kind of server took, over the rounds.
type held struct {
	name       string
	start      func(ctx context.Context) (holder, error)
	path       func(i int) string
	first      string // what the first event holds
	stored     bool   // it is published before
	events     bool   // it can be published to
	beats      bool
	rss        map[int]*figure // by streams: all of it
	perStream  map[int]*figure
	goroutines map[int]*figure // per stream
	p50, p99   map[int]*figure // of an event
	open, beat *figure
}

func newHeld(o options, name string, start func(context.Context) (holder, error)) *held {
	each := func(unit string) map[int]*figure {
		figures := map[int]*figure{}
		for _, n := range streamSizes(o) {
			figures[n] = &figure{Unit: unit}
		}
		return figures
	}
	return &held{
		name: name, start: start, path: eventsOf, first: "event: qr", events: true, beats: true,
		rss: each("MB"), perStream: each("KB"), goroutines: each(""), p50: each("µs"), p99: each("µs"),
		open: &figure{Unit: "µs"}, beat: &figure{Unit: "µs"},
	}
}

// startRoleHolder starts a role that holds streams.
func startRoleHolder(role string) func(context.Context) (holder, error) {
	return func(ctx context.Context) (holder, error) {
		addrs, err := proc.FreeAddrs(ctx, 1)
		if err != nil {
			return holder{}, err
		}
		p, err := startRole(role, streamRole{addrs[0]})
		if err != nil {
			return holder{}, err
		}
		return holder{p, addrs[0], addrs[0]}, listens(ctx, addrs[0])
	}
}

func listens(ctx context.Context, addr string) error {
	return proc.Eventually(ctx, addr+" is listened on", func() bool {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// benchStream runs every server once a round.
func benchStream(ctx context.Context, o options) (r result, err error) {
	sizes := streamSizes(o)
	dir, err := os.MkdirTemp("", "scanlogin-bench-nchan-")
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, err := startStreamWorld(ctx, sizes[len(sizes)-1])
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()

	hub := newHeld(o, "scanlogin: hub", startRoleHolder("stream-hub"))
	loop := newHeld(o, "echo, handler with a select loop", startRoleHolder("stream-loop"))
	startNginx := func(ctx context.Context) (holder, error) {
		addrs, err := proc.FreeAddrs(ctx, 1)
		if err != nil {
			return holder{}, err
		}
		p, err := startNchan(dir, addrs[0])
		if err != nil {
			return holder{}, err
		}
		return holder{p, addrs[0], ""}, listens(ctx, addrs[0])
	}
	bare := newHeld(o, "nchan, without a first event", startNginx)
	bare.first, bare.events, bare.beats = ": hi", false, false
	nchan := newHeld(o, "nchan", startNginx)
	nchan.stored = true
	floor := newHeld(o, "floor: net/http and Hijack", startRoleHolder("stream-hijack"))
	floor.beats = false
	first := newHeld(o, "scanlogin: serve, first open", w.startHolder)
	first.events = false
	first.path = loginEvents
	peers := []*held{hub, loop, nchan, bare, floor}
	resumed := newResumes()
	ends := newDrains()
	for range o.rounds {
		for _, h := range peers {
			if err := h.round(ctx, o); err != nil {
				return result{}, fmt.Errorf("%s: %w", h.name, err)
			}
		}
		if err := w.round(ctx, o, first, resumed, ends); err != nil {
			return result{}, fmt.Errorf("serve: %w", err)
		}
	}
	few, many := sizes[len(sizes)-2], sizes[len(sizes)-1]
	all := append(peers, first)
	usual := resumed[goDefault]
	return result{
		Tables: []table{
			streamTable(all, usual, few, many),
			resumed.table(few),
			ends.table(),
		},
		Targets: []target{
			atMost("memory of an idle stream, hub, at "+readable(float64(few)), 2.5, *hub.perStream[few]),
			atMost("the same at "+readable(float64(many)), 2.5, *hub.perStream[many]),
			atMost("memory of an idle stream, serve, at "+readable(float64(few)), 2.5, *first.perStream[few]),
			atMost("the same at "+readable(float64(many)), 2.5, *first.perStream[many]),
			atMost("goroutines of an idle stream, hub", 0, *hub.goroutines[many]),
			atMost("the same, serve", 0, *first.goroutines[many]),
			atMost("CPU to open, hub", 100, *hub.open),
			atMost("CPU to open, hub, beside nchan", 1.5, hub.open.over(*nchan.open)),
			atMost("CPU to resume, serve", 100, *usual.open),
			atMost("CPU to resume, serve, beside nchan", 1.5, usual.open.over(*nchan.open)),
			atMost("drain of "+readable(float64(few))+" streams", 1, *ends[few].took),
			atMost("reconnects in the fullest tenth of the window; 10 % is even", 12, *ends[few].fullest),
			atMost("a heartbeat, hub", 20, *hub.beat),
			atMost("a heartbeat, serve", 20, *first.beat),
		},
		Charts: []chart{memoryChart(all, sizes)},
	}, nil
}

// round starts the server, opens streams, and lets them be.
func (h *held) round(ctx context.Context, o options) error {
	s, err := h.start(ctx)
	if s.Process != nil {
		defer s.kill()
	}
	if err != nil {
		return err
	}
	c := &crowd{addr: s.addr, first: h.first}
	defer c.close()
	return h.fill(ctx, o, s, c)
}

// fill opens streams and looks at the server at each size. To open is measured up to the
// last but one: with more, it is ever more beats of those that are open.
func (h *held) fill(ctx context.Context, o options, s holder, c *crowd) error {
	sizes := streamSizes(o)
	var warm usage
	var spent time.Duration
	var before int // goroutines
	for i, n := range sizes {
		if h.stored {
			if err := storeFirst(ctx, s.addr, len(c.conns), n); err != nil {
				return err
			}
		}
		cpu, err := s.open(ctx, c, h.path, n)
		if err != nil {
			return err
		}
		large := i >= len(sizes)-2
		rest := glance
		if large {
			rest = pick(o, settled, glance)
		}
		if !proc.Pause(ctx, rest) {
			return ctx.Err()
		}
		now, err := s.usage()
		if err != nil {
			return err
		}
		h.rss[n].add(float64(now.rss) / (1 << 20))
		if i == 0 {
			warm = now
			if before, err = s.goroutines(ctx); err != nil {
				return err
			}
			continue
		}
		if i <= len(sizes)-2 {
			spent += cpu
		}
		h.perStream[n].add(float64(now.rss-warm.rss) / float64(n-sizes[0]) / (1 << 10))
		if !large {
			continue
		}
		g, err := s.goroutines(ctx)
		if err != nil {
			return err
		}
		h.goroutines[n].add(float64(max(0, g-before)) / float64(n-sizes[0]))
		if err := h.sample(ctx, o, c, n); err != nil {
			return err
		}
	}
	h.open.add(microseconds(spent) / float64(sizes[len(sizes)-2]-sizes[0]))
	return h.quiet(ctx, s, sizes[len(sizes)-1])
}

// storeFirst publishes what browsers will read first, for a server that keeps it.
func storeFirst(ctx context.Context, addr string, from, to int) error {
	p, err := newPublisher(ctx, addr)
	if err != nil {
		return err
	}
	defer p.conn.Close()
	_, data, _ := strings.Cut(string(firstBytes()), "data: ")
	for i := from; i < to; i++ {
		if err := p.publish(i, "qr", strings.TrimSpace(data)); err != nil {
			return err
		}
		if err := p.published(); err != nil {
			return err
		}
	}
	return nil
}

// open opens more streams until there are n, and returns the server's time for that.
func (h holder) open(ctx context.Context, c *crowd, path func(int) string, n int) (time.Duration, error) {
	before, err := h.usage()
	if err != nil {
		return 0, err
	}
	if err := c.open(ctx, path, n); err != nil {
		return 0, err
	}
	after, err := h.usage()
	return after.cpu - before.cpu, err
}

// sample publishes for browsers at random, each once: a login isn't scanned twice. Those
// of the first half are for the smaller size.
func (h *held) sample(ctx context.Context, o options, c *crowd, n int) error {
	if !h.events {
		return nil
	}
	p, err := newPublisher(ctx, c.addr)
	if err != nil {
		return err
	}
	defer p.conn.Close()
	sizes := streamSizes(o)
	from := 0
	if n == sizes[len(sizes)-1] {
		from = sizes[len(sizes)-2]
	}
	var took []time.Duration
	for _, i := range rand.Perm(n - from)[:pick(o, 500, 50)] {
		if !proc.Pause(ctx, calm) {
			return ctx.Err()
		}
		d, err := c.latency(p, from+i)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	h.p50[n].add(microseconds(quantile(took, 0.5)))
	h.p99[n].add(microseconds(quantile(took, 0.99)))
	return nil
}

// quiet is one turn in which nothing happens but the beats.
func (h *held) quiet(ctx context.Context, s holder, n int) error {
	if !h.beats {
		return nil
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	if !proc.Pause(ctx, beat) {
		return ctx.Err()
	}
	after, err := s.usage()
	h.beat.add(microseconds(after.cpu-before.cpu) / float64(n))
	return err
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func streamTable(all []*held, resumed *resumed, few, many int) table {
	a, b := readable(float64(few)), readable(float64(many))
	t := table{Columns: []string{
		"server", "memory a stream, " + a, b, "goroutines a stream", "CPU to open", "CPU a beat",
		"event p50, " + a, "p99", "event p50, " + b, "p99",
	}}
	for _, h := range all {
		t.Rows = append(t.Rows, row{h.name, []figure{
			*h.perStream[few], *h.perStream[many], *h.goroutines[many], *h.open, *h.beat,
			*h.p50[few], *h.p99[few], *h.p50[many], *h.p99[many],
		}})
	}
	t.Rows = append(t.Rows, row{"scanlogin: serve, resume", []figure{*resumed.perStream, {}, {}, *resumed.open, {}, {}, {}, {}, {}}})
	return t
}

func memoryChart(all []*held, sizes []int) chart {
	c := chart{Name: "stream-memory", Title: "Resident memory over open streams", X: "streams", Y: "MB"}
	for _, h := range all {
		l := line{Name: h.name}
		for _, n := range sizes {
			l.Points = append(l.Points, point{float64(n), h.rss[n].median()})
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}
