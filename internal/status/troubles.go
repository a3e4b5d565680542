package status

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// kept is how many troubles are told of.
const kept = 8

// Troubles remembers the last warnings and errors that went through a logger.
type Troubles struct {
	mu   sync.Mutex
	last []Trouble // the newest first
}

// Last returns them, the newest first.
func (t *Troubles) Last() []Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.last)
}

// Watch returns a logger that writes as l does, and tells t.
func (t *Troubles) Watch(l *slog.Logger) *slog.Logger { return slog.New(watcher{l.Handler(), t}) }

// add puts what was said before, and again now, at the front.
func (t *Troubles) add(r slog.Record) {
	now := Trouble{At: r.Time.UTC(), Level: r.Level.String(), Message: r.Message, Times: 1}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			now.Error = a.Value.String()
		}
		return true
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.last, func(old Trouble) bool { return old.Message == now.Message }); i >= 0 {
		now.Times += t.last[i].Times
		t.last = slices.Delete(t.last, i, i+1)
	}
	t.last = slices.Insert(t.last, 0, now)
	t.last = t.last[:min(len(t.last), kept)]
}

// watcher is a handler that tells of warnings and errors.
type watcher struct {
	slog.Handler
	troubles *Troubles
}

// Handle implements slog.Handler.
func (w watcher) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.troubles.add(r)
	}
	return w.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (w watcher) WithAttrs(attrs []slog.Attr) slog.Handler {
	return watcher{w.Handler.WithAttrs(attrs), w.troubles}
}

// WithGroup implements slog.Handler.
func (w watcher) WithGroup(name string) slog.Handler {
	return watcher{w.Handler.WithGroup(name), w.troubles}
}
