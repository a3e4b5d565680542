package postgres_test

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var errSpy = errors.New("nothing is run here")

// spy tells a statement instead of running it.
type spy struct {
	statement string
	args      []any
}

func (s *spy) Exec(_ context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	s.statement, s.args = statement, args
	return pgconn.CommandTag{}, errSpy
}

func (s *spy) Query(_ context.Context, statement string, args ...any) (pgx.Rows, error) {
	s.statement, s.args = statement, args
	return nil, errSpy
}

func (s *spy) QueryRow(_ context.Context, statement string, args ...any) pgx.Row {
	s.statement, s.args = statement, args
	return spyRow{}
}

type spyRow struct{}

func (spyRow) Scan(...any) error { return errSpy }
