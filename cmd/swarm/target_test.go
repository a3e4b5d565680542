package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestLoadStaysOnLoopback(t *testing.T) {
	names := map[string][]netip.Addr{
		"localhost":   {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")},
		"elsewhere":   {netip.MustParseAddr("192.0.2.7")},
		"both.test":   {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7")},
		"mapped.test": {netip.MustParseAddr("::ffff:192.0.2.7")},
	}
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if ip, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{ip}, nil
		}
		if ips, ok := names[host]; ok {
			return ips, nil
		}
		return nil, errors.New("no such host")
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:8080":          "127.0.0.1:8080",
		"http://127.9.9.9:8080/":         "127.9.9.9:8080",
		"http://[::1]:8080":              "[::1]:8080",
		"http://[::ffff:127.0.0.1]:8080": "127.0.0.1:8080",
		"http://localhost":               "127.0.0.1:80",
	} {
		if _, addrs, err := resolve(t.Context(), lookup, url, false); err != nil || addrs[0].String() != want {
			t.Errorf("%s: %v, %v; want %s", url, addrs, err, want)
		}
	}
	for _, url := range []string{
		"http://elsewhere:8080", "http://both.test:8080", "http://mapped.test", "http://192.0.2.7", "http://[2001:db8::1]:8080",
		"http://0.0.0.0:8080", "http://[::]:8080", "http://10.0.0.1", "http://169.254.169.254",
	} {
		_, _, err := resolve(t.Context(), lookup, url, false)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "-beyond-loopback") {
			t.Errorf("%s: %v", url, err)
		}
		if _, _, err := resolve(t.Context(), lookup, url, true); err != nil {
			t.Errorf("%s, beyond loopback: %v", url, err)
		}
	}
	for _, url := range []string{
		"", "127.0.0.1:8080", "https://127.0.0.1", "http://", "http://a@127.0.0.1", "http://127.0.0.1/login", "http://127.0.0.1:99999",
		"http://127.0.0.1?x", "http://nowhere.test", "://",
	} {
		if _, _, err := resolve(t.Context(), lookup, url, true); !errors.Is(err, errUsage) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
