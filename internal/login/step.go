package login

import (
	"context"
	"time"
)

// Step is one step of a login that was tried, for whoever counts and traces them.
type Step struct {
	Name    string // one of StepNames
	Login   ID     // zero: of none that is known, or of several
	Began   time.Time
	Outcome string // in a word; of a claim, how its code was had: ready or made. Empty where Err says it
	Err     error
}

// StepNames are all the names, in the order of the story.
func StepNames() []string {
	return []string{"claim", "scan", "answer", "confirm", "complete", "bind"}
}

func (s *Service) observe(ctx context.Context, step Step) {
	if s.Observe != nil {
		s.Observe(ctx, step)
	}
}
