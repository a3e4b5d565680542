package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// Token is the value of a session cookie: 256 random bits, known to one
// browser. The store keeps only its [Token.Hash].
//
// A token has no String method and prints as "[token]" under every verb of
// package fmt, in log/slog and in JSON; [Token.Cookie] is the one way to its
// text. (Package fmt can't call methods on an unexported struct field: keep
// tokens out of structs that get printed.)
type Token [32]byte

const redactedToken = "[token]"

// NewToken returns a fresh token from the system's random source.
func NewToken() Token {
	var t Token
	rand.Read(t[:]) // never returns an error, see crypto/rand.Read
	return t
}

// ParseToken reads what [Token.Cookie] wrote and nothing else. A true result
// says that the text is well formed, not that there is such a session.
func ParseToken(s string) (Token, bool) {
	var t Token
	if len(s) != tokenText().EncodedLen(len(t)) {
		return Token{}, false
	}
	b, err := tokenText().DecodeString(s)
	if err != nil || len(b) != len(t) {
		return Token{}, false
	}
	return Token(b), true
}

// Cookie returns the token's text, 43 characters of base64url (RFC 4648,
// section 5, without padding), which need no quoting in a cookie.
func (t Token) Cookie() string { return tokenText().EncodeToString(t[:]) }

// Hash returns the token's SHA-256, under which the store knows the session.
// The token is random and long, so a plain hash can't be searched back.
func (t Token) Hash() [32]byte { return sha256.Sum256(t[:]) }

// Format implements [fmt.Formatter] and hides the token, whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedToken) }

// GoString implements [fmt.GoStringer] and hides the token.
func (t Token) GoString() string { return redactedToken }

// LogValue implements [slog.LogValuer] and hides the token.
func (t Token) LogValue() slog.Value { return slog.StringValue(redactedToken) }

// MarshalText implements [encoding.TextMarshaler], and so JSON, and hides
// the token.
func (t Token) MarshalText() ([]byte, error) { return []byte(redactedToken), nil }

// tokenText is strict so that one token has one text.
func tokenText() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// SessionID names a session to the user whose it is. It is random, and opens
// nothing.
type SessionID [16]byte

// String is the ID in hex.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// ParseSessionID reads what [SessionID.String] wrote.
func ParseSessionID(s string) (id SessionID, ok bool) {
	if len(s) != hex.EncodedLen(len(id)) {
		return SessionID{}, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}
