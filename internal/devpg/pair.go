package devpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// StandbyName is what the standby of a pair calls itself to its primary: with
// synchronous_standby_names set to it, a commit waits until it is safe on both.
const StandbyName = "standby"

const signalName = "standby.signal"

// StartPair starts two servers, the second a standby that streams from the first
// and can be promoted. Where the standby's folder is new, it
// becomes a copy of the primary's; the primary's may be new too, or hold the data
// of a server that was stopped. It returns once both accept connections and the
// standby streams; on an error neither runs. After that each is a server like any
// other: a Start with its Config is its restart.
func StartPair(ctx context.Context, primary, standby Config) (p, s *Server, err error) {
	if p, s, err = startPair(ctx, primary, standby); err != nil {
		return nil, nil, fmt.Errorf("start a pair of PostgreSQL servers: %w", err)
	}
	p.cfg.Logger.InfoContext(ctx, "PostgreSQL started with a standby", "dir", p.folder.path, "standby", s.folder.path)
	return p, s, nil
}

func startPair(ctx context.Context, primary, standby Config) (p, s *Server, err error) {
	// A standby that was away finds its place again.
	primary.Settings = withDefault(primary.Settings, "wal_keep_size", "256MB")
	standby.Settings = withDefault(standby.Settings, "wal_retrieve_retry_interval", "100ms")
	if p, err = newServer(ctx, primary, (*folder).initialise); err != nil {
		return nil, nil, err
	}
	// The copy is made before the primary runs: nothing changes under it then, and
	// no program is needed that isn't in every installation.
	s, err = newServer(ctx, standby, func(f *folder, ctx context.Context, _ string, _ bool) error {
		return f.copyFrom(ctx, p)
	})
	if err != nil {
		return nil, nil, errors.Join(err, p.release())
	}
	s.bin = p.bin // of the version that made the data
	if _, err := os.Stat(s.folder.signal()); err != nil {
		err = fmt.Errorf("the data in %s isn't a standby's: move the folder away to have a copy made: %w", s.folder.path, err)
		return nil, nil, errors.Join(err, p.release(), s.release())
	}
	if err := p.run(ctx); err != nil {
		return nil, nil, errors.Join(err, s.release())
	}
	if err := s.run(ctx); err != nil {
		return nil, nil, errors.Join(err, p.Stop(ctx))
	}
	if err := s.await(ctx, s.output.streaming); err != nil {
		return nil, nil, errors.Join(err, s.release(), p.Stop(ctx))
	}
	return p, s, nil
}

// Promote makes a standby a primary, with all that its old one has sent it, and
// returns once it takes writes. It does what pg_ctl does: SELECT pg_promote() waits
// in a session, whose snapshot may hold up what it waits for until it is cancelled.
func (s *Server) Promote(ctx context.Context) error {
	request := filepath.Join(s.folder.data(), "promote")
	err := os.WriteFile(request, nil, 0o600)
	if err == nil {
		err = s.folder.runAs.give(request)
	}
	if err != nil {
		return fmt.Errorf("promote PostgreSQL: %w", err)
	}
	s.signal(syscall.SIGUSR1)
	select {
	case <-s.output.writable:
		return nil
	case <-s.done:
		return fmt.Errorf("promote PostgreSQL: it has ended: %w", s.err)
	case <-ctx.Done():
		return fmt.Errorf("promote PostgreSQL: %w: %s", context.Cause(ctx), s.output.tail())
	}
}

func withDefault(settings map[string]string, name, value string) map[string]string {
	all := map[string]string{name: value}
	maps.Copy(all, settings)
	return all
}

// copyFrom makes the data of a standby out of its primary's.
func (f *folder) copyFrom(ctx context.Context, p *Server) error {
	return f.fill(func(unfinished string) error {
		// As the user that PostgreSQL runs as, whose files they have to be.
		if err := f.runTool(ctx, "cp", "-a", p.folder.data(), unfinished); err != nil {
			return err
		}
		err := os.Remove(filepath.Join(unfinished, "postmaster.pid")) // of a primary that has crashed
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return f.follow(unfinished, p)
	})
}

// signal is the file that makes a server a standby; a promotion removes it.
func (f *folder) signal() string { return filepath.Join(f.data(), signalName) }

// follow makes data a standby's. The connection is set in the file, not on the
// command line, so that ALTER SYSTEM can change it.
func (f *folder) follow(data string, p *Server) error {
	signal := filepath.Join(data, signalName)
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if err := f.runAs.give(signal); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	to := fmt.Sprintf("host=%s port=%s user=postgres application_name=%s", quote(p.folder.sockets), p.settings["port"], StandbyName)
	_, err = fmt.Fprintf(conf, "primary_conninfo = %s\n", quote(to))
	return errors.Join(err, conf.Close())
}

// quote is the same in PostgreSQL's settings and in what it connects with.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
