package web

import (
	"net/http"
	"net/netip"
	"strings"
	"unicode"
)

// maxPlace is more than any city needs.
const maxPlace = 64

// place is roughly where the browser is, as the proxy says that sent the request; empty
// where nobody we trust says so.
func (s *Server) place(r *http.Request) string {
	if s.PlaceHeader == "" || !s.trusts(r.RemoteAddr) {
		return ""
	}
	printable := func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}
	place := []rune(strings.TrimSpace(strings.Map(printable, strings.ToValidUTF8(r.Header.Get(s.PlaceHeader), ""))))
	return string(place[:min(len(place), maxPlace)])
}

// trusts tells whether the other end of a connection is a proxy of ours.
func (s *Server) trusts(remote string) bool {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, p := range s.TrustedProxies {
		if p.Contains(addr.Addr().Unmap()) {
			return true
		}
	}
	return false
}
