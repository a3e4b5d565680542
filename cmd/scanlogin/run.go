package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/config"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
	"scanlogin/internal/postgres"
	"scanlogin/internal/status"
	"scanlogin/internal/stream"
	"scanlogin/internal/web"
	"scanlogin/internal/wechat"
	"scanlogin/static"
)

// The contract promises an end within 10 s of SIGTERM, be it without a database.
const (
	maxLinger      = 4 * time.Second        // see linger
	requestsEnd    = 8 * time.Second        // what is under way then is cut off: a callback takes 4 s at most
	databaseLetsGo = 500 * time.Millisecond // for connections that are still in use
)

// farOff is a time that can be doubled.
const farOff = 50 * 365 * 24 * time.Hour

// beat is how often a stream is heard of and checked for having gone away. A shorter
// grace needs a shorter beat, or it would be over before anybody noticed.
const beat = 12 * time.Second

// instance is one scanlogin: everything is wired here.
type instance struct {
	cfg      config.Config
	logger   *slog.Logger
	db       *postgres.DB
	users    *postgres.Users // nil: ours
	hub      *stream.Hub
	reserve  *login.Reserve
	notifier *postgres.Notifier
	recorder *audit.Recorder
	metrics  *metrics
	traces   *traces // nil: off
	listener *postgres.Listener
	troubles *status.Troubles
	heart    *status.Heart
	teller   *account.Teller
	public   *server
	ops      *server // nil: off
}

// newInstance wires an instance that listens already, but answers nobody yet.
func newInstance(ctx context.Context, cfg config.Config, t *traces, logger *slog.Logger) (_ *instance, err error) {
	troubles := &status.Troubles{}
	logger = troubles.Watch(logger)
	i := &instance{cfg: cfg, logger: logger, troubles: troubles, metrics: newMetrics(), traces: t}
	defer func() {
		if err != nil {
			i.close()
		}
	}()
	if i.db, err = postgres.Open(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseSchema); err != nil {
		return nil, err
	}
	i.db.Instance = instanceName(cfg)
	i.recorder = &audit.Recorder{
		AppID:   cfg.WeChatAppID,
		Write:   postgres.Audit{DB: i.db}.Write,
		Dropped: func(events int) { i.metrics.dropped.Add(float64(events)) },
		Logger:  logger,
	}
	if err = i.db.Current(ctx); err != nil {
		return nil, err
	}
	if i.users, err = openUsers(ctx, cfg, logger); err != nil {
		return nil, err
	}
	if err = i.db.ResizePool(ctx, cfg.ScenePool); err != nil {
		return nil, err
	}
	if err = i.db.AddWeChatAccount(ctx, cfg.WeChatAppID); err != nil {
		return nil, fmt.Errorf("adding the Official Account: %w", err)
	}
	client := sharedClient(cfg, i.db, i.called, logger)
	makeCode := tickets(cfg, client, i.db, logger)
	i.reserve = &login.Reserve{
		Store:    postgres.Reserve{DB: i.db, Holder: login.NewSecret().ID()},
		Tickets:  makeCode,
		Min:      min(cfg.CodesReadyMin, readyMax(cfg)),
		Max:      readyMax(cfg),
		SceneTTL: cfg.SceneTTL,
		Logger:   logger,
	}
	channel := postgres.Channel(cfg.DatabaseSchema)
	i.notifier = postgres.NewNotifier(i.db, channel)
	confirm, _ := login.ParseConfirm(cfg.Confirm) // config knows the same names
	accounts := accountsOf(cfg, i.db, i.users, logger)
	logins := &login.Service{
		Store:      postgres.Logins{DB: i.db, AppID: ties(cfg), Repeated: i.metrics.repeated.Inc},
		Tickets:    makeCode,
		Notify:     i.notify,
		Observe:    i.step,
		Confirm:    confirm,
		AppID:      cfg.WeChatAppID,
		SceneTTL:   cfg.SceneTTL,
		SceneRest:  cfg.SceneRest,
		BindTTL:    cfg.BindTTL,
		SessionTTL: cfg.SessionTTL,
		Logger:     logger,
	}
	if i.users != nil {
		logins.Admit = accounts.Admit
	}
	i.hub = stream.NewHub(stream.Config{
		Beat:   max(time.Second, min(beat, cfg.SceneGrace.Truncate(time.Second))),
		Grace:  cfg.SceneGrace,
		Window: cfg.DrainWindow,
		Tabs:   tabs(cfg),
		Signup: cfg.Signup,
		Look:   logins.Look,
		Gone:   logins.Gone,
		Pushed: i.pushed,
		Took:   func(d time.Duration) { i.metrics.push.Observe(d.Seconds()) },
		Logger: logger,
	})
	i.listener = &postgres.Listener{
		DB:      i.db,
		URL:     cfg.DatabaseListenURL.Reveal(),
		Channel: channel,
		Up: func() {
			i.metrics.listens.Inc()
			i.hub.WakeAll()
		},
		Changed: i.hub.Wake,
		Heard:   func(lag time.Duration) { i.metrics.lag.Observe(lag.Seconds()) },
		Logger:  logger,
	}
	site, err := i.site(ctx, logins, accounts)
	if err != nil {
		return nil, err
	}
	i.teller = account.NewTeller(postgres.Notices{DB: i.db}, site.Tells, client.SendText, logger)
	site.TellPhones = i.teller.Wake
	handler, err := site.Handler()
	if err != nil {
		return nil, err
	}
	return i, i.listen(ctx, handler, site.Stats)
}

// site answers everything that comes in from outside.
func (i *instance) site(ctx context.Context, logins *login.Service, accounts *account.Service) (*web.Server, error) {
	originalID := &postgres.OriginalID{DB: i.db, AppID: i.cfg.WeChatAppID}
	if err := originalID.Load(ctx); err != nil {
		return nil, err
	}
	callback, err := newCallback(i.cfg, originalID.Known)
	if err != nil {
		return nil, err
	}
	forwarder, err := newForwarder(i.cfg)
	if err != nil {
		return nil, err
	}
	replies, err := web.LoadReplies(i.cfg.WeChatReplyTexts)
	if err != nil {
		return nil, err
	}
	limits, err := newLimiter(i.cfg, i.db, i.refused, i.logger)
	if err != nil {
		return nil, err
	}
	return &web.Server{
		Config: web.Config{
			PublicURL:      i.cfg.PublicURL,
			TrustedProxies: i.cfg.TrustedProxies,
			PlaceHeader:    i.cfg.PlaceHeader,
			AllowedOrigins: i.cfg.AllowedOrigins,
			CookieDomain:   i.cfg.CookieDomain,
			Signup:         i.cfg.Signup,
			ForeignUsers:   i.users != nil,
			KeepTies:       i.cfg.Unsubscribe == "keep",
		},
		Logins:   logins,
		Accounts: accounts,
		Hub:      i.hub,
		Callback: callback,
		Pushes:   postgres.Pushes{DB: i.db},
		Learn:    originalID.Learn,
		Forward:  forwarder,
		Replies:  replies,
		Limits:   limits,
		Audit:    i.recorder,
		Metrics:  i.metrics.site,
		Tracer:   i.traces.tracer(),
		Logger:   i.logger,
	}, nil
}

// listen binds the addresses, so that a busy one is known before anything runs.
func (i *instance) listen(ctx context.Context, site http.Handler, stats func() web.Stats) (err error) {
	i.heart = i.newHeart(stats)
	if i.public, err = newServer(ctx, i.cfg.Addr, "ADDR", site, i.logger); err != nil {
		return err
	}
	if i.cfg.OpsAddr == "" {
		return nil
	}
	ops := &web.Ops{
		Ready: i.ready, Metrics: i.registry(stats), Stopping: i.hub.Draining,
		Report: postgres.Status{DB: i.db}.Report, Logger: i.logger,
	}
	opsHandler, err := ops.Handler(static.Files)
	if err != nil {
		return err
	}
	i.ops, err = newServer(ctx, i.cfg.OpsAddr, "OPS_ADDR", opsHandler, i.logger)
	return err
}

// newHeart tells the other instances, and the operator, of this one.
func (i *instance) newHeart(stats func() web.Stats) *status.Heart {
	beat := status.Beat{ID: login.NewSecret().ID(), Name: instanceName(i.cfg), Version: version()}
	return &status.Heart{
		Store:  postgres.Status{DB: i.db},
		Logger: i.logger,
		Now: func() status.Beat {
			b := beat
			b.Streams, b.Draining, b.Troubles, b.CallbackAge = i.hub.Len(), i.hub.Draining(), i.troubles.Last(), status.NoCallback
			if at := stats().LastCallback; !at.IsZero() {
				b.CallbackAge = time.Since(at)
			}
			return b
		},
	}
}

// refused counts what a limit has refused, and notes whom.
func (i *instance) refused(ctx context.Context, r limit.Refusal) {
	i.metrics.limited.WithLabelValues(r.Limit).Inc()
	i.recorder.Note(ctx, audit.Event{Kind: audit.Limited, Detail: r.Limit, Account: r.Account, Person: i.recorder.Person(r.OpenID)})
}

// instanceName is who an instance is for its operator, and in the audit log.
func instanceName(cfg config.Config) string {
	host, _ := os.Hostname()
	return cmp.Or(cfg.Instance, host, "unknown")
}

// notify wakes the streams of this very instance, and tells the others.
func (i *instance) notify(ctx context.Context, id login.ID) error {
	i.hub.Wake(login.Hint{ID: id, Since: login.ArrivedAt(ctx)})
	return i.notifier.Notify(ctx, id)
}

// step, called and pushed hear of what is over, for the metrics and the traces.
func (i *instance) step(ctx context.Context, s login.Step) {
	i.metrics.step(s)
	i.traces.step(ctx, s)
}

func (i *instance) called(ctx context.Context, c wechat.Call) {
	i.metrics.called(c)
	i.traces.called(ctx, c)
}

func (i *instance) pushed(l login.Login, since time.Time) {
	i.metrics.pushed(l)
	i.traces.pushed(l, since)
}

// ready tells what keeps this instance from being sent browsers.
func (i *instance) ready(ctx context.Context) error {
	switch {
	case i.hub.Draining():
		return errors.New("shutting down")
	case !i.listener.Listening():
		return errors.New("LISTEN is down")
	}
	return i.db.Current(ctx)
}

// run answers until ctx ends, then lets go of everything in good order. It returns nil
// after that, and an error when the instance broke by itself.
func (i *instance) run(ctx context.Context) error {
	defer i.close()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	work.Go(func() { i.recorder.Run(background) })
	work.Go(func() { i.notifier.Run(background) })
	work.Go(func() { i.listener.Run(background) })
	work.Go(func() { _ = i.hub.Run(background) })
	work.Go(func() { i.teller.Run(background) }) // requests that end last are told of, too
	work.Go(func() { i.reserve.Run(ctx) })       // no new codes once we stop
	work.Go(func() { i.housekeeper().Run(ctx) })
	work.Go(func() { i.heart.Run(background) })
	i.logger.InfoContext(ctx, "scanlogin is up", "version", version(), "addr", i.public.addr(), "public_url", i.cfg.Origin())
	if !i.cfg.Secure() && !loopback(i.cfg.PublicURL.Hostname()) {
		i.logger.WarnContext(ctx, "PUBLIC_URL is http: what browsers send, cookies and passwords too, can be read on the way", "public_url", i.cfg.Origin())
	}
	i.logger.InfoContext(ctx, "what a scan does", "confirm", i.cfg.Confirm, "meaning", scanMeans(i.cfg.Confirm))

	failed := make(chan error, 2)
	i.public.start(failed)
	i.ops.start(failed)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	i.logger.InfoContext(ctx, "shutting down", "streams", i.hub.Len())
	return i.drain(context.WithoutCancel(ctx))
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// scanMeans is the setting CONFIRM in words, for whoever runs this.
func scanMeans(confirm string) string {
	switch confirm {
	case "reply":
		return "whoever scans has to answer in the chat with the number on the page"
	case "code":
		return "whoever scans is sent a code, which the page asks for"
	}
	return "whoever scans a code is logged in on the page that shows it, without a question: also where somebody else holds it out to them. CONFIRM=reply or CONFIRM=code asks first"
}

func (i *instance) housekeeper() *postgres.Housekeeper {
	return &postgres.Housekeeper{
		DB:     i.db,
		Holder: login.NewSecret().ID(),
		// A push can be answered from one window before its timestamp to one window after.
		KeepPushes:  2*min(i.cfg.WeChatCallbackWindow, farOff) + 5*time.Minute,
		KeepLimits:  rules(i.cfg).Memory(),
		SessionIdle: i.cfg.SessionIdle,
		KeepAudit:   i.cfg.AuditKeep,
		Removed:     func(table string, rows int64) { i.metrics.removed.WithLabelValues(table).Add(float64(rows)) },
		Logger:      i.logger,
	}
}

// drain sends the browsers elsewhere first, then lets requests finish: callbacks above
// all, which WeChat would have to repeat.
func (i *instance) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestsEnd)
	defer cancel()
	i.hub.Drain(ctx)
	select {
	case <-ctx.Done():
	case <-time.After(i.linger()):
	}
	err := errors.Join(i.public.stop(ctx), i.ops.stop(ctx))
	if errors.Is(err, context.DeadlineExceeded) {
		i.logger.WarnContext(ctx, "requests are cut off: they took too long to finish")
		return nil
	}
	return err
}

// linger is how long an instance that stops goes on listening: whoever balances finds out
// by /readyz meanwhile, and the browsers that it still sends are told to come back.
func (i *instance) linger() time.Duration { return min(i.cfg.DrainWindow, maxLinger) }

// close cuts off what is left.
func (i *instance) close() {
	i.public.close()
	i.ops.close()
	if i.db == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		i.db.Close()
		if i.users != nil {
			i.users.Close()
		}
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(databaseLetsGo):
	}
}

// server is an http.Server on an address that is bound already. A nil one is off.
type server struct {
	http.Server
	listener net.Listener
}

func newServer(ctx context.Context, addr, setting string, h http.Handler, logger *slog.Logger) (*server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: another program listens on %s already; stop it or choose another address", setting, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return &server{http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second, // of answers; a stream has left its server by then
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}, l}, nil
}

func (s *server) addr() string { return s.listener.Addr().String() }

func (s *server) start(failed chan<- error) {
	if s == nil {
		return
	}
	go func() {
		if err := s.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving %s: %w", s.addr(), err)
		}
	}()
}

func (s *server) stop(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.Shutdown(ctx)
}

func (s *server) close() {
	if s == nil {
		return
	}
	_ = s.listener.Close()
	_ = s.Close()
}
