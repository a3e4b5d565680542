//go:build !linux

package postgres

import (
	"context"
	"syscall"
)

// giveUpUnacked leaves it to the deadlines of statements and to keepalive.
func giveUpUnacked(context.Context, string, string, syscall.RawConn) error { return nil }
