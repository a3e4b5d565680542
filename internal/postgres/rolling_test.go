package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// older runs what an instance of an older schema runs. A statement whose parameters have
// changed since is run as it is now.
type older struct {
	pgstore.DBTX
	texts map[string]string // by the statement's name
}

func (o older) text(now string) string {
	s := parseStatements(now)[0]
	if was, ok := o.texts[s.name]; ok && parameters(was) == parameters(s.text) {
		return was
	}
	return now
}

// single is a Claim or a Join that was for one login alone.
func (o older) single(now string, args []any) (string, []any) {
	name := parseStatements(now)[0].name
	named := map[string]string{"Claim": "$1::uuid AS login", "Join": "$1::integer AS id, $2::uuid AS login"}[name]
	was, ok := o.texts[name]
	if !ok || named == "" || strings.Contains(was, "unnest") {
		return o.text(now), args
	}
	for i, all := range args {
		args[i] = reflect.ValueOf(all).Index(0).Interface()
	}
	return "WITH one AS (" + was + ") SELECT " + named + ", one.* FROM one", args
}

// complete is a Complete that knew nothing of a session but its account.
func (o older) complete(now string, args []any) (string, []any) {
	was, ok := o.texts["Complete"]
	if s := parseStatements(now)[0]; !ok || s.name != "Complete" || parameters(was) != 5 {
		return o.unaudited(now, args)
	}
	return was, slices.Delete(slices.Clone(args[:7]), 2, 4) // neither browser nor place, nor what it replaces
}

// unaudited is a statement that knew nothing of the audit log: what that is told stands at
// the end.
func (o older) unaudited(now string, args []any) (string, []any) {
	s := parseStatements(now)[0]
	was, ok := o.texts[s.name]
	if !ok || !strings.Contains(s.text, "INTO scanlogin.audit") || strings.Contains(was, "INTO scanlogin.audit") {
		return o.text(now), args
	}
	return was, args[:parameters(was)]
}

// session is a SessionByHash that knew accounts of ours alone.
func (o older) session(now, was string) string {
	if s := parseStatements(now)[0]; s.name != "SessionByHash" || strings.Contains(was, "external_id") {
		return was
	}
	return "SELECT one.*, '' AS external_id, 0 AS password_changes FROM (" + was + ") one"
}

func parameters(text string) int {
	different := map[string]bool{}
	for _, p := range regexp.MustCompile(`\$\d+`).FindAllString(text, -1) {
		different[p] = true
	}
	return len(different)
}

func (o older) Exec(ctx context.Context, s string, args ...any) (pgconn.CommandTag, error) {
	s, args = o.complete(s, args)
	return o.DBTX.Exec(ctx, s, args...)
}

func (o older) Query(ctx context.Context, s string, args ...any) (pgx.Rows, error) {
	s, args = o.single(s, args)
	return o.DBTX.Query(ctx, s, args...)
}

func (o older) QueryRow(ctx context.Context, s string, args ...any) pgx.Row {
	was, args := o.unaudited(s, args)
	return o.DBTX.QueryRow(ctx, o.session(s, was), args...)
}

// In a rolling deploy any step of a login may be done by an instance of any version.
func TestALoginGoesOnWhicheverVersionDoesTheNextStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.tie("ann", w.account("ann"))
	now := pgstore.New(w.admin)
	for _, version := range olderSchemas(t) {
		texts := map[string]string{}
		for _, s := range statementsOf(t, version) {
			texts[s.name] = s.text
		}
		was := pgstore.New(older{w.admin, texts})
		for mix := range 1 << 6 {
			by := func(step int) *pgstore.Queries {
				if mix>>step&1 == 1 {
					return was
				}
				return now
			}
			if err := w.story(by, fmt.Sprintf("code %d.%d", version, mix)); err != nil {
				t.Errorf("beside schema %d, steps %06b by the older: %v", version, mix, err)
			}
		}
	}
}

// story is a login from its code to its session, each step by whom it says.
func (w *world) story(by func(step int) *pgstore.Queries, code string) error {
	w.t.Helper()
	ctx, id, hash := w.t.Context(), newID(), newHash()
	err := by(0).Prepare(ctx, pgstore.PrepareParams{ID: 1, Ticket: code, Url: code, Ttl: 2 * long, Fresh: long})
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	var rows []pgstore.ClaimRow
	for step := 0; len(rows) == 0; step++ { // the ring passes 0
		if step == 10 {
			return errors.New("no scene is free: the story before has left it held")
		}
		p := pgstore.ClaimParams{Logins: []login.ID{id}, Ttls: []time.Duration{time.Minute}, Rests: []time.Duration{0}}
		if rows, err = by(1).Claim(ctx, p); err != nil {
			return fmt.Errorf("claim: %w", err)
		}
	}
	claimed := rows[0]
	if claimed.Ticket == "" {
		claimed.Ticket = code + " of its own"
		n, err := by(2).SetTicket(ctx, pgstore.SetTicketParams{Ticket: claimed.Ticket, Url: code, ID: 1, Login: id})
		if err != nil || n != 1 {
			return fmt.Errorf("%d scenes were given a ticket: %w", n, err)
		}
	}
	joined, err := by(3).Join(ctx, []int32{1}, []login.ID{id})
	if err != nil || len(joined) != 1 || joined[0].Ticket != claimed.Ticket {
		return fmt.Errorf("joined %+v: %w", joined, err)
	}
	scanned, err := by(4).Scan(ctx, pgstore.ScanParams{
		Openid: "ann", BindTtl: time.Minute, ID: 1, Ticket: claimed.Ticket, Appid: appID, Push: digestOf(claimed.Ticket),
	})
	if err != nil || *scanned.Login != id || !scanned.Known {
		return fmt.Errorf("scanned %+v: %w", scanned, err)
	}
	looked, err := by(3).Look(ctx, pgstore.LookParams{Ids: []int32{1}, Logins: []login.ID{id}, Seen: []string{"waiting"}})
	if err != nil || len(looked) != 1 || looked[0].State != "authenticated" {
		return fmt.Errorf("looked at %+v: %w", looked, err)
	}
	n, err := by(5).Complete(ctx, pgstore.CompleteParams{TokenHash: hash[:], SessionTtl: time.Minute, ID: 1, Login: id, Appid: appID})
	if err != nil || n != 1 {
		return fmt.Errorf("%d sessions made: %w", n, err)
	}
	session, err := by(4).SessionByHash(ctx, hash[:], long)
	if err != nil || session.Name != "ann" {
		return fmt.Errorf("the session is of %q: %w", session.Name, err)
	}
	reply, err := by(1).PushReply(ctx, digestOf(claimed.Ticket))
	if err != nil || reply != login.LoggedIn.String() {
		return fmt.Errorf("the push was answered %q: %w", reply, err)
	}
	return nil
}
