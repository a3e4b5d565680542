package e2e

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The demo of compose.yaml, its commands and its environment, without containers: names are
// addresses here.
func TestDeployComposeDemo(t *testing.T) {
	t.Parallel()
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment settings
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, "../../compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, options{stopped: true})
	s := &site{T: t, w: w, dir: t.TempDir()}
	s.placeInstances()
	balancer, wechat := freeAddr(t), freeAddr(t)
	_, port, _ := net.SplitHostPort(balancer)
	own := strings.NewReplacer(
		"postgres://scanlogin:demo@demo-postgres:5432/scanlogin?sslmode=disable", w.database,
		"http://localhost:8080", "http://localhost:"+port,
		"demo-balancer:8080", balancer, "demo-wechat:8090", wechat)
	launch := func(i *instance, service string, args ...string) {
		env := settings{"ADDR": i.addr}
		for name, value := range file.Services[service].Environment {
			env[name] = own.Replace(value)
		}
		env["OPS_ADDR"] = i.ops
		command := append(slices.Clone(file.Services[service].Command), args...)
		for n := range command {
			command[n] = own.Replace(command[n])
		}
		i.launch(env, command...)
	}
	launch(w.a, "demo-1", "serve")
	launch(w.b, "demo-2", "serve")
	sim := newInstance(w, "the simulator")
	launch(sim, "demo-wechat", "--wechat-addr", wechat)
	t.Cleanup(sim.stop)
	w.a.awaitReady()
	w.b.awaitReady()
	caddyfile := s.write("Caddyfile", s.replaced("compose.Caddyfile",
		"scanlogin-1:8080", w.a.addr, "scanlogin-2:8080", w.b.addr, "health_port 9090", "health_port "+s.opsPort(),
		"{$SITE_ADDRESS::8080}", fmt.Sprintf("http://localhost:%s, http://127.0.0.1:%[1]s", port)))
	s.check("caddy", "validate", "--adapter", "caddyfile", "--config", caddyfile)
	s.run("caddy", "run", "--adapter", "caddyfile", "--config", caddyfile)

	b := newBrowser(t, w)
	site := "http://" + balancer
	eventually(t, "the balancer answers", func() bool {
		resp, err := http.Get(site + "/login")
		if err != nil {
			return false
		}
		_ = resp.Body.Close() // only the status counts
		return resp.StatusCode == http.StatusOK
	})
	stream := b.eventsAt(site + "/login/events")
	if code := stream.code(); !strings.HasPrefix(code.URL, "http://localhost:8090/") {
		t.Errorf("the code leads to %s", code.URL)
	}
	a := b.do(http.MethodPost, "http://"+wechat+"/sim/scan", form("user", "小明", "latest", "true"), "Sec-Fetch-Site", "").want(t, http.StatusOK)
	w.keep(a.json(t, "openid").(string))
	stream.expect("bind-required")
	b.do(http.MethodPost, site+"/user/signup", form("username", "ming", "password", password)).want(t, http.StatusOK)
	if who := b.do(http.MethodGet, site+"/auth/verify", content{}).want(t, http.StatusOK).header.Get("X-Auth-User"); who != "ming" {
		t.Errorf("signed in as %q", who)
	}
}
