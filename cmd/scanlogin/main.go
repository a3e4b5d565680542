// Command scanlogin lets people log in to a site by scanning a QR code with WeChat.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"

	"scanlogin/internal/config"
)

const usage = `scanlogin: log in by scanning a QR code with WeChat

Usage:
  scanlogin serve                                run one instance against DATABASE_URL
  scanlogin dev                                  everything on a bare machine, WeChat simulated
  scanlogin migrate up|down|status               the database's schema, on demand
  scanlogin user add|passwd|unbind|logout|disable NAME
  scanlogin user list                            accounts from the shell
  scanlogin status                               instances, pool, WeChat's quota, last errors
  scanlogin audit                                what has happened: who signed in, was refused, changed what
  scanlogin wechat check                         proves the account's settings, and says what is wrong
  scanlogin wechat simulate                      a WeChat to scan with, for demos alone
  scanlogin help [COMMAND]                       this, or a command's settings
  scanlogin --version
`

// program is what a command gets from outside.
type program struct {
	lookup         func(string) (string, bool) // the environment
	stdin          io.Reader
	stdout, stderr io.Writer
}

// command is a subcommand: what it reads, its own flags, and what it does.
type command struct {
	groups config.Group
	flags  func(*flag.FlagSet)
	run    func(ctx context.Context, p program, cfg config.Config, args []string) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := program{os.LookupEnv, os.Stdin, os.Stdout, os.Stderr}
	code := p.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// main runs a command line and returns the exit code: 2 for one that can't be
// understood, 1 for anything else that went wrong.
func (p program) main(ctx context.Context, args []string) int {
	err := p.run(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(p.stderr, "scanlogin: %v\n", err)
	if _, ok := errors.AsType[*config.UsageError](err); ok || errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

var errUsage = errors.New("see scanlogin help")

func (p program) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command given; %w", errUsage)
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "--help", "-h", "-help":
		return p.help(args)
	case "--version", "-version", "version":
		_, err := fmt.Fprintln(p.stdout, "scanlogin", version())
		return err
	}
	c, ok := commands(name)
	if !ok {
		return fmt.Errorf("no command %q; %w", name, errUsage)
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	if c.flags != nil {
		c.flags(flags)
	}
	lookup := p.lookup
	if name == "dev" {
		lookup = devDefaults(lookup)
	}
	cfg, rest, err := config.Load(c.groups, lookup, flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return p.help([]string{name})
	}
	if err != nil {
		return err
	}
	return c.run(ctx, p, cfg, rest)
}

// commands returns the command of that name. Each call makes a new one, with the
// variables of its own flags.
func commands(name string) (command, bool) {
	switch name {
	case "serve":
		return serveCommand(), true
	case "dev":
		return devCommand(), true
	case "migrate":
		return migrateCommand(), true
	case "user":
		return userCommand(), true
	case "status":
		return statusCommand(), true
	case "audit":
		return auditCommand(), true
	case "wechat":
		return wechatCommand(), true
	}
	return command{}, false
}

func (p program) help(args []string) error {
	if len(args) == 0 {
		_, err := io.WriteString(p.stdout, usage)
		return err
	}
	c, ok := commands(args[0])
	if !ok {
		return fmt.Errorf("no command %q; %w", args[0], errUsage)
	}
	fmt.Fprint(p.stdout, usage, "\n")
	if c.flags != nil {
		flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
		c.flags(flags)
		fmt.Fprintf(p.stdout, "Flags of %s:\n", args[0])
		flags.SetOutput(p.stdout)
		flags.PrintDefaults()
		fmt.Fprintln(p.stdout)
	}
	return config.Usage(p.stdout, c.groups)
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}

// logger writes as LOG_LEVEL and LOG_FORMAT say.
func (p program) logger(cfg config.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "text" || cfg.LogFormat == "" && isTerminal(p.stderr) {
		return slog.New(slog.NewTextHandler(p.stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, opts))
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
