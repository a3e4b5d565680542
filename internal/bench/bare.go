package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"scanlogin/internal/e2e/proc"
)

const (
	bareRows    = 100_000
	bareChannel = "bare"
	bareConns   = 16 // of a pool: what scanlogin has
)

// bareConfig is of one of the processes of the bare program.
type bareConfig struct {
	Addr     string `json:"addr"`
	Database string `json:"database"`
	Conns    int32  `json:"conns"` // of the pool
	First    int64  `json:"first"` // row; then every Step-th
	Step     int64  `json:"step"`
}

// bareProgram is the least that takes a callback to an event on any instance: UPDATE,
// NOTIFY, write. It knows no WeChat, no login and no trouble.
type bareProgram struct {
	config bareConfig
	pool   *pgxpool.Pool

	mu      sync.Mutex
	opened  int64
	streams map[string]net.Conn // by the ID of the row
}

// roleBare serves until it is killed.
func roleBare(ctx context.Context, config json.RawMessage) error {
	b := &bareProgram{streams: make(map[string]net.Conn)}
	if err := json.Unmarshal(config, &b.config); err != nil {
		return err
	}
	pool, err := pgxpool.ParseConfig(b.config.Database)
	if err != nil {
		return err
	}
	pool.MaxConns = b.config.Conns
	if b.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return err
	}
	defer b.pool.Close()
	listening, err := pgx.Connect(ctx, b.config.Database)
	if err != nil {
		return err
	}
	defer func() { _ = listening.Close(ctx) }()
	if _, err := listening.Exec(ctx, "LISTEN "+bareChannel); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", b.config.Addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/events", b.events)
	mux.HandleFunc("POST /wechat/callback", b.callback)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(l) }()
	go func() { failed <- b.listen(ctx, listening) }()
	return errors.Join(<-failed, server.Close())
}

// events holds a stream of the next row.
func (b *bareProgram) events(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	b.mu.Lock()
	scene := (b.config.First+b.opened*b.config.Step)%bareRows + 1
	id := strconv.FormatInt(scene, 10)
	b.opened++
	b.streams[id] = conn
	b.mu.Unlock()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"+
		"event: qr\ndata: {\"ticket\":\"t"+id+"\",\"scene_id\":"+id+",\"expires_in\":180}\n\n")
	go b.hold(id, conn)
}

// hold waits for the hang-up: nothing is read that means anything.
func (b *bareProgram) hold(id string, conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	b.mu.Lock()
	if b.streams[id] == conn {
		delete(b.streams, id)
	}
	b.mu.Unlock()
	conn.Close()
}

func (b *bareProgram) callback(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = b.scanned(r.Context(), bareScene(body))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "success")
}

// bareScene is what stands in the push's EventKey; empty where there is none.
func bareScene(body []byte) string {
	_, rest, _ := bytes.Cut(body, []byte("<EventKey><![CDATA["))
	scene, _, ok := bytes.Cut(rest, []byte("]"))
	if !ok {
		return ""
	}
	return string(scene)
}

// scanned are two transactions: NOTIFY in one that writes would keep others from
// committing together.
func (b *bareProgram) scanned(ctx context.Context, id string) error {
	n, err := strconv.ParseInt(id, 10, 32)
	if err != nil {
		return err
	}
	if _, err := b.pool.Exec(ctx, "UPDATE bare SET state = 'x' WHERE id = $1", n); err != nil {
		return err
	}
	_, err = b.pool.Exec(ctx, "SELECT pg_notify($1, $2)", bareChannel, id)
	return err
}

func (b *bareProgram) listen(ctx context.Context, conn *pgx.Conn) error {
	event := []byte("event: bind-required\ndata: {\"signup\":false}\n\n")
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		b.mu.Lock()
		stream := b.streams[n.Payload]
		b.mu.Unlock()
		if stream != nil {
			_, _ = stream.Write(event) // who hung up is noticed by the reader
		}
	}
}

// bareInstances are the processes of the bare program, on the world's database.
type bareInstances struct {
	w         *world
	processes []*proc.Process
	addrs     []string
}

// createBare makes the table, whose rows are updated in place as those of scenes are.
func (w *world) createBare(ctx context.Context) error {
	_, err := w.admin.Exec(ctx, fmt.Sprintf(`CREATE TABLE bare (id integer PRIMARY KEY, state text NOT NULL) WITH (fillfactor = 70);
		INSERT INTO bare SELECT n, '' FROM generate_series(1, %d) n`, bareRows))
	if err == nil {
		_, err = w.admin.Exec(ctx, "VACUUM ANALYZE bare")
	}
	return err
}

// start starts instances until there are n, of most, and returns when they listen.
func (b *bareInstances) start(ctx context.Context, n, most int) error {
	for k := len(b.addrs); k < n; k++ {
		addrs, err := proc.FreeAddrs(ctx, 1)
		if err != nil {
			return err
		}
		p, err := startRole("bare", bareConfig{addrs[0], b.w.database.URL("postgres"), bareConns, int64(k), int64(most)})
		if err != nil {
			return err
		}
		b.processes, b.addrs = append(b.processes, p), append(b.addrs, addrs[0])
		dialer := net.Dialer{Timeout: time.Second}
		err = proc.Eventually(ctx, "a bare instance listens", func() bool {
			c, err := dialer.DialContext(ctx, "tcp", addrs[0])
			return p.Exited() || err == nil && c.Close() == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bareInstances) stop(ctx context.Context) {
	for _, p := range b.processes {
		p.Signal(syscall.SIGTERM)
	}
	for _, p := range b.processes {
		p.Await(ctx, patience)
	}
}
