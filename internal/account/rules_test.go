package account

import (
	"errors"
	"strings"
	"testing"
)

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"alice":                  "alice",
		" Alice\t":               "Alice",
		"张伟":                     "张伟",
		"ops@example.com":        "ops@example.com",
		"a.b_c-d+e7":             "a.b_c-d+e7",
		strings.Repeat("名", 64):  strings.Repeat("名", 64),
		"":                       "",
		" ":                      "",
		"two words":              "",
		"a\r\nX-Auth-User: root": "",
		"a\x00":                  "",
		"a\x7f":                  "",
		"a,b":                    "",
		"a:b":                    "",
		"<b>":                    "",
		"ideographic\u3000space": "",
		"zero\u200bwidth":        "",
		"right\u202eto left":     "",
		"filler\u3164":           "",
		"\xff\xfe":               "",
		strings.Repeat("名", 65):  "",
	} {
		got, err := cleanName(in)
		if got != want || (want == "") != errors.Is(err, ErrName) {
			t.Errorf("cleanName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	for in, want := range map[string]string{
		"12345678":                 "",
		"密码密码密码密码":                 "",
		"        ":                 "",
		"\x00\xff\n\t\x00\xff\n\t": "",
		strings.Repeat("x", 1024):  "",
		"1234567":                  "fewer than 8 characters",
		"密码密码":                     "fewer than 8 characters",
		"":                         "fewer than 8 characters",
		strings.Repeat("x", 1025):  "more than 1024 bytes",
		strings.Repeat("密码密码密码密码", 100): "more than 1024 bytes",
	} {
		err := checkPassword(in)
		if want == "" && err != nil {
			t.Errorf("checkPassword(%q) = %v", in, err)
		}
		if want != "" && (!errors.Is(err, ErrPassword) || !strings.Contains(err.Error(), want)) {
			t.Errorf("checkPassword(%d bytes) = %v, want %q", len(in), err, want)
		}
	}
}
