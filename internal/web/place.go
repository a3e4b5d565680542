package web

import (
	"net/http"
	"net/netip"
	"strings"
	"unicode"

	"scanlogin/internal/login"
)

// originOf is what is to be noted of the browser, for the words to the phone: which it is
// only where somebody is asked about it.
func (s *Server) originOf(r *http.Request) login.Origin {
	o := login.Origin{Place: s.place(r)}
	if s.Logins.Confirm != login.ConfirmOff {
		o.Browser = browserWords(r.UserAgent())
	}
	return o
}

// maxPlace is more than any city needs.
const maxPlace = 64

// place is roughly where the browser is, as the proxy says that sent the request; empty
// where nobody we trust says so.
func (s *Server) place(r *http.Request) string {
	if s.PlaceHeader == "" || !s.trusts(r.RemoteAddr) {
		return ""
	}
	return printable(r.Header.Get(s.PlaceHeader), maxPlace)
}

// printable is what of a header's text can be shown, and no more than so many characters.
func printable(text string, most int) string {
	shown := func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}
	clean := []rune(strings.TrimSpace(strings.Map(shown, strings.ToValidUTF8(text, ""))))
	return string(clean[:min(len(clean), most)])
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
