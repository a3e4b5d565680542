package account

import (
	_ "embed"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxNameRunes     = 64
	minPasswordRunes = 8
	// maxPasswordBytes bounds what a stranger can make the server hash.
	maxPasswordBytes = 1024
)

// cleanName returns the name without the spaces around it, or [ErrName].
// Names end up in an HTTP header, X-Auth-User, so nothing that could end or
// fold a header line is let through, nor anything that can't be seen.
func cleanName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if !utf8.ValidString(name) {
		return "", ErrName
	}
	if n := utf8.RuneCountInString(name); n < 1 || n > maxNameRunes {
		return "", ErrName
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }) {
		return "", ErrName
	}
	return name, nil
}

func nameRune(r rune) bool {
	// Fillers such as U+3164 count as letters but show as nothing.
	if unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) {
		return false
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-@+", r)
}

// checkPassword says whether a password may be chosen. Its length counts, and that it isn't
// among those that are tried first; rules about kinds of characters make passwords worse
// (NIST SP 800-63B, section 3.1.1.2).
func checkPassword(name, password string) error {
	if len(password) > maxPasswordBytes {
		return fmt.Errorf("%w: more than %d bytes", ErrPassword, maxPasswordBytes)
	}
	if utf8.RuneCountInString(password) < minPasswordRunes {
		return fmt.Errorf("%w: fewer than %d characters", ErrPassword, minPasswordRunes)
	}
	if common(password) || isDate(password) {
		return fmt.Errorf("%w: one of the most common ones", ErrPassword)
	}
	if isLocal(name, password) {
		return fmt.Errorf("%w: little more than the name", ErrPassword)
	}
	return nil
}

// minBeside is how many characters there have to be beside what everybody here would try.
const minBeside = 4

// isLocal says that a password is the name, or a word of this place, with next to nothing
// added.
func isLocal(name, password string) bool {
	password = strings.ToLower(password)
	for _, word := range []string{strings.ToLower(name), "scanlogin", "wechat", "weixin"} {
		if utf8.RuneCountInString(strings.ReplaceAll(password, word, "")) < minBeside {
			return true
		}
	}
	return false
}

// commonPasswords are the most frequent ones of at least minPasswordRunes characters in what
// was stolen elsewhere, dates left out: a line each, in lower case, after the lists of
// zxcvbn-ts (MIT), and of SecLists (MIT) for those that are frequent in China.
//
//go:embed common.txt
var commonPasswords string

// common says that a password is on the list, in whatever case.
func common(password string) bool {
	return !strings.Contains(password, "\n") && strings.Contains("\n"+commonPasswords, "\n"+strings.ToLower(password)+"\n")
}

// isDate says that a password is a day of the last or this century in digits: whose birthday
// it is, is easily found out, and there are too many to list.
func isDate(password string) bool {
	for _, layout := range []string{"20060102", "02012006", "01022006"} {
		if day, err := time.Parse(layout, password); err == nil && day.Year() >= 1900 && day.Year() < 2100 {
			return true
		}
	}
	return false
}
