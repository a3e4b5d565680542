package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// target is one base URL and the address that it stood for when the run began. Nothing
// is looked up again: a name can't lead elsewhere later.
type target struct {
	url  string // without a slash at the end
	host string // for the Host header
	addr string // host:port, the host being an address
}

type lookupIP func(ctx context.Context, network, host string) ([]netip.Addr, error)

// findTargets resolves the URLs and makes sure that somebody listens there.
func findTargets(ctx context.Context, urls []string, beyond bool) ([]target, error) {
	var targets []target
	for _, raw := range urls {
		t, addrs, err := resolve(ctx, net.DefaultResolver.LookupNetIP, raw, beyond)
		if err != nil {
			return nil, err
		}
		if t.addr, err = listening(ctx, addrs); err != nil {
			return nil, fmt.Errorf("nobody listens at %s: %w", raw, err)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// resolve checks a base URL. All that its name stands for must be loopback, unless
// beyond is set. The errors are errUsage.
func resolve(ctx context.Context, lookup lookupIP, raw string, beyond bool) (target, []netip.AddrPort, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return target{}, nil, usagef("-url %q is no plain base URL, as http://127.0.0.1:8080 is (no https: point swarm behind the TLS)", raw)
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	if err != nil {
		return target{}, nil, usagef("-url %q: the port is no port", raw)
	}
	ips, err := lookup(ctx, "ip", u.Hostname())
	if err != nil || len(ips) == 0 {
		return target{}, nil, usagef("-url %q: the name can't be resolved: %w", raw, err)
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		ip = ip.Unmap()
		if !ip.IsLoopback() && !beyond {
			return target{}, nil, usagef("-url %q is %v, which is not this machine's loopback; -beyond-loopback allows it, if it is your own test system", raw, ip)
		}
		addrs = append(addrs, netip.AddrPortFrom(ip, uint16(port)))
	}
	slices.SortStableFunc(addrs, func(a, b netip.AddrPort) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	host := net.JoinHostPort(u.Hostname(), strconv.FormatUint(port, 10))
	return target{url: "http://" + host, host: host}, addrs, nil
}

// listening is the first of the addresses that takes a connection.
func listening(ctx context.Context, addrs []netip.AddrPort) (string, error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	var err error
	for _, addr := range addrs {
		var c net.Conn
		if c, err = dialer.DialContext(ctx, "tcp", addr.String()); err == nil {
			return addr.String(), c.Close()
		}
	}
	return "", err
}
