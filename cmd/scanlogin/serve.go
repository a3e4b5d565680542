package main

import (
	"context"
	"flag"
	"fmt"

	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
)

func serveCommand() command {
	var migrate bool
	return command{
		groups: config.All,
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&migrate, "migrate", true, "apply pending migrations first; =false leaves that to a deploy step")
		},
		run: func(ctx context.Context, p program, cfg config.Config, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("serve takes no arguments; %w", errUsage)
			}
			return p.serve(ctx, cfg, migrate)
		},
	}
}

// serve runs one instance until ctx ends.
func (p program) serve(ctx context.Context, cfg config.Config, migrate bool) error {
	logger := p.logger(cfg)
	if err := checkOffline(ctx, cfg, logger); err != nil {
		return err
	}
	if err := postgres.CheckListen(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseListenURL.Reveal()); err != nil {
		return err
	}
	if migrate {
		// The direct connection: the lock that keeps instances apart lives in a session.
		if err := postgres.Migrate(ctx, cfg.DatabaseListenURL.Reveal(), cfg.DatabaseSchema, cfg.DatabaseServiceRole); err != nil {
			return err
		}
	}
	t, err := newTraces(ctx, p.lookup, logger)
	if err != nil {
		return err
	}
	defer t.stop(ctx)
	i, err := newInstance(ctx, cfg, t, logger)
	if err != nil {
		return err
	}
	return i.run(ctx)
}
