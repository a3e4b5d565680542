package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/config"
	"scanlogin/internal/postgres"
)

func userCommand() command {
	return command{groups: config.Database | config.Deeds | config.Accounts, run: func(ctx context.Context, p program, cfg config.Config, args []string) error {
		do, err := p.userAction(args)
		if err != nil {
			return err
		}
		if cfg.Accounts == "sql" && slices.Contains([]string{"add", "passwd", "disable"}, args[0]) {
			return errForeign
		}
		db, err := postgres.Open(ctx, cfg.DatabaseURL.Reveal(), cfg.DatabaseSchema)
		if err != nil {
			return err
		}
		defer db.Close()
		db.Instance = instanceName(cfg)
		ctx = audit.With(ctx, audit.Where{Browser: "scanlogin user, run by " + osUser()})
		logger := p.logger(cfg)
		users, err := openUsers(ctx, cfg, logger)
		if err != nil {
			return err
		}
		if users != nil {
			defer users.Close()
		}
		return do(ctx, accountsOf(cfg, db, users, logger))
	}}
}

var errForeign = errors.New("with ACCOUNTS=sql users and their passwords are made where your users are, not here")

// osUser is who runs this, for the audit log.
func osUser() string {
	u, err := user.Current()
	if err != nil {
		return "user " + strconv.Itoa(os.Getuid())
	}
	return u.Username
}

// userAction finds out what is asked for, before the database is.
func (p program) userAction(args []string) (func(context.Context, *account.Service) error, error) {
	if len(args) == 1 && args[0] == "list" {
		return p.listUsers, nil
	}
	if len(args) != 2 {
		return nil, fmt.Errorf("user takes add, passwd, unbind, logout or disable with a NAME, or list; %w", errUsage)
	}
	name := args[1]
	switch args[0] {
	case "add":
		return func(ctx context.Context, s *account.Service) error { return p.addUser(ctx, s, name) }, nil
	case "passwd":
		return func(ctx context.Context, s *account.Service) error { return p.setPassword(ctx, s, name) }, nil
	case "unbind":
		return func(ctx context.Context, s *account.Service) error { return p.unbindUser(ctx, s, name) }, nil
	case "logout":
		return func(ctx context.Context, s *account.Service) error { return p.logoutUser(ctx, s, name) }, nil
	case "disable":
		return func(ctx context.Context, s *account.Service) error { return p.disableUser(ctx, s, name) }, nil
	}
	return nil, fmt.Errorf("user takes add, passwd, unbind, logout, disable or list, not %q; %w", args[0], errUsage)
}

func (p program) addUser(ctx context.Context, s *account.Service, name string) error {
	password, err := p.readPassword()
	if err != nil {
		return err
	}
	u, err := s.Create(ctx, name, password)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "added %s\n", u.Name)
	return err
}

func (p program) setPassword(ctx context.Context, s *account.Service, name string) error {
	password, err := p.readPassword()
	if err != nil {
		return err
	}
	if err := s.SetPassword(ctx, name, password); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "changed the password of %s and ended the sessions\n", name)
	return err
}

func (p program) unbindUser(ctx context.Context, s *account.Service, name string) error {
	ties, err := s.UnbindName(ctx, name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "removed %d WeChat ties of %s\n", ties, name)
	return err
}

func (p program) logoutUser(ctx context.Context, s *account.Service, name string) error {
	if err := s.SignOutEverywhere(ctx, name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "ended the sessions of %s\n", name)
	return err
}

func (p program) disableUser(ctx context.Context, s *account.Service, name string) error {
	if err := s.Disable(ctx, name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "disabled %s, until user passwd sets another password\n", name)
	return err
}

func (p program) listUsers(ctx context.Context, s *account.Service) error {
	users, err := s.List(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tWECHAT\tCREATED")
	for _, u := range users {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", u.PublicID(), u.Name, u.Ties, u.CreatedAt.UTC().Format(time.RFC3339))
	}
	return table.Flush()
}

var errPasswordsDiffer = errors.New("the two passwords differ")

// readPassword asks twice on a terminal, and reads the first line of anything else.
func (p program) readPassword() (string, error) {
	file, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(p.stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	first, err := p.ask(file, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := p.ask(file, "Once more: ")
	if err == nil && first != second {
		err = errPasswordsDiffer
	}
	return first, err
}

func (p program) ask(terminal *os.File, prompt string) (string, error) {
	fmt.Fprint(p.stderr, prompt)
	b, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(p.stderr)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return string(b), nil
}
