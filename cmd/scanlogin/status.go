package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
	"scanlogin/internal/status"
)

// watchEvery is how often status --watch looks.
const watchEvery = 2 * time.Second

func statusCommand() command {
	var asJSON, watch bool
	return command{
		groups: config.Database,
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&asJSON, "json", false, "for programs, an object a line")
			f.BoolVar(&watch, "watch", false, "again every 2 s, until ctrl-C")
		},
		run: func(ctx context.Context, p program, cfg config.Config, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("status takes no arguments; %w", errUsage)
			}
			db, err := postgres.Open(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseSchema)
			if err != nil {
				return err
			}
			defer db.Close()
			write := writeStatus
			if asJSON {
				write = func(out io.Writer, r status.Report) error { return json.NewEncoder(out).Encode(r) }
			}
			return p.status(ctx, postgres.Status{DB: db}, write, watch)
		},
	}
}

// status fails where no instance is up, so that a monitor can use its exit code.
func (p program) status(ctx context.Context, s postgres.Status, write func(io.Writer, status.Report) error, watch bool) error {
	for {
		r, err := s.Report(ctx)
		if err != nil {
			return err
		}
		if err := write(p.stdout, r); err != nil {
			return err
		}
		if !watch && r.Alive() == 0 {
			return errNoInstance
		}
		if !watch || !pause(ctx, watchEvery) {
			return nil
		}
	}
}

var errNoInstance = fmt.Errorf("no instance was heard of in the last %s", status.SilentAfter)

// pause is false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func writeStatus(out io.Writer, r status.Report) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "INSTANCE\tSTATE\tSTREAMS\tUP FOR\tLAST PUSH\tVERSION")
	for _, i := range r.Instances {
		state, push := i.State, "none yet"
		if state == status.Silent {
			state += " for " + i.Unseen.String()
		}
		if i.LastCallback != nil {
			push = i.LastCallback.String() + " ago"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\n", i.Name, state, i.Streams, i.UpFor, push, i.Version)
	}
	fmt.Fprintf(table, "\nSCENES\tHELD\tCODES READY\n%d\t%d\t%d\n", r.Pool.Size, r.Pool.Held, r.Pool.Ready)
	fmt.Fprintln(table, "\nOFFICIAL ACCOUNT\tCODES TODAY\tQUOTA\tTOKEN ENDS IN")
	for _, a := range r.Accounts {
		quota := "open"
		if a.NoCodesFor > 0 {
			quota = "spent for " + a.NoCodesFor.String()
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", a.AppID, a.CodesToday, quota, a.TokenEndsIn)
	}
	writeTroubles(table, r)
	return table.Flush()
}

func writeTroubles(table io.Writer, r status.Report) {
	head := "\nLAST WARNINGS AND ERRORS\tTIMES\tLAST TIME\tINSTANCE"
	for _, i := range r.Instances {
		for _, t := range i.Troubles {
			if head != "" {
				fmt.Fprintln(table, head)
				head = ""
			}
			fmt.Fprintf(table, "%s: %s\t%d\t%s\t%s\n", t.Level, joined(t.Message, t.Error), t.Times, t.At.Format(time.RFC3339), i.Name)
		}
	}
}

func joined(message, err string) string {
	if err == "" {
		return message
	}
	return message + ": " + err
}
