// Package sql holds the database's schema and every statement that is run against it.
//
// Tables are written with the schema scanlogin; internal/postgres puts the configured
// one in its place, in migrations and queries alike. A search_path would be shorter,
// but a transaction pooler such as pgbouncer doesn't carry it along.
package sql

import "embed"

// Schema makes the schema that the migrations live in.
//
//go:embed schema.sql
var Schema string

// Grants gives the role scanlogin_service what the service needs, and nothing else.
//
//go:embed grants.sql
var Grants string

// Migrations are the goose migrations, in the folder migrations.
//
//go:embed migrations/*.sql
var Migrations embed.FS
