package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"scanlogin/internal/e2e/proc"
	"scanlogin/internal/login"
	"scanlogin/internal/stream"
)

// beat is how often each server here is to write to a stream that has nothing to say.
// scanlogin's own is 12 s; this is short so that a turn is soon measured.
const beat = 6 * time.Second

// streamRole is what a role that holds streams reads.
type streamRole struct {
	Addr string `json:"addr"`
}

// picture is as long as a code's.
func picture() string { return "data:image/png;base64," + strings.Repeat("A", 900) }

func waitingLogin(id login.ID) login.Login {
	return login.Login{
		Ref:       login.Ref{Scene: 1, ID: id},
		State:     login.Waiting,
		Ticket:    login.Ticket{Ticket: strings.Repeat("t", 96), URL: "http://weixin.qq.com/q/0123456789abcdefghijkl"},
		ExpiresIn: time.Hour,
	}
}

// firstBytes is what those say first that aren't scanlogin.
func firstBytes() []byte {
	return append([]byte("retry: 2000\n"), stream.QR(waitingLogin(login.ID{}), picture())...)
}

// serveRole answers until this process is ended.
func serveRole(ctx context.Context, config json.RawMessage, events, publish http.Handler) error {
	var c streamRole
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", events)
	mux.Handle("POST /publish", publish)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return err
	}
	server := http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	return server.Serve(l)
}

// rows plays the table: every login waits, but for those that were published.
type rows struct {
	mu        sync.Mutex
	published map[login.ID]struct{}
}

func (r *rows) get(id login.ID) login.Login {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := waitingLogin(id)
	if _, ok := r.published[id]; ok {
		l.State = login.BindRequired
	}
	return l
}

func (r *rows) publish(id login.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published[id] = struct{}{}
}

func (r *rows) look(_ context.Context, watches []login.Watch) (changed []login.Login, _ error) {
	for _, w := range watches {
		if l := r.get(w.ID); l.State != w.Seen {
			changed = append(changed, l)
		}
	}
	return changed, nil
}

func loginOf(r *http.Request) (login.ID, error) {
	id, ok := login.ParseID(r.URL.Query().Get("id"))
	if !ok {
		return login.ID{}, echo.ErrBadRequest
	}
	return id, nil
}

// roleHub is scanlogin's hub behind echo, without a database.
func roleHub(ctx context.Context, config json.RawMessage) error {
	table := rows{published: map[login.ID]struct{}{}}
	hub := stream.NewHub(stream.Config{
		Beat: beat,
		Look: table.look,
		Gone: func(context.Context, []login.Ref) error { return nil },
	})
	go func() { _ = hub.Run(ctx) }() // as long as this process
	code := picture()
	e := echo.New()
	e.GET("/events", func(c echo.Context) error {
		id, err := loginOf(c.Request())
		if err != nil {
			return err
		}
		sub := hub.Subscribe(id)
		defer sub.Cancel()
		l := table.get(id)
		return sub.Serve(c.Response(), c.Request(), l, stream.QR(l, code))
	})
	e.POST("/publish", func(c echo.Context) error {
		id, err := loginOf(c.Request())
		if err != nil {
			return err
		}
		table.publish(id)
		hub.Wake(login.Hint{ID: id})
		return c.NoContent(http.StatusNoContent)
	})
	return serveRole(ctx, config, e, e)
}

// subscribers are those of a server that is no hub.
type subscribers[T any] struct {
	mu sync.Mutex
	of map[login.ID]T
}

func (s *subscribers[T]) set(id login.ID, v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[id] = v
}

func (s *subscribers[T]) get(id login.ID) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[id]
}

func (s *subscribers[T]) remove(id login.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, id)
}

// publishing answers a publication after deliver.
func publishing(deliver func(login.ID)) echo.HandlerFunc {
	return func(c echo.Context) error {
		id, err := loginOf(c.Request())
		if err != nil {
			return err
		}
		deliver(id)
		return c.NoContent(http.StatusNoContent)
	}
}

func event() []byte { return []byte("event: " + bindRequired + "\ndata: {\"signup\":false}\n\n") }

// roleLoop holds streams as most programs do: the handler stays, and selects.
func roleLoop(ctx context.Context, config json.RawMessage) error {
	all := subscribers[chan []byte]{of: map[login.ID]chan []byte{}}
	e := echo.New()
	e.GET("/events", func(c echo.Context) error {
		id, err := loginOf(c.Request())
		if err != nil {
			return err
		}
		events := make(chan []byte, 1)
		all.set(id, events)
		defer all.remove(id)
		return loop(c, events)
	})
	e.POST("/publish", publishing(func(id login.ID) { all.get(id) <- event() }))
	return serveRole(ctx, config, e, e)
}

func loop(c echo.Context, events <-chan []byte) error {
	w := c.Response()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store, no-transform")
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(firstBytes()); err != nil {
		return err
	}
	w.Flush()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		b := []byte(":\n\n")
		select {
		case <-c.Request().Context().Done():
			return nil
		case <-tick.C:
		case b = <-events:
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		w.Flush()
	}
}

// roleHijack is the least that a stream costs where net/http takes the request: its
// connection is taken over, written to, and kept. There are no beats, and no echo.
func roleHijack(ctx context.Context, config json.RawMessage) error {
	all := subscribers[net.Conn]{of: map[login.ID]net.Conn{}}
	answer := append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\nConnection: close\r\n\r\n"),
		firstBytes()...)
	events := func(w http.ResponseWriter, r *http.Request) {
		id, err := loginOf(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = conn.Write(answer)
		all.set(id, conn)
	}
	e := echo.New()
	e.POST("/publish", publishing(func(id login.ID) { _, _ = all.get(id).Write(event()) }))
	return serveRole(ctx, config, http.HandlerFunc(events), e)
}

// nginxConf has one process, so that what it takes is one figure and nothing outlives it.
const nginxConf = `
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
worker_rlimit_nofile 20000;
events { worker_connections 25000; }
http {
	access_log off;
	keepalive_requests 1000000;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	server {
		listen %s backlog=4096;
		location = /events { nchan_subscriber eventsource; nchan_subscriber_first_message oldest; nchan_channel_id $arg_id; nchan_eventsource_ping_interval %d; }
		location = /publish { nchan_publisher; nchan_channel_id $arg_id; }
	}
}
`

// startNchan starts nginx with nchan in a folder of its own.
func startNchan(dir, addr string) (*proc.Process, error) {
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, addr, int(beat.Seconds())), 0o644); err != nil {
		return nil, err
	}
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // where Debian keeps it, and not everybody's PATH leads
	}
	cmd := exec.Command(path, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", conf) //nolint:noctx // it is killed when it is of no more use
	cmd.Stderr = io.Discard                                                                 // its error.log says it
	p, err := proc.Start(cmd)
	if err != nil {
		return nil, errors.Join(errors.New("nginx with nchan is needed: apt-get install nginx libnginx-mod-nchan"), err)
	}
	return p, nil
}
