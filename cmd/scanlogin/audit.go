package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"scanlogin/internal/audit"
	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
)

const (
	// mostRows is how many rows are shown where nobody says how many.
	mostRows = 1000
	// followEvery is how often it is looked for new rows.
	followEvery = 500 * time.Millisecond
	// atOnce is how many rows are asked for when no more are expected.
	atOnce = 1 << 30
)

// auditOptions are the flags.
type auditOptions struct {
	filter       audit.Filter
	since, until string
	kind         string
	address      string
	most         int
	json, follow bool
}

func auditCommand() command {
	var o auditOptions
	return command{
		groups: config.Database,
		flags: func(f *flag.FlagSet) {
			f.StringVar(&o.since, "since", "24h", "rows from then on: a time (2006-01-02, 2006-01-02T15:04:05Z), or how long ago")
			f.StringVar(&o.until, "until", "", "rows before then, in the same form")
			f.StringVar(&o.kind, "kind", "", "rows of one kind: "+kinds())
			f.StringVar(&o.filter.Account, "user", "", "rows about the account of this name")
			f.StringVar(&o.address, "address", "", "rows from this address, or network (192.0.2.0/24)")
			f.StringVar(&o.filter.Login, "login", "", "rows of one login, by its ID or the first digits of it")
			f.StringVar(&o.filter.Person, "person", "", "rows about a WeChat user, as the log names them")
			f.StringVar(&o.filter.OpenID, "openid", "", "the same, by the openid")
			f.StringVar(&o.filter.Instance, "instance", "", "rows that one instance wrote")
			f.IntVar(&o.most, "limit", mostRows, "how many rows at most, the newest of them; 0: all")
			f.BoolVar(&o.json, "json", false, "a JSON object a line instead of columns")
			f.BoolVar(&o.follow, "follow", false, "go on with what is written from now on, until interrupted")
		},
		run: func(ctx context.Context, p program, cfg config.Config, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("audit takes flags only, not %q; %w", args[0], errUsage)
			}
			if err := o.read(time.Now()); err != nil {
				return fmt.Errorf("%w; %w", err, errUsage)
			}
			return p.audit(ctx, cfg, o)
		},
	}
}

func kinds() string {
	var names []string
	for _, k := range audit.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// read makes a filter of what stands in the flags.
func (o *auditOptions) read(now time.Time) (err error) {
	f := &o.filter
	if f.Since, err = readTime(o.since, now); err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	f.Until = now.AddDate(100, 0, 0)
	if o.until != "" {
		if f.Until, err = readTime(o.until, now); err != nil {
			return fmt.Errorf("--until: %w", err)
		}
	}
	if o.follow && o.until != "" {
		return errors.New("--follow goes on for ever, and --until ends")
	}
	if f.Kind = audit.Kind(o.kind); o.kind != "" && !slices.Contains(audit.Kinds(), f.Kind) {
		return fmt.Errorf("--kind: %q is none of %s", o.kind, kinds())
	}
	if f.Network, err = readNetwork(o.address); err != nil {
		return fmt.Errorf("--address: %q is neither an address nor a network", o.address)
	}
	f.Login = strings.ToLower(strings.ReplaceAll(f.Login, "-", ""))
	if strings.Trim(f.Login, "0123456789abcdef") != "" {
		return fmt.Errorf("--login: %q is not in hexadecimal digits", f.Login)
	}
	if o.most < 0 || o.most > atOnce {
		return fmt.Errorf("--limit: %d is not between 0 and %d", o.most, atOnce)
	}
	f.Most = int32(cmp.Or(o.most, atOnce))
	return nil
}

// readTime takes a moment, or how long ago it was.
func readTime(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time, like 2006-01-02 or 2006-01-02T15:04:05Z, nor a duration, like 90m", text)
}

// readNetwork takes an address, a network, or nothing.
func readNetwork(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().WithZone("").Prefix(a.Unmap().BitLen())
	}
	return netip.ParsePrefix(text)
}

// audit prints what is asked for, and goes on with what is new.
func (p program) audit(ctx context.Context, cfg config.Config, o auditOptions) error {
	db, err := postgres.Open(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseSchema)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Current(ctx); err != nil {
		return err
	}
	write := writeColumns
	if o.json {
		write = writeJSONLines
	} else if err := writeHeader(p.stdout); err != nil {
		return err
	}
	log := postgres.Audit{DB: db}
	rows, seen, err := log.Rows(ctx, o.filter, "")
	if err != nil {
		return err
	}
	if err := write(p.stdout, rows); err != nil || !o.follow {
		return err
	}
	return p.followAudit(ctx, log, o.filter, seen, write)
}

// followAudit prints what is new, each row once, until ctx ends or nobody reads any more. An
// outage of the database it waits out.
func (p program) followAudit(ctx context.Context, log postgres.Audit, f audit.Filter, seen audit.Moment, write func(io.Writer, []audit.Row) error) error {
	f.Most = atOnce
	failing := false
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		rows, upto, err := log.Rows(ctx, f, seen)
		if err != nil && ctx.Err() == nil && !failing {
			fmt.Fprintf(p.stderr, "scanlogin: %v; trying again\n", err)
		}
		if failing = err != nil; failing {
			continue
		}
		if err := write(p.stdout, rows); err != nil {
			return err
		}
		seen = upto
	}
}

func writeJSONLines(w io.Writer, rows []audit.Row) error {
	buffered := bufio.NewWriter(w)
	lines := json.NewEncoder(buffered)
	for _, r := range rows {
		if err := lines.Encode(r); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

const columns = "%-20s %-16s %-14s %-16s %-16s %-8s %-15s %5v  %-12s %s\n"

func writeHeader(w io.Writer) error {
	_, err := fmt.Fprintf(w, columns, "TIME", "KIND", "DETAIL", "ACCOUNT", "PERSON", "LOGIN", "ADDRESS", "TIMES", "INSTANCE", "BROWSER, PLACE")
	return err
}

// writeColumns is for people: what is short enough stands in columns, however many rows are
// to come.
func writeColumns(w io.Writer, rows []audit.Row) error {
	buffered := bufio.NewWriter(w)
	for _, r := range rows {
		address := ""
		if r.Address.IsValid() {
			address = r.Address.String()
		}
		from := strings.Trim(r.Browser+", "+r.Place, ", ")
		fmt.Fprintf(buffered, columns, r.At.UTC().Format(time.RFC3339), r.Kind, dash(r.Detail), dash(plain(r.Account)), dash(r.Person),
			dash(r.Login[:min(len(r.Login), 8)]), dash(address), r.Times, plain(r.Instance), dash(plain(from)))
	}
	return buffered.Flush()
}

func dash(text string) string { return cmp.Or(text, "-") }

// plain is a text that does nothing to a terminal.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, text)
}
