package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// What a relation may have grown since a tenth of the logins was done. By then every row
// has been removed and its room used again, several times; but a checkpoint or a busy
// neighbour lets the housekeeper and autovacuum come later in one minute than in another,
// and a table is as large as it ever had to be. What grows with the logins is ten times as
// large. A relation of some pages is let off.
const (
	mostGrowth = 2.0
	letOff     = 1 << 20 // bytes
)

// size is one relation.
type size struct {
	Name  string
	Bytes int64
	Dead  int64 // rows
}

type sizes map[string]size

// sizes looks at every table, with what it needs besides its rows, and every index.
func (w *world) sizes(ctx context.Context) (sizes, error) {
	rows, err := w.admin.Query(ctx, `
		SELECT c.relname, CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END,
			coalesce(pg_stat_get_dead_tuples(c.oid), 0)
		FROM pg_class c WHERE c.relnamespace = 'scanlogin'::regnamespace AND c.relkind IN ('r', 'i')`)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[size])
	if err != nil {
		return nil, err
	}
	s := sizes{}
	for _, one := range all {
		s[one.Name] = one
	}
	return s, nil
}

func (s sizes) total() (bytes int64) {
	for _, one := range s {
		bytes += one.Bytes
	}
	return bytes
}

// hot are the tables that are written all the time.
func hot() []string {
	return []string{"scene", "wechat_push", "web_session", "wechat_identity", "wechat_codes", "lease"}
}

func header() {
	fmt.Print("| logins | a second | all tables and indexes |")
	for _, table := range hot() {
		fmt.Printf(" %s (dead rows) |", table)
	}
	fmt.Print("\n| ---: | ---: | ---: |")
	for range hot() {
		fmt.Print(" ---: |")
	}
	fmt.Println()
}

func line(logins int, perSecond float64, s sizes) {
	fmt.Printf("| %d | %.0f | %s |", logins, perSecond, kilobytes(s.total()))
	for _, table := range hot() {
		fmt.Printf(" %s (%d) |", kilobytes(s[table].Bytes), s[table].Dead)
	}
	fmt.Println()
}

// compare prints every relation and returns an error for those that have grown.
func compare(tenth, end, settled sizes) error {
	fmt.Println("| relation | after a tenth | at the end | all removed and vacuumed |")
	fmt.Println("| --- | ---: | ---: | ---: |")
	var grown []error
	for _, name := range slices.Sorted(maps.Keys(end)) {
		before, after, last := tenth[name].Bytes, end[name].Bytes, settled[name].Bytes
		fmt.Printf("| %s | %s | %s | %s |\n", name, kilobytes(before), kilobytes(after), kilobytes(last))
		for _, now := range []int64{after, last} {
			if now > before+letOff && float64(now) > mostGrowth*float64(before) {
				grown = append(grown, fmt.Errorf("%s has grown from %s to %s", name, kilobytes(before), kilobytes(now)))
			}
		}
	}
	return errors.Join(grown...)
}

func kilobytes(n int64) string { return fmt.Sprintf("%d KB", n/1024) }
