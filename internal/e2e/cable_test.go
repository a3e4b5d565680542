package e2e

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// cable is the network between the instances and their database. Cut, it swallows what is
// sent and closes nothing, as a network does that lost a route; connections from before
// stay silent even when it is mended, as behind a firewall that forgot them.
type cable struct {
	listener net.Listener
	socket   string // of the database
	work     sync.WaitGroup
	cuts     atomic.Int64 // and mends: odd while cut

	mu   sync.Mutex
	ends []net.Conn
}

// newCable lays a cable to the database and returns the URL that leads through it.
func newCable(t testing.TB, database string) (c *cable, through string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = &cable{listener: l, socket: cfg.Host + "/.s.PGSQL." + strconv.Itoa(int(cfg.Port))}
	c.work.Go(c.accept)
	t.Cleanup(c.close)
	u := url.URL{Scheme: "postgres", User: url.User(cfg.User), Host: l.Addr().String(), Path: "/" + cfg.Database}
	return c, u.String()
}

func (c *cable) cut() { c.cuts.Add(1) }

func (c *cable) mend() { c.cuts.Add(1) }

func (c *cable) close() {
	_ = c.listener.Close()
	c.mu.Lock()
	for _, end := range c.ends {
		_ = end.Close()
	}
	c.mu.Unlock()
	c.work.Wait()
}

func (c *cable) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", c.socket)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.ends = append(c.ends, client, server)
		c.mu.Unlock()
		born := c.cuts.Load()
		c.work.Go(func() { c.carry(server, client, born) })
		c.work.Go(func() { c.carry(client, server, born) })
	}
}

// carry passes on one direction of a connection that was made after so many cuts.
func (c *cable) carry(to, from net.Conn, born int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		silent := born%2 == 1 || c.cuts.Load() != born
		if err == nil && !silent {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			if !silent {
				_ = to.Close()
			}
			return
		}
	}
}
