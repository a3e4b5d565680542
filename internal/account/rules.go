package account

import (
	"fmt"
	"strings"
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

// checkPassword says whether a password may be chosen. Only its length
// counts: rules about kinds of characters make passwords worse (NIST SP
// 800-63B, section 3.1.1.2).
func checkPassword(password string) error {
	if len(password) > maxPasswordBytes {
		return fmt.Errorf("%w: more than %d bytes", ErrPassword, maxPasswordBytes)
	}
	if utf8.RuneCountInString(password) < minPasswordRunes {
		return fmt.Errorf("%w: fewer than %d characters", ErrPassword, minPasswordRunes)
	}
	return nil
}
