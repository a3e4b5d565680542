package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"scanlogin/internal/wechat"
)

const aboutCallback = `
WeChat pushes a scan, and hears 200 when it is stored and the other instances were told. 16 clients
push scans to instances with their default settings, each the next one as soon as it is answered;
every scan is of a login that waits for it, by a person with an account of their own; every reply
has to say so, and every scan has to be found in the table. Beside it stands what PostgreSQL can do
at most: pgbench with 16 clients, each of whose transactions is the UPDATE of one scene by its key.
Both have the same table, on a disk that takes a millisecond to sync: PostgreSQL is told to wait
that long before each flush (commit_delay). A callback is more than that UPDATE: it also keeps the reply
for WeChat's repeats, tells the instances by NOTIFY, and is HTTP, with AES in safe mode. And here
the clients, the instances and PostgreSQL share two cores, which are what limits it: a plain callback
takes about 145 µs of PostgreSQL's time with all its waking and switching, 90 µs of the instance's and
25 µs of the client's. pgbench alone makes the scan's whole statement 0.9 times as often as that UPDATE.
Several scans in one statement, as claims are made, were tried and gave less: 16 clients are too few to
fill it, and each waits for the one before.

The burst comes however slowly its first callbacks are answered, over connections that are open already,
3,000 for each instance. Each instance has 64 callbacks at work and lets 2,048 wait; who comes then gets 503 at once,
and is pushed again 5 s later, up to three times in all, as WeChat does. Whatever was answered with
200 has to be in the table then. Times are from when a push was due, so whatever these two cores owe
to clients, instance and PostgreSQL at once is in them.
`

const callbackClients = 16

// slowDisk makes a commit take a millisecond to be on disk, as on many a rented machine: the
// one that flushes waits for others to join, even where there are none.
func slowDisk() map[string]string {
	return map[string]string{"commit_delay": "1000", "commit_siblings": "0"}
}

// callbackCase is a way to be pushed to.
type callbackCase struct {
	name      string
	instances int
	cipher    *wechat.Cipher

	rate, p50, p99, cpu figure
}

func benchCallback(ctx context.Context, o options) (r result, err error) {
	n := pick(o, 20_000, 2_000)
	w, err := startWorld(ctx, worldOptions{instances: 1, postgres: slowDisk(), settings: map[string]string{
		"SCENE_POOL": strconv.Itoa(n), "CODES_READY_MAX": "0", "DRAIN_WINDOW": "1s",
	}})
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	w.stopInstances(ctx) // the tables are there now
	cases, err := callbackCases()
	if err != nil {
		return result{}, err
	}
	if err := w.addPeople(ctx, n); err != nil {
		return result{}, err
	}
	updates := figure{}
	crowd := pick(o, 10_000, 2_000)
	bursts, stop, err := startBursts(ctx, crowd)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	for range o.rounds {
		rate, err := w.updates(ctx, n)
		if err != nil {
			return result{}, err
		}
		updates.add(rate)
		for _, c := range cases {
			if err := w.callbacks(ctx, c, n); err != nil {
				return result{}, fmt.Errorf("%s: %w", c.name, err)
			}
		}
		for _, c := range bursts {
			if err := c.burst(ctx, crowd); err != nil {
				return result{}, fmt.Errorf("a burst, %s: %w", c.name, err)
			}
		}
	}
	none := figure{}
	t := table{
		Columns: []string{"16 clients, 1 ms fsync", "a second", "beside UPDATE alone", "p50", "p99", "CPU of the instances"},
		Rows:    []row{{"UPDATE by primary key, pgbench", []figure{updates, none, none, none, none}}},
	}
	var targets []target
	for _, c := range cases {
		t.Rows = append(t.Rows, row{c.name, []figure{c.rate, c.rate.over(updates), c.p50, c.p99, c.cpu}})
		targets = append(targets, atLeast("callbacks beside UPDATE alone, "+c.name, 0.6, c.rate.over(updates)))
	}
	for _, c := range bursts {
		targets = append(targets, c.storedTarget(crowd))
	}
	return result{Tables: []table{t, burstTable(crowd, bursts)}, Targets: targets}, nil
}

func callbackCases() ([]*callbackCase, error) {
	cipher, err := wechat.NewCipher(aesKey, appID)
	return []*callbackCase{
		{name: "plain, one instance", instances: 1},
		{name: "AES, one instance", instances: 1, cipher: cipher},
		{name: "plain, two instances", instances: 2},
		{name: "AES, two instances", instances: 2, cipher: cipher},
	}, err
}

// callbacks pushes n scans, from as many clients as pgbench has, each as fast as it is
// answered. Every answer has to say so, and every scan to be stored.
func (w *world) callbacks(ctx context.Context, c *callbackCase, n int) error {
	// Others would listen to every NOTIFY, and take their share of the machine.
	w.settings["WECHAT_ENCODING_AES_KEY"] = ""
	if c.cipher != nil {
		w.settings["WECHAT_ENCODING_AES_KEY"] = aesKey
	}
	defer w.stopInstances(ctx)
	for range c.instances {
		if err := w.startInstance(ctx); err != nil {
			return err
		}
	}
	pushes, err := w.waiting(ctx, n, c.cipher)
	if err != nil {
		return err
	}
	before, err := usageOf(pids(w.instances)...)
	if err != nil {
		return err
	}
	start := time.Now()
	waits, replies, err := pushAll(ctx, w.instances, pushes)
	took := time.Since(start)
	if err != nil {
		return err
	}
	after, err := usageOf(pids(w.instances)...)
	if err != nil {
		return err
	}
	for _, reply := range replies {
		if !says(reply, loggedIn, c.cipher) {
			return fmt.Errorf("a scan was answered with %q", reply)
		}
	}
	if stored, err := w.scanned(ctx); err != nil || len(stored) != n {
		return fmt.Errorf("of %d scans %d are stored: %w", n, len(stored), err)
	}
	slices.Sort(waits)
	c.p50.Unit, c.p99.Unit, c.cpu.Unit = "ms", "ms", "µs"
	c.rate.add(float64(n) / took.Seconds())
	c.p50.add(milliseconds(quantile(waits, 0.5)))
	c.p99.add(milliseconds(quantile(waits, 0.99)))
	c.cpu.add(float64((after.cpu - before.cpu).Microseconds()) / float64(n))
	return nil
}

func pids(instances []*instance) (all []int) {
	for _, i := range instances {
		all = append(all, i.pid())
	}
	return all
}

// pushAll returns how long each callback took, and what it was answered.
func pushAll(ctx context.Context, instances []*instance, pushes []push) ([]time.Duration, [][]byte, error) {
	waits, replies := make([]time.Duration, len(pushes)), make([][]byte, len(pushes))
	errs := make([]error, callbackClients)
	var work sync.WaitGroup
	for k := range callbackClients {
		work.Go(func() {
			wire, err := dialWire(ctx, instances[k%len(instances)].addr)
			if err != nil {
				errs[k] = err
				return
			}
			defer wire.conn.Close()
			for i := k; i < len(pushes) && ctx.Err() == nil; i += callbackClients {
				start := time.Now()
				status, reply, err := wire.do(pushes[i].request)
				if err != nil || status != 200 {
					errs[k] = fmt.Errorf("a scan was answered with status %d %q: %w", status, reply, err)
					return
				}
				waits[i], replies[i] = time.Since(start), reply
			}
		})
	}
	work.Wait()
	return waits, replies, errors.Join(append(errs, ctx.Err())...)
}

// scanned are the scenes whose logins were scanned by the person who should have.
func (w *world) scanned(ctx context.Context) (map[int32]bool, error) {
	rows, err := w.admin.Query(ctx, `SELECT id FROM scanlogin.scene
		WHERE state = 'authenticated' AND account_id IS NOT NULL AND openid = 'o' || lpad(id::text, 27, '0')`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	stored := map[int32]bool{}
	for rows.Next() {
		var id int32
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		stored[id] = true
	}
	return stored, rows.Err()
}

// updates is how many a second pgbench makes: of what a scan writes to its scene, of one
// scene by its key.
func (w *world) updates(ctx context.Context, n int) (float64, error) {
	if _, err := w.waiting(ctx, n, nil); err != nil {
		return 0, err
	}
	script := filepath.Join(w.dir, "update.sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, `\set id random(1, %d)
UPDATE scanlogin.scene SET state = 'authenticated', openid = '%s', account_id = 7, expires_at = now() + interval '10 min' WHERE id = :id;
`, n, openidOf(7)), 0o644); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, w.database.Tool("pgbench"), "-n", "-M", "prepared", "-c", strconv.Itoa(callbackClients), "-j", "2",
		"-t", strconv.Itoa(n/callbackClients), "-f", script, w.database.URL("postgres")).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	return transactionsASecond(out)
}

var errNoRate = errors.New("pgbench doesn't say how many transactions it made")

// transactionsASecond reads what pgbench says in the end, without the time that it took to
// connect.
func transactionsASecond(out []byte) (float64, error) {
	found := regexp.MustCompile(`(?m)^tps = ([0-9.]+) \((without initial connection time|excluding connections establishing)\)`).FindSubmatch(out)
	if found == nil {
		return 0, errNoRate
	}
	rate, err := strconv.ParseFloat(string(found[1]), 64)
	return rate, err
}
