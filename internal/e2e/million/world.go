package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/account"
	"scanlogin/internal/devpg"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
)

const (
	schema = "scanlogin"
	appID  = "wx0123456789abcdef"

	sceneTTL  = 10 * time.Second // so that those which nobody scans come back within the run
	sceneRest = time.Second

	patience = 10 * time.Minute // for what is left at the end
)

// world is a database, and what an instance of scanlogin does with it.
type world struct {
	plan
	database *devpg.Server
	db       *postgres.DB
	admin    *pgxpool.Pool
	service  *login.Service
	accounts postgres.Accounts
	people   []int64 // accounts; those with an even index are tied to a phone
	halt     context.CancelFunc
	work     sync.WaitGroup

	mu      sync.Mutex
	removed map[string]int64 // by table
	waited  int              // for a scene
}

func startWorld(ctx context.Context, p plan) (w *world, err error) {
	w = &world{plan: p, removed: map[string]int64{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop(context.WithoutCancel(ctx)))
		}
	}()
	if w.database, err = devpg.Start(ctx, devpg.Config{}); err != nil {
		return nil, err
	}
	url := w.database.URL("postgres")
	if err := postgres.Migrate(ctx, url, schema, ""); err != nil {
		return nil, err
	}
	if w.db, err = postgres.Open(ctx, url, schema); err != nil {
		return nil, err
	}
	if w.admin, err = pgxpool.New(ctx, url); err != nil {
		return nil, err
	}
	if err := w.db.ResizePool(ctx, int32(min(p.pool, 1_000_000))); err != nil {
		return nil, err
	}
	if err := w.db.AddWeChatAccount(ctx, appID); err != nil {
		return nil, err
	}
	if err := w.addPeople(ctx); err != nil {
		return nil, err
	}
	w.keepHouse(ctx)
	return w, nil
}

// addPeople gives each worker somebody who has a tie, and somebody who binds.
func (w *world) addPeople(ctx context.Context) error {
	w.accounts = postgres.Accounts{DB: w.db, AppID: appID}
	for n := range 2 * w.workers {
		u, err := w.accounts.CreateUser(ctx, fmt.Sprintf("person %d", n), "hash")
		if err != nil {
			return err
		}
		w.people = append(w.people, u.ID)
		if n%2 == 1 {
			continue
		}
		_, err = w.admin.Exec(ctx, "INSERT INTO scanlogin.wechat_identity (appid, openid, account_id) VALUES ($1, $2, $3)", appID, phone(n), u.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// phone is an openid, as long as WeChat's.
func phone(person int) string { return fmt.Sprintf("o%027d", person) }

// keepHouse starts what an instance does all the time.
func (w *world) keepHouse(ctx context.Context) {
	ctx, w.halt = context.WithCancel(context.WithoutCancel(ctx))
	logger := slog.New(slog.DiscardHandler)
	w.service = &login.Service{
		Store:    postgres.Logins{DB: w.db, AppID: appID},
		Tickets:  w.code,
		Notify:   func(context.Context, login.ID) error { return nil },
		SceneTTL: sceneTTL, SceneRest: sceneRest, BindTTL: sceneTTL, SessionTTL: w.keep,
		Logger: logger,
	}
	reserve := &login.Reserve{
		Store:   postgres.Reserve{DB: w.db, Holder: login.NewSecret().ID()},
		Tickets: w.code,
		Min:     50, Max: 2000, SceneTTL: sceneTTL,
		Logger: logger,
	}
	keeper := &postgres.Housekeeper{
		DB: w.db, Holder: login.NewSecret().ID(), KeepPushes: w.keep, SessionIdle: w.keep, Logger: logger,
		Removed: func(table string, rows int64) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.removed[table] += rows
		},
	}
	w.work.Go(func() { reserve.Run(ctx) })
	w.work.Go(func() { keeper.Run(ctx) })
	said := func(context.Context, string, string) error { return nil }
	teller := account.NewTeller(postgres.Notices{DB: w.db}, func(account.Notice) string { return "words" }, said, logger)
	w.work.Go(func() { teller.Run(ctx) })
}

// code is what WeChat makes, as long as its own, and counted.
func (w *world) code(ctx context.Context, _ int32, _ time.Duration) (login.Ticket, error) {
	if err := (postgres.Quota{DB: w.db, AppID: appID}).Count(ctx); err != nil {
		return login.Ticket{}, err
	}
	unique := rand.Text()
	return login.Ticket{
		Ticket: unique + strings.Repeat("t", 96-len(unique)),
		URL:    "http://weixin.qq.com/q/" + unique[:22],
	}, nil
}

// logins runs those from one number to another.
func (w *world) logins(ctx context.Context, from, to int) error {
	numbers := make(chan int)
	failed := make(chan error, w.workers)
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for worker := range w.workers {
		workers.Go(func() {
			for n := range numbers {
				if err := w.login(ctx, worker, n); err != nil {
					failed <- fmt.Errorf("login %d: %w", n, err)
					cancel()
					return
				}
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(w.rate))
	defer tick.Stop()
	for n := from; n < to && ctx.Err() == nil; n++ {
		<-tick.C
		select {
		case numbers <- n:
		case <-ctx.Done():
		}
	}
	close(numbers)
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

// login is one of them. Most go well.
func (w *world) login(ctx context.Context, worker, n int) error {
	l, key, err := w.begin(ctx)
	if err != nil {
		return err
	}
	if n%10 == 5 { // its browser comes back
		if _, err := w.service.Resume(ctx, key); err != nil {
			return err
		}
	}
	switch n % 20 {
	case 0: // nobody scans, and the browser stays till the end
		return nil
	case 1, 11: // the browser leaves
		return w.service.Gone(ctx, []login.Ref{l.Ref})
	case 2:
		return w.bind(ctx, worker, l, key)
	}
	if err := w.scan(ctx, l, phone(2*worker), n, login.LoggedIn); err != nil {
		return err
	}
	session := sha256.Sum256([]byte(rand.Text()))
	if err := w.service.Complete(ctx, key, webSession(session)); err != nil {
		return err
	}
	if _, _, err := w.accounts.SessionByHash(ctx, session, w.keep); err != nil && !errors.Is(err, account.ErrNoSession) {
		return err
	}
	if n%20 == 3 {
		return w.accounts.DeleteSession(ctx, session)
	}
	return nil
}

// webSession is one whose browser says as much of itself as most do.
func webSession(hash [32]byte) login.Session {
	return login.Session{Hash: hash, Browser: strings.Repeat("b", 120)}
}

// begin waits where every scene is held or rests.
func (w *world) begin(ctx context.Context) (login.Login, login.Key, error) {
	for {
		secret := login.NewSecret()
		l, err := w.service.Begin(ctx, secret)
		if !errors.Is(err, login.ErrExhausted) {
			return l, login.Key{Scene: l.Scene, Secret: secret}, err
		}
		w.mu.Lock()
		w.waited++
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return login.Login{}, login.Key{}, ctx.Err()
		case <-time.After(sceneRest / 10):
		}
	}
}

// scan is WeChat's push of one, and now and then its repeat.
func (w *world) scan(ctx context.Context, l login.Login, openID string, n int, want login.Outcome) error {
	push := sha256.Sum256([]byte(l.Ticket.Ticket + openID))
	scan := login.Scan{Scene: l.Scene, Ticket: l.Ticket.Ticket, OpenID: openID, Push: push[:]}
	for range 1 + n%5/4 {
		o, err := w.service.Scanned(ctx, scan)
		if err != nil {
			return err
		}
		if o != want {
			return fmt.Errorf("scanned: %v, want %v", o, want)
		}
	}
	return nil
}

// bind is a login by a phone that is new here; the person unbinds it again.
func (w *world) bind(ctx context.Context, worker int, l login.Login, key login.Key) error {
	person := 2*worker + 1
	if err := w.scan(ctx, l, phone(person), 0, login.MustBind); err != nil {
		return err
	}
	if err := w.service.Bind(ctx, key, login.Owner{ID: w.people[person]}, webSession(sha256.Sum256([]byte(rand.Text())))); err != nil {
		return err
	}
	_, err := w.accounts.Unbind(ctx, w.people[person])
	return err
}

// tell says what the run was.
func (w *world) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Printf("\nRows removed meanwhile:")
	for _, table := range slices.Sorted(maps.Keys(w.removed)) {
		fmt.Printf(" %s %d", table, w.removed[table])
	}
	fmt.Printf(". Times that a browser waited for a scene: %d.\n\n", w.waited)
}

// settle waits until the housekeeper has removed the last of it, and vacuums.
func (w *world) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for left := -1; left != 0; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d rows that are over are still there: %w", left, ctx.Err())
		case <-tick.C:
		}
		const rows = "SELECT (SELECT count(*) FROM scanlogin.web_session) + (SELECT count(*) FROM scanlogin.wechat_push)"
		if err := w.admin.QueryRow(ctx, rows).Scan(&left); err != nil {
			return err
		}
	}
	_, err := w.admin.Exec(ctx, "VACUUM")
	return err
}

func (w *world) stop(ctx context.Context) error {
	if w.halt != nil {
		w.halt()
		w.work.Wait()
	}
	if w.db != nil {
		w.db.Close()
	}
	if w.admin != nil {
		w.admin.Close()
	}
	if w.database == nil {
		return nil
	}
	return w.database.Stop(ctx)
}
