package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"scanlogin/internal/web"
	"scanlogin/internal/wechatsim"
)

// TestProbe does to every route what a scanner for holes does (OWASP ZAP and its like), on two
// instances. It takes the routes from the router, so that a new one is tried as well.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SIGNUP": "on", "CONFIRM": "code", "WECHAT_ENCODING_AES_KEY": aesKey, "SCENE_POOL": "3000"}})
	p := &prober{T: t, world: w, tried: map[string]int{}, statuses: map[int]int{}, said: map[string]int{}}
	p.routes = routesOf(t)
	w.refuse(wechatsim.EndpointSend, 45015) // so that every notice stays to be counted
	w.account(t, "owner")
	before := p.state()
	for _, phase := range []struct {
		name  string
		shots func() []shot
	}{
		{"methods and content types", p.methodsAndTypes},
		{"sizes", p.sizes},
		{"headers", p.headers},
		{"paths", p.paths},
		{"queries", p.queries},
		{"raw connections", p.rawConnections},
		{"pages of other origins", p.otherOrigins},
		{"cookies", p.cookies},
	} {
		began := time.Now()
		shots := phase.shots()
		if phase.name == "pages of other origins" || phase.name == "cookies" {
			before = p.state() // with the people whose cookies these are
		}
		p.fire(phase.name, shots)
		if after := p.state(); after != before {
			t.Errorf("%s: what was refused has changed something:\n%s\n%s", phase.name, before, after)
		}
		t.Logf("%-26s %5d requests, %v", phase.name, len(shots), time.Since(began).Round(time.Millisecond))
	}
	began := time.Now()
	p.twice()
	t.Logf("%-26s %5d requests, %v", "many at once", p.tried["many at once"], time.Since(began).Round(time.Millisecond))
	for _, i := range []*instance{w.a, w.b} {
		if i.ready() != http.StatusOK {
			t.Errorf("instance %s isn't ready in the end", i.name)
		}
	}
	total := 0
	for _, n := range p.tried {
		total += n
	}
	t.Logf("%d requests to %d routes: %v; statuses: %v", total, len(p.routes), p.tried, p.statuses)
}

// route is a way in.
type route struct{ method, path string }

// routesOf asks the router, of a server that is never started.
func routesOf(t *testing.T) (routes []route) {
	t.Helper()
	h, err := (&web.Server{Config: web.Config{PublicURL: &url.URL{Scheme: "http", Host: "localhost"}}, Logger: slog.New(slog.DiscardHandler)}).Handler()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range h.(*echo.Echo).Routes() {
		if r.Method != http.MethodHead {
			routes = append(routes, route{r.Method, strings.ReplaceAll(r.Path, "*", "login.js")})
		}
	}
	if len(routes) < 20 {
		t.Fatalf("only %d routes: %v", len(routes), routes)
	}
	slices.SortFunc(routes, func(a, b route) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return routes
}

// mark is input that would be markup where it is repeated as it came. It is no name that
// anybody can have, so that no password is hashed for it.
const mark = `<probe x="1">'&`

// shot is one request, as it goes over the wire.
type shot struct {
	name   string
	method string
	target string
	lines  []string // of the header, without Host and what frames the body
	body   string
	raw    string                // all of it instead of the above; %s is the host
	long   bool                  // raw goes on with zeros until the server has had enough
	want   func(status int) bool // nil: anything below 500
}

// text is the request to host. A framing that isn't right is raw's to say.
func (s shot) text(host string) string {
	if s.raw != "" {
		return strings.ReplaceAll(s.raw, "%s", host)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", s.method, s.target)
	if !slices.ContainsFunc(s.lines, func(l string) bool { return strings.HasPrefix(l, "Host:") }) {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	for _, l := range s.lines {
		b.WriteString(l + "\r\n")
	}
	if s.body != "" || s.method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(s.body))
	}
	b.WriteString("Connection: close\r\n\r\n" + s.body)
	return b.String()
}

// reply is what came back: status 0 for a connection that was closed without a word.
type reply struct {
	status int
	header http.Header
	body   string
}

type prober struct {
	*testing.T
	*world
	routes []route

	mu       sync.Mutex
	tried    map[string]int
	statuses map[int]int
	said     map[string]int
}

// fire sends the shots to both instances in turn, some at a time, and judges each answer.
func (p *prober) fire(phase string, shots []shot) {
	p.Helper()
	next := make(chan int)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for n := range next {
				p.judge(phase, shots[n], p.send([]*instance{p.a, p.b}[n%2], shots[n]))
			}
		})
	}
	for n := range shots {
		next <- n
	}
	close(next)
	work.Wait()
}

func (p *prober) send(i *instance, s shot) reply {
	conn, err := net.DialTimeout("tcp", i.addr, patience)
	if err != nil {
		p.Errorf("%s: %v", s.name, err)
		return reply{}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if s.long {
		go func() {
			zeros := strings.Repeat("8000\r\n"+strings.Repeat("0", 0x8000)+"\r\n", 4)
			for _, err := io.WriteString(conn, s.text(i.addr)); err == nil; _, err = io.WriteString(conn, zeros) {
			}
		}()
	} else if _, err := io.WriteString(conn, s.text(i.addr)); err != nil && !errors.Is(err, net.ErrClosed) && !isReset(err) {
		p.Errorf("%s: %v", s.name, err)
		return reply{}
	}
	method, _, _ := strings.Cut(s.text(""), " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			p.Errorf("%s: no answer", s.name)
		}
		return reply{}
	}
	defer resp.Body.Close()
	most := int64(1 << 20)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		most = 16 // it lasts; what it says is another test's
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, most)) // what was cut off is judged as far as it came
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func isReset(err error) bool {
	return strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "broken pipe")
}

// internals are words of the inside that no answer may have.
func internals() []string {
	return []string{
		"SQLSTATE", "pgx", "pgconn", "goroutine", "runtime error", "panic", ".go:", "internal/", "strconv.", "json:", "invalid character",
		"account: ", "login: ", "web: ", "context deadline", "dial tcp", "FROM scanlogin",
	}
}

// judge is the oracle: it holds whatever was sent.
func (p *prober) judge(phase string, s shot, r reply) {
	p.mu.Lock()
	p.tried[phase]++
	p.statuses[r.status]++
	p.mu.Unlock()
	bad := func(format string, args ...any) {
		p.Helper()
		p.mu.Lock()
		defer p.mu.Unlock()
		what := fmt.Sprintf(format, args...)
		if p.said[phase+what]++; p.said[phase+what] <= 3 { // of each kind
			p.Errorf("%s: %s: status %d: %s\n%.300q", phase, s.name, r.status, what, r.body)
		}
	}
	if r.status == 0 {
		if s.raw == "" {
			bad("no answer")
		}
		return
	}
	if s.want != nil && !s.want(r.status) {
		bad("unexpected")
	}
	// What is no HTTP, or asks for what there isn't in it, net/http refuses by itself, in a word.
	if slices.Contains([]int{400, 417, 431, 501, 505}, r.status) && r.header.Get("X-Content-Type-Options") == "" {
		if len(r.body) > 80 {
			bad("a word is shorter")
		}
		return
	}
	if r.status >= http.StatusInternalServerError {
		bad("the server's fault")
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Permissions-Policy": "camera=()", "Cache-Control": "",
	} {
		got := r.header.Get(name)
		if name == "Cache-Control" && r.status == http.StatusRequestedRangeNotSatisfiable {
			continue // net/http takes it away
		}
		if got == "" || !strings.HasPrefix(got, want) {
			bad("%s: %q", name, got)
		}
	}
	if to := r.header.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t")) {
		bad("leads to %q", to)
	}
	if len(r.header["X-Split"]) > 0 || len(r.header["Access-Control-Allow-Origin"]) > 0 || r.header.Get("X-Powered-By")+r.header.Get("Server") != "" {
		bad("header %v", r.header)
	}
	for _, c := range (&http.Response{Header: r.header}).Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
			bad("sets %s for scripts or other sites", c.Name)
		}
	}
	if strings.Contains(r.body, "<probe") {
		bad("repeats what came")
	}
	for _, word := range internals() {
		if strings.Contains(r.body, word) && !strings.Contains(s.target, "login.js") {
			bad("says %q", word)
		}
	}
	for _, secret := range []string{appSecret, token, aesKey, password} {
		if strings.Contains(r.body, secret) || strings.Contains(fmt.Sprint(r.header), secret) {
			bad("tells a secret")
		}
	}
	for _, u := range p.sim.Users() {
		if strings.Contains(r.body, u.OpenID) {
			bad("tells an openid")
		}
	}
}

// state is all that a request could change but for the scenes, which whoever asks may have,
// and the reserve of codes.
func (p *prober) state() string {
	p.Helper()
	var rows []string
	for _, table := range []string{"account", "wechat_identity", "web_session", "notice", "wechat_push", "confirmation"} {
		var n int
		var sum string
		p.connected(func(conn *pgx.Conn) error {
			return conn.QueryRow(p.Context(), "SELECT count(*), coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM scanlogin."+table+" t").Scan(&n, &sum)
		})
		rows = append(rows, fmt.Sprintf("%s %d %s", table, n, sum))
	}
	return strings.Join(rows, "; ")
}

func (p *prober) methodsAndTypes() (shots []shot) {
	fields := url.Values{}
	object := map[string]string{}
	for _, f := range []string{"username", "password", "next", "code", "id", "others", "current", "openid", "echostr", mark} {
		fields.Set(f, mark)
		object[f] = mark
	}
	boundary := "--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\n" + mark + "\r\n--b--\r\n"
	bodies := []struct{ kind, text string }{
		{"", ""},
		{"application/x-www-form-urlencoded", fields.Encode()},
		{"application/x-www-form-urlencoded; charset=utf-16", fields.Encode()},
		{"application/x-www-form-urlencoded", "username=%zz&" + mark},
		{"application/json", jsonBody(slices.Concat(slices.Collect(pairs(object)))...).text},
		{"application/json; charset=gbk", "{\"username\":\"\xd6\xd0\"}"},
		{"application/json", `[[[[{"username":`},
		{"application/json", strings.Repeat("[", 20_000)},
		{"application/json", `{"username":{"a":1},"id":[1],"others":"x"}`},
		{"application/json", `{"username":null} trailing`},
		{"multipart/form-data; boundary=b", boundary},
		{"multipart/form-data", boundary},
		{"text/plain", fields.Encode()},
		{"text/xml", "<xml><ToUserName><![CDATA[" + mark + "]]></ToUserName></xml>"},
		{"text/xml", `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><ToUserName>&e;</ToUserName></xml>`},
		{"", mark},
		{mark, mark},
	}
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "PROBE"}
	for _, r := range p.everyPath() {
		for _, m := range methods {
			for n, b := range bodies {
				if r == "/login/events" && m == "GET" && n > 1 {
					continue // each is a stream with a code
				}
				s := shot{name: fmt.Sprintf("%s %s as %.40q", m, r, b.kind), method: m, target: r, body: b.text}
				if b.kind != "" {
					s.lines = []string{"Content-Type: " + b.kind}
				}
				s.lines = append(s.lines, "Accept: "+[]string{"text/html", "application/json", "*/*"}[n%3], "Accept-Language: "+[]string{"zh-CN", mark}[n%2])
				shots = append(shots, s)
			}
		}
	}
	return shots
}

// pairs is a map's keys and values, one after the other.
func pairs(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k) || !yield(m[k]) {
				return
			}
		}
	}
}

// everyPath are the paths of the routes, each once.
func (p *prober) everyPath() (paths []string) {
	for _, r := range p.routes {
		paths = append(paths, r.path)
	}
	return slices.Compact(paths)
}

// posts are the paths that change something.
func (p *prober) posts() (paths []string) {
	for _, r := range p.routes {
		if r.method == http.MethodPost {
			paths = append(paths, r.path)
		}
	}
	return paths
}

func (p *prober) sizes() (shots []shot) {
	for _, path := range p.posts() {
		for _, kind := range []string{"application/x-www-form-urlencoded", "application/json", "text/xml"} {
			for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20} {
				body := strings.Repeat("a", n)
				switch {
				case kind == "application/json" && n > 20:
					body = `{"username":"` + strings.Repeat("<", n-15) + `"}`
				case kind == "application/x-www-form-urlencoded" && n > 20:
					body = "username=" + strings.Repeat("<", n-9)
				}
				shots = append(shots, shot{
					name: fmt.Sprintf("%s, %d bytes of %s", path, n, kind), method: "POST", target: path, body: body,
					lines: []string{"Content-Type: " + kind},
				})
			}
			shots = append(shots, shot{
				name: path + ", endless " + kind, long: true,
				raw: "POST " + path + " HTTP/1.1\r\nHost: %s\r\nContent-Type: " + kind + "\r\nTransfer-Encoding: chunked\r\n\r\n",
			})
		}
	}
	return shots
}

func (p *prober) headers() (shots []shot) {
	lines := [][]string{
		{"Host: evil.example"},
		{"Host: " + mark},
		{"Host: evil.example\r\nX-Forwarded-Host: evil.example"},
		{"X-Forwarded-For: " + mark},
		{"X-Forwarded-For: 127.0.0.1, 10.0.0.1"},
		{"X-Forwarded-For: " + strings.Repeat("1.2.3.4,", 2000)},
		{"X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Forwarded-Port: 443"},
		{"Forwarded: for=127.0.0.1;host=evil.example;proto=https"},
		{"X-Real-IP: " + mark},
		{"X-Original-URL: /user"},
		{"X-Rewrite-URL: /user"},
		{"X-HTTP-Method-Override: DELETE"},
		{"X-Http-Method: PUT"},
		{"Origin: null"},
		{"Origin: " + mark},
		{"Referer: " + mark},
		{"Referer: https://evil.example/"},
		{"Sec-Fetch-Site: none"},
		{"Sec-Fetch-Site: " + mark},
		{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"},
		{"Accept: " + mark},
		{"Accept: " + strings.Repeat("text/html,", 2000)},
		{"Accept: text/html, application/json;q=NaN"},
		{"Accept-Language: " + strings.Repeat("zh;q=0.1,", 2000)},
		{"Accept-Encoding: gzip, br, " + mark},
		{"User-Agent: " + mark},
		{"User-Agent: " + strings.Repeat("Mozilla/5.0 ", 2000)},
		{"User-Agent: \xff\xfe\x80"},
		{"Last-Event-ID: " + mark},
		{"Last-Event-ID: " + strings.Repeat("9", 4000)},
		{"If-None-Match: *"},
		{"If-Modified-Since: " + mark},
		{"Range: bytes=0-0,1-1,2-2"},
		{"Range: bytes=99999999999999999999-"},
		{"Authorization: Basic " + mark},
		{"X-Auth-User: owner", "X-Auth-User-Id: 1"},
		{"Upgrade: websocket", "Sec-WebSocket-Key: x"},
		{"Expect: 100-continue"},
		{"Expect: " + mark},
		{"Cookie: " + mark},
		{"Cookie: =;;;=,\"\""},
		{"Trailer: Host"},
		{"X-Many: 1", strings.Repeat("X-More: 2\r\n", 500) + "X-End: 3"},
		{"X-Large: " + strings.Repeat("a", 31<<10)},
		{"X-Larger: " + strings.Repeat("a", 64<<10)},
	}
	for _, r := range p.routes {
		for _, l := range lines {
			shots = append(shots, shot{name: fmt.Sprintf("%s %s with %.60q", r.method, r.path, l), method: r.method, target: r.path, lines: l})
		}
	}
	return shots
}

func (p *prober) paths() (shots []shot) {
	for _, path := range p.everyPath() {
		rest := strings.TrimPrefix(path, "/")
		for _, target := range []string{
			"//" + rest, "/./" + rest, "/x/../" + rest, "/%2e%2e/" + rest, "/..%2f" + rest, "/" + strings.ReplaceAll(rest, "/", "%2f"),
			"/" + strings.ReplaceAll(rest, "/", "//"), path + "/", path + "//", path + "/.", path + "/..", path + "%00", path + "%0d%0aX-Split:1",
			path + ";x=1", path + ".json", path + "%20", path + "%2f", path + "%5c..", path + "~", "/" + strings.ToUpper(rest), "/" + url.QueryEscape(mark) + path,
			"//evil.example" + path, "/\\evil.example" + path, "///evil.example/%2e%2e" + path, path + "/" + url.PathEscape(mark),
			"http://evil.example" + path, path + "?", path + "#x", path + "%ff%fe", "/%" + "32" + path,
		} {
			for _, method := range []string{"GET", "POST"} {
				s := shot{name: method + " " + target, method: method, target: target, lines: []string{"Accept: text/html"}}
				s.raw = s.text("%s")
				shots = append(shots, s)
			}
		}
	}
	for _, target := range []string{
		"/static/../templates/login.html", "/static/%2e%2e/static.go", "/static/..%2fstatic.go", "/static/templates/login.html", "/static/", "/static//login.js",
		"/static/" + strings.Repeat("../", 50) + "etc/passwd", "/static/%00", "/static/" + strings.Repeat("a", 9000),
		"/.git/config", "/.env", "/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/admin", "/robots.txt", "*",
	} {
		s := shot{name: "GET " + target, method: "GET", target: target, want: func(status int) bool { return status >= 300 }}
		s.raw = s.text("%s")
		shots = append(shots, s)
	}
	return shots
}

func (p *prober) queries() (shots []shot) {
	values := []string{
		mark, "//evil.example", "https://evil.example", `/\evil.example`, `\\evil.example`, "/%5cevil.example", "javascript:alert(1)", "/\t/evil.example", "/user\r\nX-Split: 1",
		"http://127.0.0.1@evil.example", "//127.0.0.1:1@evil.example/", "/user?x=" + mark, "data:text/html," + mark, "///evil.example", "/..//evil.example",
		strings.Repeat("/a", 5000), "\x00", "\xff\xfe", "' OR 1=1--", "${jndi:ldap://x}", "{{7*7}}", "../../etc/passwd",
	}
	for _, r := range p.routes {
		for _, v := range values {
			for _, name := range []string{"next", "username", "signature", "id"} {
				query := url.Values{name: {v}}
				if name == "signature" {
					query = url.Values{"signature": {v}, "timestamp": {v}, "nonce": {v}, "echostr": {v}, "msg_signature": {v}, "encrypt_type": {"aes"}}
				}
				if r.path == "/login/events" && name != "next" {
					continue
				}
				shots = append(shots, shot{
					name: fmt.Sprintf("%s %s?%s=%.40q", r.method, r.path, name, v), method: r.method, target: r.path + "?" + query.Encode(),
					lines: []string{"Accept: text/html"},
				})
			}
		}
		for _, query := range []string{"next=/a&next=//evil.example", "%zz=%", "&&&===", "next[]=1&next[a]=2", ";", strings.Repeat("a=1&", 5000), "openid=o1&username=owner&password=x"} {
			shots = append(shots, shot{name: r.method + " " + r.path + "?" + query[:min(len(query), 40)], method: r.method, target: r.path + "?" + query})
		}
	}
	return shots
}

// rawConnections are requests that no client makes.
func (p *prober) rawConnections() (shots []shot) {
	refused := func(status int) bool { return status >= 400 || status == http.StatusSeeOther } // a logout reads nothing
	add := func(name, raw string, want func(int) bool) {
		shots = append(shots, shot{name: name, raw: raw, want: want})
	}
	for _, path := range p.posts() {
		head := "POST " + path + " HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"
		hidden := "GET /auth/verify HTTP/1.1\r\nHost: x\r\n\r\n"
		for name, rest := range map[string]string{
			"both lengths":       fmt.Sprintf("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n%s", strings.ReplaceAll(hidden, "%", "")),
			"two lengths":        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
			"a list of lengths":  "Content-Length: 4, 5\r\n\r\nabcde",
			"a negative length":  "Content-Length: -1\r\n\r\n",
			"a signed length":    "Content-Length: +4\r\n\r\nabcd",
			"a large length":     "Content-Length: 99999999999999999999\r\n\r\n",
			"a hidden coding":    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
			"two codings":        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
			"a coding and space": "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
			"a folded coding":    "Transfer-Encoding:\r\n chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
			"a chunk too large":  "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nfffffffffffffffff\r\na\r\n",
			"a chunk's nonsense": "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\na\r\n",
			"a chunk of LF":      "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\na\n0\n\n",
		} {
			add(path+" with "+name, head+rest, refused)
		}
		add(path+" with a NUL", head+"X-A: a\x00b\r\nConnection: close\r\n\r\n", refused)
		add(path+" with a bare CR", head+"X-A: a\rX-Split: 1\r\nConnection: close\r\n\r\n", refused)
	}
	for _, path := range p.everyPath() {
		for name, raw := range map[string]string{
			"no host":         "GET " + path + " HTTP/1.1\r\nConnection: close\r\n\r\n",
			"two hosts":       "GET " + path + " HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
			"a space more":    "GET  " + path + " HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			"a split target":  "GET " + path + "\r\nX-Split: 1 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			"a NUL in it":     "GET " + path + "\x00 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			"no version":      "GET " + path + "\r\n\r\n",
			"another version": "GET " + path + " HTTP/3.7\r\nHost: %s\r\n\r\n",
			"no name":         "GET " + path + " HTTP/1.1\r\nHost: %s\r\n: x\r\nConnection: close\r\n\r\n",
			"a name of space": "GET " + path + " HTTP/1.1\r\nHost: %s\r\nX Y: x\r\nConnection: close\r\n\r\n",
			"no method":       " " + path + " HTTP/1.1\r\nHost: %s\r\n\r\n",
		} {
			add(path+" with "+name, raw, refused)
		}
		add(path+" of HTTP/1.0", "HEAD "+path+" HTTP/1.0\r\n\r\n", nil)
		add(path+" with LF alone", "HEAD "+path+" HTTP/1.1\nHost: %s\nConnection: close\n\n", nil)
	}
	add("HTTP/2 without a word before", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused)
	add("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", refused)
	add("nothing but an end", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n", refused)
	add("CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n", refused)
	return shots
}

// victim is a browser with a session of an account, and a login that waits to be bound.
func (p *prober) victim() *browser {
	b := p.confirmed(p.person(true), "bind-required")
	b.post(p.b, "/login", form("username", "owner", "password", password)).want(p.T, http.StatusSeeOther)
	return b
}

// confirmed is a browser whose login was scanned by somebody, and confirmed.
func (p *prober) confirmed(who wechatsim.User, then string) *browser {
	p.Helper()
	b, stream, code := p.asked(who)
	b.post(p.a, "/login/confirm", form("code", code)).want(p.T, http.StatusOK)
	stream.expect(then)
	return b
}

// asked is a browser whose login waits for this code.
func (p *prober) asked(who wechatsim.User) (*browser, *eventStream, string) {
	p.Helper()
	b := newBrowser(p.T, p.world)
	stream := b.events(p.a)
	d := p.scan(p.T, who, stream.code().Ticket)
	stream.askedForCode()
	return b, stream, p.codeTo(p.T, d)
}

// held are all cookies of a browser, as a line of a header.
func held(b *browser) string {
	var all []string
	for _, c := range b.client.Jar.Cookies(&url.URL{Scheme: "http", Host: "127.0.0.1"}) {
		all = append(all, c.Name+"="+c.Value)
	}
	return "Cookie: " + strings.Join(all, "; ")
}

// otherOrigins: with all that a browser has, a page of another origin can do nothing.
func (p *prober) otherOrigins() (shots []shot) {
	cookies := held(p.victim())
	for _, path := range p.posts() {
		for _, lines := range [][]string{
			{"Sec-Fetch-Site: cross-site"},
			{"Sec-Fetch-Site: same-site"},
			{"Sec-Fetch-Site: cross-site", "Origin: http://evil.example"},
			{"Origin: http://evil.example"},
			{"Origin: null"},
			{"Origin: http://127.0.0.1"},
			{"Origin: http://127.0.0.1.evil.example"},
			{"Origin: https://evil.example", "Referer: http://127.0.0.1/"},
			{"Sec-Fetch-Site: Same-Origin"},
			{"Sec-Fetch-Site: same-origin, cross-site"},
			{"Origin: http://evil.example", "X-Forwarded-Host: evil.example"},
			{"Origin: file://"},
			{"Origin: " + mark},
		} {
			for _, body := range []content{
				form("username", "owner", "password", password, "id", "1", "others", "true", "current", password, "code", "1"),
				{"text/plain", `{"username":"owner","password":"` + password + `"}`},
				jsonBody("username", "owner", "password", password),
				{},
			} {
				s := shot{
					name: fmt.Sprintf("POST %s by %q", path, lines), method: "POST", target: path, body: body.text,
					lines: append([]string{cookies}, lines...), want: func(status int) bool { return status == http.StatusForbidden },
				}
				if body.kind != "" {
					s.lines = append(s.lines, "Content-Type: "+body.kind)
				}
				shots = append(shots, s)
			}
		}
	}
	return shots
}

// cookies: what isn't the very cookie opens nothing.
func (p *prober) cookies() (shots []shot) {
	b, other := p.victim(), p.victim()
	known := b.cookie("scanlogin_known")
	tampered := map[string]string{}
	for _, name := range []string{sessionCookie, loginCookie} {
		value := b.cookie(name)
		swapped := map[string]string{sessionCookie: b.cookie(loginCookie), loginCookie: b.cookie(sessionCookie)}[name]
		for kind, line := range map[string]string{
			"missing": "x=y", "empty": name + "=", "truncated": name + "=" + value[:len(value)-1], "longer": name + "=" + value + "A",
			"for the other": name + "=" + swapped, "of that kind known": name + "=" + known,
			"after another": name + "=x; " + name + "=" + value, "after another browser's, cut": name + "=" + other.cookie(name)[1:] + "; " + name + "=" + value,
			"__Host-": "__Host-" + name + "=" + value, "__Secure-": "__Secure-" + name + "=" + value, "other case": strings.ToUpper(name) + "=" + value,
			"lower": name + "=" + strings.ToLower(value), "percent": name + "=%41" + value[1:], "a space": name + "=" + value[:9] + " " + value[9:],
			"8 KiB": name + "=" + strings.Repeat("A", 8<<10), "padded": name + "=" + value + "=", "markup": name + "=" + mark, "NULs": name + "=" + strings.Repeat("%00", 14),
			"zeros": name + "=" + strings.Repeat("A", len(value)), "by a comma": name + "=" + value + "," + value,
		} {
			tampered[name+" "+kind] = line
		}
		for bit := range 6 * len(value) { // six bits a character
			if bit%7 == 0 {
				tampered[fmt.Sprintf("%s bit %d", name, bit)] = name + "=" + flip(value, bit)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tampered)) {
		for _, r := range p.routes {
			if r.path == "/login/events" || r.path == "/logout" || strings.Contains(name, " bit ") && r.path != "/auth/verify" && r.path != "/login/complete" && r.path != "/user/bind" {
				continue // a stream is anybody's, and a logout of nobody is none
			}
			s := shot{name: fmt.Sprintf("%s %s, cookie %s", r.method, r.path, name), method: r.method, target: r.path, lines: []string{"Cookie: " + tampered[name], "Accept: text/html"}}
			switch {
			case r.path == "/auth/verify" || r.path == "/user/unbind":
				s.want = func(status int) bool { return status == http.StatusUnauthorized }
			case r.path == "/user" || r.path == "/user/sessions":
				s.want = func(status int) bool { return status == http.StatusSeeOther }
			case r.method == http.MethodPost:
				s.want = func(status int) bool { return status >= 400 }
			}
			shots = append(shots, s)
		}
	}
	return shots
}

// flip changes one bit of what base64url text stands for.
func flip(text string, bit int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := bit / 6
	n := strings.IndexByte(alphabet, text[i])
	return text[:i] + string(alphabet[n^1<<(bit%6)]) + text[i+1:]
}
