package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/account"
)

// UserStatements are how the team's own users are looked up. What somebody has typed
// reaches them as a parameter, and nothing else does.
type UserStatements struct {
	FindByName string // $1: the name as it was typed; column id
	Verify     string // $1: an id, $2: the password as it was typed; one boolean
	FindByID   string // $1: an id; columns id and name, and version where there is one
}

// Users are the team's own, in whatever table they have. It implements account.Users. Every
// answer is read as text, so an id may be a number, a uuid or a text.
type Users struct {
	pool                         *pgxpool.Pool
	findByName, verify, findByID query
	logger                       *slog.Logger
}

// query is one of the statements, and what it has to be like.
type query struct {
	setting    string // that it comes from
	text       string
	parameters int
	columns    []string // that it has to have; none: one boolean
}

const (
	// maxUserConns is also how many passwords are checked at a time.
	maxUserConns = 8
	// beginAsking allows to read and nothing else, and 5 s for that.
	beginAsking = "BEGIN READ ONLY; SET LOCAL statement_timeout = 5000"
)

// OpenUsers connects to the database at url and finds out whether the statements can be
// used there: an error tells everything that is wrong with them.
func OpenUsers(ctx context.Context, url string, s UserStatements, logger *slog.Logger) (*Users, error) {
	pool, err := openPool(ctx, url, maxUserConns)
	if err != nil {
		return nil, fmt.Errorf("ACCOUNTS_URL: %w", err)
	}
	u := &Users{
		pool:       pool,
		findByName: query{"ACCOUNTS_FIND_BY_NAME", s.FindByName, 1, []string{"id"}},
		verify:     query{"ACCOUNTS_VERIFY", s.Verify, 2, nil},
		findByID:   query{"ACCOUNTS_FIND_BY_ID", s.FindByID, 1, []string{"id", "name"}},
		logger:     logger,
	}
	if err := u.check(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return u, nil
}

// Close closes the connections.
func (u *Users) Close() { u.pool.Close() }

// IDOf returns the ID of whom this name signs in; account.ErrNoUser.
func (u *Users) IDOf(ctx context.Context, name string) (string, error) {
	row, err := u.find(ctx, u.findByName, name)
	if u.cannotTake(ctx, err) {
		return "", account.ErrNoUser
	}
	return row["id"], err
}

// ByID returns the user as they are now; account.ErrNoUser. A value that the statement can't
// take is no answer here: the id has come from a statement, so it is another row that is
// broken, and nobody is gone.
func (u *Users) ByID(ctx context.Context, id string) (account.Foreign, error) {
	row, err := u.find(ctx, u.findByID, id)
	if err != nil {
		return account.Foreign{}, err
	}
	if row["id"] != id {
		return account.Foreign{}, fmt.Errorf("%s: asked for one id, it gives another", u.findByID.setting)
	}
	f := account.Foreign{ID: id, Name: visible(row["name"]), Version: row["version"]}
	if f.Name == "" {
		f.Name = id
	}
	return f, nil
}

// Check tells whether this is the user's password. NULL is no, and so is no row.
func (u *Users) Check(ctx context.Context, id, password string) (bool, error) {
	rows, err := u.ask(ctx, u.verify, id, password)
	if err != nil || len(rows) == 0 {
		if u.cannotTake(ctx, err) {
			err = nil
		}
		return false, err
	}
	if len(rows) > 1 {
		return false, fmt.Errorf("%s: more than one row", u.verify.setting)
	}
	return slices.Contains(slices.Collect(maps.Values(rows[0])), "t"), nil
}

// find returns the one row about a user.
func (u *Users) find(ctx context.Context, q query, about string) (map[string]string, error) {
	rows, err := u.ask(ctx, q, about)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, account.ErrNoUser
	case len(rows) > 1:
		return nil, fmt.Errorf("%s: more than one row", q.setting)
	case !validID(rows[0]["id"]):
		return nil, fmt.Errorf("%s: an id that is empty, long, begins or ends with a space, or can't be seen", q.setting)
	}
	return rows[0], nil
}

// validID is one that a header carries as it is.
func validID(id string) bool {
	return id != "" && len(id) <= 255 && strings.TrimSpace(id) == id && !strings.ContainsFunc(id, unicode.IsControl)
}

// visible is a name as a header carries it.
func visible(name string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, name))
}

// ask runs one of the statements, in a transaction of its own. A row is a text for each
// column that isn't NULL.
//
// Nothing is prepared: their tables may change under us, and poolers don't always know how.
func (u *Users) ask(ctx context.Context, q query, args ...any) (rows []map[string]string, err error) {
	args = append([]any{pgx.QueryExecModeExec}, args...)
	err = u.inTransaction(ctx, func(tx pgx.Tx) error {
		result, err := tx.Query(ctx, q.text, args...)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(result, asTexts)
		return err
	})
	return rows, told(q, err)
}

func (u *Users) inTransaction(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, u.pool, pgx.TxOptions{BeginQuery: beginAsking}, f)
}

func asTexts(row pgx.CollectableRow) (map[string]string, error) {
	texts := map[string]string{}
	for i, raw := range row.RawValues() {
		if raw != nil {
			texts[row.FieldDescriptions()[i].Name] = string(raw)
		}
	}
	return texts, nil
}

// complaint is what the database has against a statement. It may quote what somebody typed,
// a password too: its words are passed on only where they are about the statement.
type complaint struct{ setting, code, words string }

// Error says which statement, and why.
func (c *complaint) Error() string { return c.setting + ": " + c.words + "SQLSTATE " + c.code }

func told(q query, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("%s: %w", q.setting, err)
	}
	c := &complaint{setting: q.setting, code: e.Code}
	if slices.Contains([]string{"25", "42", "53", "57"}, class(e.Code)) { // state, rights and syntax, resources, cancelled
		c.words = e.Message + ", "
	}
	return c
}

// Classes of SQLSTATE.
const (
	dataException = "22"
	raised        = "P0" // by a function's own RAISE
)

func class(code string) string { return code[:min(2, len(code))] }

// cannotTake says that it is about a value: "al" for a number, a letter that their database
// doesn't have, a hash that is none. Who typed that isn't there.
func (u *Users) cannotTake(ctx context.Context, err error) bool {
	c, ok := errors.AsType[*complaint](err)
	if !ok || class(c.code) != dataException {
		return false
	}
	u.logger.WarnContext(ctx, "a statement can't take a value, which counts as nobody's", "setting", c.setting, "sqlstate", c.code)
	return true
}

// check tells everything that is wrong with the statements, or nil.
func (u *Users) check(ctx context.Context) error {
	if err := u.pool.Ping(ctx); err != nil {
		return fmt.Errorf("connecting by ACCOUNTS_URL: %w", err)
	}
	var problems []error
	for _, q := range []query{u.findByName, u.verify, u.findByID} {
		if err := u.try(ctx, q); err != nil {
			problems = append(problems, fmt.Errorf("%s %w", q.setting, err))
		}
	}
	return errors.Join(problems...)
}

// try prepares a statement and looks at what it takes and gives, then runs it about nobody:
// rights are looked at no earlier, nor is what it would write. What it has against NULL is
// no matter.
func (u *Users) try(ctx context.Context, q query) error {
	err := u.inTransaction(ctx, func(tx pgx.Tx) error {
		d, err := tx.Conn().PgConn().Prepare(ctx, "", q.text, nil)
		if err != nil {
			return err
		}
		if err := q.fits(d, tx.Conn().TypeMap()); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, q.text, append([]any{pgx.QueryExecModeExec}, make([]any, q.parameters)...)...)
		return err
	})
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return err
	case e.Code == readOnlyTransaction:
		return fmt.Errorf("may only read: %s", e.Message)
	case class(e.Code) == dataException || class(e.Code) == raised:
		return nil
	}
	return fmt.Errorf("can't be used: %s (SQLSTATE %s)", e.Message, e.Code)
}

// fits says what of a statement is not as it has to be.
func (q query) fits(d *pgconn.StatementDescription, types *pgtype.Map) error {
	if n := len(d.ParamOIDs); n != q.parameters {
		return fmt.Errorf("has %d parameters, not %d", n, q.parameters)
	}
	for i, oid := range d.ParamOIDs {
		if !plain(oid) {
			return fmt.Errorf("takes $%d as %s: write $%d::text", i+1, typeName(types, oid), i+1)
		}
	}
	if q.columns == nil {
		if len(d.Fields) != 1 || d.Fields[0].DataTypeOID != pgtype.BoolOID {
			return errors.New("has to give one column, a boolean")
		}
		return nil
	}
	for _, column := range q.columns {
		if !slices.ContainsFunc(d.Fields, func(f pgconn.FieldDescription) bool { return f.Name == column }) {
			return fmt.Errorf("gives no column %s", column)
		}
	}
	for _, f := range d.Fields {
		if slices.Contains([]string{"id", "name", "version"}, f.Name) && !plain(f.DataTypeOID) {
			return fmt.Errorf("gives %s as %s: write %s::text AS %s", f.Name, typeName(types, f.DataTypeOID), f.Name, f.Name)
		}
	}
	return nil
}

// plain types are written in one way, whatever the connection's settings: numbers, uuid,
// texts. Those of extensions (citext) are taken for such.
func plain(oid uint32) bool {
	const ofExtensions = 16384
	return oid >= ofExtensions || slices.Contains([]uint32{
		pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.NumericOID, pgtype.UUIDOID,
		pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID,
	}, oid)
}

func typeName(types *pgtype.Map, oid uint32) string {
	if t, ok := types.TypeForOID(oid); ok {
		return t.Name
	}
	return fmt.Sprintf("a type that is none of numbers, uuid and text (OID %d)", oid)
}
