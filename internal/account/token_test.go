package account

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

func TestTokenRoundTrip(t *testing.T) {
	token := NewToken()
	got, ok := ParseToken(token.Cookie())
	if !ok || got != token {
		t.Errorf("ParseToken(Cookie()) gives another token, ok = %v", ok)
	}
	if got.Hash() != token.Hash() || token.Hash() == [32]byte(token) || token == NewToken() {
		t.Error("a token's hash is not a hash, or tokens repeat")
	}
	cookie := http.Cookie{Name: "session", Value: token.Cookie()}
	if want := "session=" + token.Cookie(); cookie.String() != want {
		t.Errorf("cookie %q, want %q", cookie.String(), want)
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := Token{}.Cookie() // 43 times A
	for name, text := range map[string]string{
		"nothing":         "",
		"too short":       good[1:],
		"too long":        good + "A",
		"padded":          good + "=",
		"standard base64": "+" + good[1:],
		"line break":      good[:42] + "\n",
		"loose last bits": good[:42] + "B",
		"megabytes":       strings.Repeat("A", 1<<20),
	} {
		if _, ok := ParseToken(text); ok {
			t.Errorf("%s: ParseToken accepts it", name)
		}
	}
}

func TestTokenCannotBePrinted(t *testing.T) {
	token := NewToken()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%T", "%064x"} {
		fmt.Fprintf(&out, verb+"\n", token)
		fmt.Fprintf(&out, verb+"\n", &token)
		fmt.Fprintf(&out, verb+"\n", struct{ T Token }{token})
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("signed in", "token", token, "held", struct{ T Token }{token})
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"token": token}); err != nil {
		t.Fatal(err)
	}
	for name, leak := range map[string]string{
		"its text":    token.Cookie(),
		"hex":         hex.EncodeToString(token[:]),
		"upper hex":   fmt.Sprintf("%X", token[:]),
		"its numbers": strings.Trim(fmt.Sprintf("%d", token[:]), "[]"),
	} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("a token is printed as %s", name)
		}
	}
}

func TestSessionIDs(t *testing.T) {
	id := SessionID{0xab, 15: 1}
	if got, ok := ParseSessionID(id.String()); !ok || got != id {
		t.Errorf("ParseSessionID(%q) = %v, %v", id, got, ok)
	}
	for _, s := range []string{"", "ab", id.String() + "0", strings.Repeat("x", 32), id.String()[1:] + " "} {
		if got, ok := ParseSessionID(s); ok {
			t.Errorf("ParseSessionID(%q) = %v", s, got)
		}
	}
}
