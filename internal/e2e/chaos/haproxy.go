package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// findHAProxy also looks where Debian keeps it, outside of people's PATH.
func findHAProxy() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("install haproxy: sudo apt-get install -y haproxy")
}

// configureHAProxy writes the configuration of a balancer in front of the instances. What
// an instance answered carries its name; what the balancer had to answer itself doesn't.
func configureHAProxy(dir, addr string, instances []*instance) (string, error) {
	var c strings.Builder
	fmt.Fprintf(&c, `global
    maxconn 4000
    nbthread 1

defaults
    mode http
    timeout connect 2s
    timeout client 90s
    timeout server 90s
    timeout http-request 10s
    retries 3
    option redispatch 1
    retry-on conn-failure

frontend site
    bind %s
    default_backend instances

backend instances
    balance leastconn
    option httpchk GET /readyz
    http-response set-header X-Instance %%s
    default-server inter 250ms fastinter 100ms downinter 250ms fall 2 rise 1
`, addr)
	for _, i := range instances {
		_, port, _ := strings.Cut(i.ops, ":")
		fmt.Fprintf(&c, "    server %s %s check port %s\n", i.name, i.addr, port)
	}
	path := filepath.Join(dir, "haproxy.cfg")
	return path, os.WriteFile(path, []byte(c.String()), 0o600)
}
