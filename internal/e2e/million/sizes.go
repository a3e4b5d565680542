package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// What a relation may have grown since the first looks. By then every row has been removed
// and its room used again, several times; but a checkpoint or a busy neighbour lets the
// housekeeper and autovacuum come later in one minute than in another, and an index is as
// large as it ever had to be. What grows with the logins is three times as large by the
// end. A relation of some pages is let off.
const (
	firstLooks = 3
	mostGrowth = 2.0
	letOff     = 1 << 20 // bytes
)

// size is one relation.
type size struct {
	Name  string
	Table string // its own, or that of the index
	Bytes int64
	Dead  int64 // rows
}

type sizes map[string]size

// sizes looks at every table, with what it needs besides its rows, and every index.
func (w *world) sizes(ctx context.Context) (sizes, error) {
	rows, err := w.admin.Query(ctx, `
		SELECT c.relname, coalesce(t.relname, c.relname), CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END,
			coalesce(pg_stat_get_dead_tuples(c.oid), 0)
		FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
		WHERE c.relnamespace = 'scanlogin'::regnamespace AND c.relkind IN ('r', 'i')`)
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

// indexes is the size of all that a table has.
func (s sizes) indexes(table string) (bytes int64) {
	for _, one := range s {
		if one.Table == table && one.Name != table {
			bytes += one.Bytes
		}
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
		fmt.Printf(" %s + indexes (dead rows) |", table)
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
		fmt.Printf(" %d + %s (%d) |", s[table].Bytes/1024, kilobytes(s.indexes(table)), s[table].Dead)
	}
	fmt.Println()
}

// compare prints every relation and returns an error for those that have grown.
func compare(looks []sizes, settled sizes) error {
	end := looks[len(looks)-1]
	fmt.Printf("| relation | the most of the first %d looks | at the end | all removed and vacuumed |\n", firstLooks)
	fmt.Println("| --- | ---: | ---: | ---: |")
	var grown []error
	for _, name := range slices.Sorted(maps.Keys(end)) {
		var before int64
		for _, look := range looks[:firstLooks] {
			before = max(before, look[name].Bytes)
		}
		fmt.Printf("| %s | %s | %s | %s |\n", name, kilobytes(before), kilobytes(end[name].Bytes), kilobytes(settled[name].Bytes))
		now := max(end[name].Bytes, settled[name].Bytes)
		if now > before+letOff && float64(now) > mostGrowth*float64(before) {
			grown = append(grown, fmt.Errorf("%s has grown from %s to %s", name, kilobytes(before), kilobytes(now)))
		}
	}
	return errors.Join(grown...)
}

func kilobytes(n int64) string { return fmt.Sprintf("%d KB", n/1024) }
