package postgres

import (
	"context"
	"errors"
	"strings"
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT, see tcp(7); package syscall has it for some machines only.
const tcpUserTimeout = 0x12

// giveUpUnacked has the kernel end a connection whose other side doesn't acknowledge what
// was sent to it. Without, it goes on sending for a quarter of an hour.
func giveUpUnacked(_ context.Context, network, _ string, conn syscall.RawConn) (err error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	e := conn.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unacked.Milliseconds()))
	})
	return errors.Join(e, err)
}
