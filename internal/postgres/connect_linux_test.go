package postgres_test

import (
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// A machine that died acknowledges nothing: the kernel gives up in seconds, whatever
// deadline the statement has.
func TestTheKernelGivesUpADeadPeerSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	_, through := newRelay(t, w.url)
	db := w.open(through)
	w.ok(db.Do(t.Context(), func(c *pgx.Conn) error {
		raw, err := c.PgConn().Conn().(*net.TCPConn).SyscallConn()
		w.ok(err)
		for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: 8000, unix.TCP_KEEPIDLE: 5, unix.TCP_KEEPINTVL: 1, unix.TCP_KEEPCNT: 3} {
			var got int
			w.ok(raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) }))
			if err != nil || got != want {
				t.Errorf("option %d is %d (%v), want %d", option, got, err, want)
			}
		}
		return nil
	}))
}
