package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
)

func migrateCommand() command {
	return command{groups: config.Database, run: func(ctx context.Context, p program, cfg config.Config, args []string) (err error) {
		if len(args) != 1 {
			return fmt.Errorf("migrate takes up, down or status; %w", errUsage)
		}
		m, err := postgres.NewMigrator(cfg.DatabaseListenURL.Reveal(), cfg.DatabaseSchema)
		if err != nil {
			return err
		}
		m.ServiceRole = cfg.DatabaseServiceRole
		defer func() { err = errors.Join(err, m.Close()) }()
		if args[0] == "up" || args[0] == "down" { // their lock lives in a session
			if err := postgres.CheckListen(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseListenURL.Reveal()); err != nil {
				return err
			}
		}
		switch args[0] {
		case "up":
			return migrateUp(ctx, m, p.stdout)
		case "down":
			return migrateDown(ctx, m, p.stdout)
		case "status":
			return migrateStatus(ctx, m, p.stdout)
		}
		return fmt.Errorf("migrate takes up, down or status, not %q; %w", args[0], errUsage)
	}}
}

func migrateUp(ctx context.Context, m *postgres.Migrator, out io.Writer) error {
	applied, err := m.Up(ctx)
	for _, name := range applied {
		fmt.Fprintln(out, "applied", name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(out, "nothing to apply")
	}
	return err
}

func migrateDown(ctx context.Context, m *postgres.Migrator, out io.Writer) error {
	name, err := m.Down(ctx)
	switch {
	case err != nil:
		return err
	case name == "":
		fmt.Fprintln(out, "nothing to take back")
	default:
		fmt.Fprintln(out, "took back", name)
	}
	return nil
}

func migrateStatus(ctx context.Context, m *postgres.Migrator, out io.Writer) error {
	migrations, err := m.Status(ctx)
	for _, s := range migrations {
		fmt.Fprintf(out, "%-8s %s\n", s.State, s.Source.Path)
	}
	return err
}
