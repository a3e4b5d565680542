// Package status says how a deployment does, for its operator: which instances there are
// and what troubles them, the pool, and what WeChat allows today. Nothing depends on it.
package status

import (
	"context"
	"log/slog"
	"time"

	"scanlogin/internal/login"
)

// Report is how everything stands. Durations are in seconds in JSON.
type Report struct {
	Instances []Instance `json:"instances"`
	Pool      Pool       `json:"pool"`
	Accounts  []Account  `json:"wechat"`
}

// Alive is how many instances were heard of lately.
func (r Report) Alive() (n int) {
	for _, i := range r.Instances {
		if i.State != Silent {
			n++
		}
	}
	return n
}

// Streams is how many are open, over all instances that are heard of.
func (r Report) Streams() (n int) {
	for _, i := range r.Instances {
		if i.State != Silent {
			n += i.Streams
		}
	}
	return n
}

// Instance is one process, as it told last.
type Instance struct {
	Name         string    `json:"name"`
	Version      string    `json:"version"`
	State        string    `json:"state"` // Up, Stopping or Silent
	UpFor        Seconds   `json:"up_for"`
	Unseen       Seconds   `json:"unseen"` // since when it said so
	Streams      int       `json:"streams"`
	LastCallback *Seconds  `json:"last_callback"` // how long ago; nil: none yet
	Troubles     []Trouble `json:"troubles"`      // the newest first
}

// The states of an instance.
const (
	Up       = "up"
	Stopping = "stopping"
	Silent   = "silent" // it died, or can't reach the database
)

// Pool is how the scenes stand.
type Pool struct {
	Size  int `json:"size"`
	Held  int `json:"held"`  // by logins that haven't ended
	Ready int `json:"ready"` // with a code made ahead
}

// Account is an Official Account.
type Account struct {
	AppID       string  `json:"appid"`
	CodesToday  int     `json:"codes_today"`
	NoCodesFor  Seconds `json:"no_codes_for"`  // WeChat's quota is spent for as long
	TokenEndsIn Seconds `json:"token_ends_in"` // 0: there is none
}

// Trouble is a warning or an error of an instance's log.
type Trouble struct {
	At      time.Time `json:"at"` // the last time, by that machine's clock
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Error   string    `json:"error,omitempty"`
	Times   int       `json:"times"`
}

// Seconds is a duration to whole seconds.
type Seconds int64

// String is the duration as Go writes it.
func (s Seconds) String() string { return (time.Duration(s) * time.Second).String() }

// Beat is what an instance says of itself.
type Beat struct {
	ID            login.ID // of this life of the process
	Name, Version string
	Streams       int
	Draining      bool
	CallbackAge   time.Duration // since WeChat's last genuine push; NoCallback: none yet
	Troubles      []Trouble
}

// NoCallback is the age of a push that hasn't come.
const NoCallback = -time.Second

// Store keeps what instances say. Times are its own.
type Store interface {
	Beat(ctx context.Context, b Beat) error
	// Gone forgets an instance that ends in good order.
	Gone(ctx context.Context, id login.ID) error
}

const (
	// interval is the time between two beats.
	interval = 5 * time.Second
	// SilentAfter is how long an instance may say nothing before it counts as silent.
	SilentAfter = 4 * interval
	patience    = 3 * time.Second
	lastWord    = 500 * time.Millisecond // a shutdown has ten seconds, and most of them are for requests
)

// Heart tells the store of this instance until it ends.
type Heart struct {
	Store  Store
	Now    func() Beat // how it stands
	Logger *slog.Logger
}

// Run beats until ctx ends, and takes the instance off the list then.
func (h *Heart) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		h.beat(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.bounded(context.WithoutCancel(ctx), lastWord, func(ctx context.Context) error { return h.Store.Gone(ctx, h.Now().ID) })
			return
		}
	}
}

func (h *Heart) beat(ctx context.Context) {
	h.bounded(ctx, patience, func(ctx context.Context) error { return h.Store.Beat(ctx, h.Now()) })
}

// bounded says at debug what failed: a database that is away is told of by those who need it.
func (h *Heart) bounded(ctx context.Context, patience time.Duration, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := do(ctx); err != nil {
		h.Logger.DebugContext(ctx, "the operator's list of instances isn't up to date", "err", err)
	}
}
