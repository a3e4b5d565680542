package account

import (
	"errors"
	"slices"
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
		"87654320":                 "",
		"correct horse battery":    "",
		"password of mine":         "", // more than one that is common
		"20261345":                 "", // no date
		"18991231":                 "", // nobody's birthday
		"password\nfootball":       "", // two that are common, in one that isn't
		"密码密码密码密码":                 "",
		"        ":                 "",
		"\x00\xff\n\t\x00\xff\n\t": "",
		strings.Repeat("x", 1024):  "",
		"1234567":                  "fewer than 8 characters",
		"密码密码":                     "fewer than 8 characters",
		"":                         "fewer than 8 characters",
		strings.Repeat("x", 1025):  "more than 1024 bytes",
		strings.Repeat("密码密码密码密码", 100): "more than 1024 bytes",
		"12345678":   "most common",
		"PassWord":   "most common",
		"1qaz2wsx":   "most common",
		"woaini1314": "most common",
		"19861010":   "most common",
		"31122001":   "most common",
		"12312001":   "most common",
	} {
		err := checkPassword("somebody", in)
		if want == "" && err != nil {
			t.Errorf("checkPassword(%q) = %v", in, err)
		}
		if want != "" && (!errors.Is(err, ErrPassword) || !strings.Contains(err.Error(), want)) {
			t.Errorf("checkPassword(%d bytes) = %v, want %q", len(in), err, want)
		}
	}
}

func TestPasswordsThatAreLittleMoreThanTheName(t *testing.T) {
	for password, refused := range map[string]bool{
		"alexander": true, "Alexander1": true, "123alexander": true, "alexander1234": false, "alexander the great": false,
		"scanlogin": true, "scanlogin!1": true, "WeChat2026": false, "weixin12": true, "wechatwechat": true,
	} {
		if err := checkPassword("Alexander", password); (err != nil) != refused {
			t.Errorf("%q: %v", password, err)
		}
	}
	if err := checkPassword("bob", "alexander.77"); err != nil {
		t.Errorf("somebody else's name: %v", err)
	}
}

// A word that could not be chosen anyway, or that is written otherwise than it is looked for,
// would be on the list in vain.
func TestCommonPasswordsAreFound(t *testing.T) {
	words := strings.Split(strings.TrimSuffix(commonPasswords, "\n"), "\n")
	if len(words) < 3000 { // as OWASP ASVS v5.0.0-6.2.4 asks for
		t.Errorf("%d common passwords", len(words))
	}
	if !slices.IsSorted(words) || len(slices.Compact(slices.Clone(words))) != len(words) {
		t.Error("the list is in no order, or holds a word twice")
	}
	for _, word := range words {
		err := checkPassword("somebody", word)
		if err == nil || !strings.Contains(err.Error(), "most common") || isDate(word) {
			t.Errorf("checkPassword(%q) = %v", word, err)
		}
	}
}
