package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"scanlogin/internal/audit"
	"scanlogin/internal/postgres/pgstore"
)

// Audit is the log of what has happened.
type Audit struct {
	DB *DB
}

// Write adds what was refused. Where a crash of PostgreSQL forgets it, nothing else was
// forgotten that anybody was told.
func (a Audit) Write(ctx context.Context, events []audit.Counted) error {
	p := pgstore.NoteRefusalsParams{Instance: a.DB.Instance}
	for _, e := range events {
		p.Kinds, p.Details = append(p.Kinds, string(e.Kind)), append(p.Details, e.Detail)
		p.Accounts, p.Persons = append(p.Accounts, e.Account), append(p.Persons, e.Person)
		p.Addresses, p.Browsers, p.Places = append(p.Addresses, addressText(e.Where)), append(p.Browsers, e.Browser), append(p.Places, e.Place)
		p.Times = append(p.Times, e.Times)
	}
	return a.DB.relaxed.NoteRefusals(ctx, p)
}

// addressText is empty where nobody knows it.
func addressText(w audit.Where) string {
	if !w.Addr.IsValid() {
		return ""
	}
	return w.Addr.Unmap().WithZone("").String()
}

// Rows are those that are asked for, the oldest first, and the moment up to which that is
// all. From there on whoever follows asks for what is new since.
func (a Audit) Rows(ctx context.Context, f audit.Filter, seen audit.Moment) ([]audit.Row, audit.Moment, error) {
	// Taken before the rows are read: what commits in between is left for the next time.
	upto, err := a.DB.Queries.Snapshot(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("reading the audit log: %w", err)
	}
	network := ""
	if f.Network.IsValid() {
		network = f.Network.String()
	}
	found, err := a.DB.Queries.AuditLog(ctx, pgstore.AuditLogParams{
		Upto: upto, Seen: string(seen), Since: f.Since, Until: f.Until,
		Kind: string(f.Kind), Account: f.Account, Login: f.Login, Network: network,
		Instance: f.Instance, Person: f.Person, Openid: f.OpenID, Most: f.Most,
	})
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == insufficientPrivilege {
		return nil, "", fmt.Errorf("reading the audit log: %w: the service doesn't read it; its owner does", err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the audit log: %w", err)
	}
	rows := make([]audit.Row, len(found))
	for i, r := range found {
		rows[i] = newRow(r)
	}
	return rows, audit.Moment(upto), nil
}

func newRow(r pgstore.ScanloginAudit) audit.Row {
	row := audit.Row{
		At: r.At, ID: r.ID, Kind: audit.Kind(r.Kind), Detail: r.Detail, AccountID: r.AccountID.Int64, Account: r.Account.String,
		Person: r.Person.String, Browser: r.Browser, Place: r.Place, Instance: r.Instance, Times: r.Times,
	}
	if r.Login != nil {
		row.Login = r.Login.String()
	}
	if r.Address != nil {
		row.Address = *r.Address
	}
	return row
}
