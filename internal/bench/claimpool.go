package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/devpg"
	"scanlogin/internal/e2e/proc"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/postgres/pgstore"
)

// Claimed scenes are free again at once, so that the ring never runs dry.
const (
	claimTTL  = time.Microsecond
	claimRest = 0
)

const (
	claimSchema = "scanlogin"
	noEnd       = math.MaxInt64 // of claims
)

// claimServer is a PostgreSQL with a database for each size of the pool.
type claimServer struct {
	*devpg.Server
	pools map[int]*claimPool
}

func startClaimServer(ctx context.Context, settings map[string]string) (*claimServer, error) {
	s, err := devpg.Start(ctx, devpg.Config{Settings: settings})
	if err != nil {
		return nil, err
	}
	return &claimServer{s, map[int]*claimPool{}}, nil
}

func (s *claimServer) stop(ctx context.Context) error {
	for _, p := range s.pools {
		p.admin.Close()
	}
	return s.Stop(ctx)
}

// claimPool is a database with a pool of scenes, and a table of the same size and shape for
// the floor.
type claimPool struct {
	server *devpg.Server
	name   string // of the database
	scenes int
	admin  *pgxpool.Pool
}

// pool makes the pool where it isn't there yet.
func (s *claimServer) pool(ctx context.Context, scenes int) (*claimPool, error) {
	if p, ok := s.pools[scenes]; ok {
		return p, nil
	}
	p := &claimPool{server: s.Server, name: "pool_" + strconv.Itoa(scenes), scenes: scenes}
	if err := p.create(ctx); err != nil {
		return nil, err
	}
	admin, err := pgxpool.New(ctx, p.url())
	if err != nil {
		return nil, err
	}
	p.admin, s.pools[scenes] = admin, p
	_, err = p.admin.Exec(ctx, `
		CREATE TABLE floor (LIKE scanlogin.scene INCLUDING ALL) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
		INSERT INTO floor SELECT * FROM scanlogin.scene;
		ANALYZE floor`)
	return p, err
}

func (p *claimPool) url() string { return p.server.URL(p.name) }

func (p *claimPool) create(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.server.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+p.name)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	m, err := postgres.NewMigrator(p.url(), claimSchema)
	if err != nil {
		return err
	}
	_, err = m.Up(ctx)
	if err := errors.Join(err, m.Close()); err != nil {
		return err
	}
	db, err := postgres.Open(ctx, p.url(), claimSchema)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.ResizePool(ctx, int32(p.scenes))
}

// floor updates rows by their primary key. Each client walks a stretch of its own: what a
// checkpoint makes dear, the first write to each page, is as rare then as it is for claims.
func (p *claimPool) floor(ctx context.Context, clients int, length time.Duration) (work, error) {
	b := pgbench{p.server, p.name, `
		\set step :step + 1
		\set id 1 + mod(:client_id * (:scenes / :clients) + :step, :scenes)
		UPDATE floor SET expires_at = now() WHERE id = :id;
		`, map[string]string{"scenes": strconv.Itoa(p.scenes), "clients": strconv.Itoa(clients), "step": "0"}}
	return b.run(ctx, clients, length)
}

// floorFromGo is the same by one client that is written as the instances are.
func (p *claimPool) floorFromGo(ctx context.Context) (w work, err error) {
	conn, err := p.admin.Acquire(ctx)
	if err != nil {
		return work{}, err
	}
	defer conn.Release()
	start := time.Now()
	for ; time.Since(start) < claimsFor; w.n++ {
		if _, err := conn.Exec(ctx, "UPDATE floor SET expires_at = now() WHERE id = $1", 1+w.n%int64(p.scenes)); err != nil {
			return work{}, err
		}
	}
	w.rate = float64(w.n) / time.Since(start).Seconds()
	return w, nil
}

// bare is the statement of a claim, with one login.
func (p *claimPool) bare(ctx context.Context, clients int, length time.Duration) (work, error) {
	script := strings.NewReplacer("$1", ":logins", "$2", ":ttls", "$3", ":rests").Replace(claimStatement(ctx)) + ";"
	b := pgbench{p.server, p.name, script, map[string]string{
		"logins": "{" + login.NewSecret().ID().String() + "}", "ttls": "{1us}", "rests": "{0}",
	}}
	before, err := p.counters(ctx)
	if err != nil {
		return work{}, err
	}
	w, err := b.run(ctx, clients, length)
	if err != nil {
		return work{}, err
	}
	// A miss would be cheaper than a claim.
	_, err = p.countersSince(ctx, before, w.n*99/100)
	return w, err
}

// claimed is what claims took.
type claimed struct {
	work
	counters
}

// hot is how many of a hundred claims were HOT updates.
func (c claimed) hot() float64 { return 100 * float64(c.counters.hot) / float64(c.updates) }

// together is how many claims a statement carried.
func (c claimed) together() float64 { return float64(c.updates) / float64(c.statements) }

// claimsFor is how long claims are made in a round.
const claimsFor = time.Second

// claims are made as one instance makes them, for a while or until there were so many.
func (p *claimPool) claims(ctx context.Context, clients int, most int64) (c claimed, err error) {
	before, err := p.counters(ctx)
	if err != nil {
		return claimed{}, err
	}
	var n int64
	c.work, n, err = p.claimWith(ctx, 1, clients, claimsFor, most)
	if err != nil {
		return claimed{}, err
	}
	c.counters, err = p.countersSince(ctx, before, n)
	return c, err
}

// aloneEach is batching off: each client is an instance of its own, with one connection.
func (p *claimPool) aloneEach(ctx context.Context, clients int) (work, error) {
	w, _, err := p.claimWith(ctx, clients, clients, claimsFor, noEnd)
	return w, err
}

// claimWith also returns the number of all claims: a few are made before it measures, so
// that there are connections with prepared statements.
func (p *claimPool) claimWith(ctx context.Context, instances, clients int, length time.Duration, most int64) (w work, all int64, err error) {
	stores := make([]postgres.Logins, instances)
	for i := range stores {
		db, err := postgres.Open(ctx, p.url(), claimSchema)
		if err != nil {
			return work{}, 0, err
		}
		defer db.Close()
		stores[i] = postgres.Logins{DB: db}
	}
	const few = 10
	first, err := claimFor(ctx, stores, clients, length, int64(few*clients))
	if err != nil {
		return work{}, 0, err
	}
	w, err = claimFor(ctx, stores, clients, length, most)
	return w, first.n + w.n, err
}

// claimFor has each client claim one scene after the other. That there is none is an error
// here.
func claimFor(ctx context.Context, stores []postgres.Logins, clients int, length time.Duration, most int64) (work, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var begun atomic.Int64
	errs := make([]error, clients)
	var all sync.WaitGroup
	start := time.Now()
	for i := range clients {
		store := stores[i%len(stores)]
		all.Go(func() {
			for time.Since(start) < length && begun.Add(1) <= most {
				if _, errs[i] = store.Claim(ctx, login.NewSecret().ID(), claimTTL, claimRest); errs[i] != nil {
					cancel()
					return
				}
			}
		})
	}
	all.Wait()
	n := min(begun.Load(), most)
	return work{n, float64(n) / time.Since(start).Seconds()}, errors.Join(errs...)
}

// counters are PostgreSQL's own, of a pool.
type counters struct {
	updates, hot int64 // of scenes
	statements   int64
}

func (p *claimPool) counters(ctx context.Context) (c counters, err error) {
	err = p.admin.QueryRow(ctx, `
		SELECT n_tup_upd, n_tup_hot_upd, (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())
		FROM pg_stat_user_tables WHERE relid = 'scanlogin.scene'::regclass`).Scan(&c.updates, &c.hot, &c.statements)
	return c, err
}

// countersSince waits until so many updates are known: a connection tells its counters when
// it ends.
func (p *claimPool) countersSince(ctx context.Context, before counters, updates int64) (c counters, err error) {
	waited := proc.Eventually(ctx, fmt.Sprintf("the server tells of %d updates", updates), func() bool {
		var now counters
		now, err = p.counters(ctx)
		c = counters{now.updates - before.updates, now.hot - before.hot, now.statements - before.statements}
		return err != nil || c.updates >= updates
	})
	return c, errors.Join(err, waited)
}

// claimStatement is what a claim sends.
func claimStatement(ctx context.Context) string {
	var w wiretap
	_, _ = pgstore.New(&w).Claim(ctx, pgstore.ClaimParams{}) // errTapped
	return w.statement
}

// wiretap notes a statement instead of running it.
type wiretap struct{ statement string }

var errTapped = errors.New("nothing is run here")

func (w *wiretap) Exec(_ context.Context, statement string, _ ...any) (pgconn.CommandTag, error) {
	w.statement = statement
	return pgconn.CommandTag{}, errTapped
}

func (w *wiretap) Query(_ context.Context, statement string, _ ...any) (pgx.Rows, error) {
	w.statement = statement
	return nil, errTapped
}

func (w *wiretap) QueryRow(_ context.Context, statement string, _ ...any) pgx.Row {
	w.statement = statement
	return tappedRow{}
}

type tappedRow struct{}

func (tappedRow) Scan(...any) error { return errTapped }
