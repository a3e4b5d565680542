package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"syscall"
	"time"

	"scanlogin/internal/e2e/proc"
)

// streamWorld is a database in which there is a scene for every browser, and WeChat.
type streamWorld struct{ *world }

// drainWindow is the default of DRAIN_WINDOW.
const drainWindow = 5 * time.Second

func startStreamWorld(ctx context.Context, streams int) (streamWorld, error) {
	w, err := startWorld(ctx, worldOptions{
		instances: 1,
		settings: map[string]string{
			"SCENE_POOL": strconv.Itoa(streams + 1_000), "SCENE_TTL": "1h", "CODES_READY_MAX": "0",
			"SCENE_GRACE": beat.String(), // a beat is no longer
		},
	})
	if err != nil {
		return streamWorld{}, err
	}
	w.killInstances()
	return streamWorld{w}, nil
}

// killInstances is for those whose drain was seen, or is of no interest.
func (w *world) killInstances() {
	for _, i := range w.instances {
		i.Signal(syscall.SIGKILL)
		<-i.Done
	}
	w.instances = nil
}

func (w streamWorld) startHolder(ctx context.Context) (holder, error) {
	if err := w.startInstance(ctx); err != nil {
		return holder{}, err
	}
	i := w.instances[0]
	return holder{i.Process, i.addr, i.ops}, nil
}

// free frees every scene, with a code that is ready.
func (w streamWorld) free(ctx context.Context) error {
	_, err := w.admin.Exec(ctx, `UPDATE scanlogin.scene SET login = NULL, state = 'expired', watchers = 0, expires_at = 'epoch',
		ready_ticket = repeat(md5(id::text), 3), ready_url = 'http://weixin.qq.com/q/' || left(md5(id::text), 22),
		ready_until = now() + interval '4 hours', ready_timeline = scanlogin.timeline()`)
	return err
}

func loginEvents(int) string { return "/login/events" }

// round is one of first opens, and one of resumes with each GOGC.
func (w streamWorld) round(ctx context.Context, o options, first *held, all resumes, ends drains) error {
	if err := w.free(ctx); err != nil {
		return err
	}
	cookies, err := w.begin(ctx, o, first, ends)
	if err != nil {
		return fmt.Errorf("first open: %w", err)
	}
	for _, gogc := range gogcs() {
		if err := w.resume(ctx, o, gogc, all[gogc], cookies, ends); err != nil {
			return fmt.Errorf("resume with GOGC=%d: %w", gogc, err)
		}
	}
	return nil
}

// begin opens a stream for browsers that were never here, and returns their cookies.
func (w streamWorld) begin(ctx context.Context, o options, h *held, ends drains) ([]string, error) {
	s, err := h.start(ctx)
	defer w.killInstances()
	if err != nil {
		return nil, err
	}
	c := &crowd{addr: s.addr, first: h.first}
	defer c.close()
	if err := h.fill(ctx, o, s, c); err != nil {
		return nil, err
	}
	return c.cookies, ends.see(s, c)
}

// goDefault is Go's own GOGC.
const goDefault = 100

func gogcs() []int { return []int{50, goDefault, 200, 400} }

// resumed is what an instance took that browsers came back to, over the rounds.
type resumed struct{ perStream, open *figure }

// resumes are by GOGC.
type resumes map[int]*resumed

func newResumes() resumes {
	all := resumes{}
	for _, gogc := range gogcs() {
		all[gogc] = &resumed{&figure{Unit: "KB"}, &figure{Unit: "µs"}}
	}
	return all
}

func (w streamWorld) resume(ctx context.Context, o options, gogc int, r *resumed, cookies []string, ends drains) error {
	w.settings["GOGC"] = strconv.Itoa(gogc)
	defer delete(w.settings, "GOGC")
	s, err := w.startHolder(ctx)
	defer w.killInstances()
	if err != nil {
		return err
	}
	c := &crowd{addr: s.addr, first: "event: qr", cookies: cookies}
	defer c.close()
	sizes := streamSizes(o)
	few, n := sizes[0], sizes[len(sizes)-2]
	if _, err := s.open(ctx, c, loginEvents, few); err != nil {
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	cpu, err := s.open(ctx, c, loginEvents, n)
	if err != nil {
		return err
	}
	if !proc.Pause(ctx, settled) {
		return ctx.Err()
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	r.open.add(microseconds(cpu) / float64(n-few))
	r.perStream.add(float64(after.rss-before.rss) / float64(n-few) / (1 << 10))
	if gogc != goDefault {
		return nil
	}
	return ends.see(s, c)
}

func (all resumes) table(n int) table {
	t := table{
		Title:   "`scanlogin serve` by GOGC, " + readable(float64(n)) + " browsers that come back",
		Columns: []string{"GOGC", "memory a stream", "CPU to resume", "CPU beside the default's"},
	}
	for _, gogc := range gogcs() {
		r := all[gogc]
		t.Rows = append(t.Rows, row{strconv.Itoa(gogc), []figure{*r.perStream, *r.open, r.open.over(*all[goDefault].open)}})
	}
	return t
}

// drain is how an instance sent its browsers away, over the rounds.
type drain struct {
	took    *figure
	deciles []*figure // of the times that they were told
	fullest *figure   // tenth of the window
}

// drains are by the number of streams.
type drains map[int]*drain

func newDrains() drains { return drains{} }

// see tells an instance to stop, and waits until every stream has been ended.
func (d drains) see(s holder, c *crowd) error {
	one, ok := d[len(c.conns)]
	if !ok {
		one = &drain{took: &figure{Unit: "s"}, fullest: &figure{Unit: "%"}}
		for range 11 {
			one.deciles = append(one.deciles, &figure{Unit: "s"})
		}
		d[len(c.conns)] = one
	}
	start := time.Now()
	s.Signal(syscall.SIGTERM)
	retries, err := c.ended()
	if err != nil {
		return err
	}
	one.took.add(time.Since(start).Seconds())
	if len(retries) == 0 {
		return errors.New("there was no stream to drain")
	}
	slices.Sort(retries)
	for i, f := range one.deciles {
		f.add(quantile(retries, float64(i)/10).Seconds())
	}
	one.fullest.add(100 * fullestTenth(retries, drainWindow/10, drainWindow))
	return nil
}

// fullestTenth is the share of those that come in the fullest tenth of the window.
func fullestTenth(retries []time.Duration, from, to time.Duration) float64 {
	var tenths [10]int
	for _, r := range retries {
		tenths[min(9, max(0, int(10*(r-from)/(to-from))))]++
	}
	return float64(slices.Max(tenths[:])) / float64(len(retries))
}

func (d drains) table() table {
	t := table{
		Title:   "SIGTERM: until the last browser has read the end of its stream, and when they are told to come back, of a window of 5 s",
		Columns: []string{"streams", "drained after", "first", "10 %", "half", "90 %", "last", "fullest tenth"},
	}
	for _, n := range slices.Sorted(maps.Keys(d)) {
		one := d[n]
		t.Rows = append(t.Rows, row{readable(float64(n)), []figure{
			*one.took, *one.deciles[0], *one.deciles[1], *one.deciles[5], *one.deciles[9], *one.deciles[10], *one.fullest,
		}})
	}
	return t
}
