package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must not reach a log, an error or a page. It prints as
// "[set]" or "[empty]" under every verb of package fmt, in log/slog and in
// JSON; [Secret.Reveal] is the one way to the text. (Package fmt can't call
// methods on an unexported struct field: keep secrets out of structs that get
// printed.)
type Secret string

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String implements [fmt.Stringer] and hides the text.
func (s Secret) String() string {
	if s == "" {
		return "[empty]"
	}
	return "[set]"
}

// GoString implements [fmt.GoStringer] and hides the text.
func (s Secret) GoString() string { return s.String() }

// Format implements [fmt.Formatter] and hides the text. Without it a verb that
// doesn't suit a string, such as %d, would print it.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer] and hides the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler], and so JSON, and hides the
// text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
