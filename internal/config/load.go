package config

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Load returns the settings of these groups and the arguments that are no
// flags. Settings outside the groups have their defaults.
//
// lookup reads the environment, as [os.LookupEnv] does. A variable that is
// set to nothing counts as unset, except OPS_ADDR, which it turns off.
//
// flags may hold flags of the command's own, or be nil; Load adds one for each
// setting and parses args with it. Flags win over the environment and may
// stand before, between and after the other arguments; "--" ends them.
//
// Errors: [flag.ErrHelp] where -h or --help is among the flags, a
// [*UsageError] for flags that can't be understood, else all the [*SettingError]s
// of all settings, joined, one a line.
func Load(groups Group, lookup func(string) (string, bool), flags *flag.FlagSet, args []string) (Config, []string, error) {
	l := loader{settings: settingsOf(groups), values: map[string]string{}, reasons: map[string]string{}}
	l.readEnvironment(lookup)
	rest, err := l.readFlags(flags, args)
	if err != nil {
		return Config{}, nil, err
	}
	c, err := l.load()
	if err != nil {
		return Config{}, nil, err
	}
	return c, rest, nil
}

// loader collects values first and what is wrong with them then.
type loader struct {
	settings []Setting
	values   map[string]string // name -> text; there where it was set, even to nothing
	reasons  map[string]string // name -> what is wrong with it, the first thing found
}

func (l *loader) readEnvironment(lookup func(string) (string, bool)) {
	for _, s := range l.settings {
		if value, ok := lookup(s.Name); ok {
			l.values[s.Name] = value
		}
	}
}

// readFlags returns the arguments that are no flags.
func (l *loader) readFlags(flags *flag.FlagSet, args []string) ([]string, error) {
	flags = cmp.Or(flags, flag.NewFlagSet("", flag.ContinueOnError))
	flags.Init(flags.Name(), flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller reports, once
	for _, s := range l.settings {
		flags.Func(s.Flag, s.Meaning, func(value string) error {
			l.values[s.Name] = value
			return nil
		})
	}
	rest, err := parseAnywhere(flags, args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return rest, err
	}
	// Package flag quotes some arguments whole, and what follows "=" may be
	// a secret.
	reason, _, _ := strings.Cut(err.Error(), "=")
	return nil, &UsageError{reason}
}

// parseAnywhere parses flags wherever they stand, where [flag.FlagSet.Parse]
// stops at the first argument that is none.
func parseAnywhere(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		left := flags.Args()
		parsed := args[:len(args)-len(left)]
		if len(left) == 0 || len(parsed) > 0 && parsed[len(parsed)-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// load turns texts into values and checks them.
func (l *loader) load() (Config, error) {
	var c Config
	err := env.ParseWithOptions(&c, env.Options{Environment: l.values, FuncMap: parsers()})
	if err != nil {
		if err := l.explain(err); err != nil {
			return Config{}, err
		}
	}
	l.fill(&c)
	l.check(&c)
	if err := l.problems(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// explain notes what env couldn't parse. Only env's complaints about the
// struct itself come back, which no value can cause.
func (l *loader) explain(err error) error {
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return fmt.Errorf("config: %w", err)
	}
	for _, err := range all.Errors {
		parse, ok := errors.AsType[env.ParseError](err)
		if !ok {
			return fmt.Errorf("config: %w", err)
		}
		name := l.nameOf(parse.Name)
		if parse.Type == reflect.TypeFor[slog.Level]() {
			l.refuse(name, "%s is not debug, info, warn or error", shown(l.values[name]))
		}
		l.refuse(name, "%v", parse.Err)
	}
	return nil
}

func (l *loader) nameOf(field string) string {
	for _, s := range l.settings {
		if s.field == field {
			return s.Name
		}
	}
	return field
}

// fill sets what a tag can't say: defaults that are other settings, and the
// one setting that is switched off by setting it to nothing.
func (l *loader) fill(c *Config) {
	if l.values["DATABASE_LISTEN_URL"] == "" {
		c.DatabaseListenURL = c.DatabaseURL
	}
	if l.values["ACCOUNTS_URL"] == "" {
		c.AccountsURL = c.DatabaseURL
	}
	if l.values["SCENE_REST"] == "" {
		c.SceneRest = c.SceneTTL
	}
	if value, ok := l.values["OPS_ADDR"]; ok {
		c.OpsAddr = value
	}
}

// refuse notes what is wrong with a setting, as the rest of a sentence that
// begins with its name. The first reason stays.
func (l *loader) refuse(name, format string, args ...any) {
	if !l.refused(name) {
		l.reasons[name] = fmt.Sprintf(format, args...)
	}
}

func (l *loader) refused(name string) bool {
	_, ok := l.reasons[name]
	return ok
}

// problems returns all that is wrong, or nil.
func (l *loader) problems() error {
	var all []error
	for _, s := range l.settings {
		if reason, ok := l.reasons[s.Name]; ok {
			all = append(all, &SettingError{Setting: s, Reason: reason})
		}
	}
	return errors.Join(all...)
}
