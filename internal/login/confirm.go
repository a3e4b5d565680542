package login

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Confirm says how a scan is confirmed before it counts. Without that, whoever shows
// somebody their own code is logged in as that person.
type Confirm uint8

// The ways to confirm.
const (
	ConfirmOff   Confirm = iota // not at all: a scan logs in
	ConfirmReply                // the page shows a number, which the person answers with in the chat
	ConfirmCode                 // the person is sent a code, which is typed into the page
)

func confirmNames() []string { return []string{"off", "reply", "code"} }

// String is the name in settings, in the database and in events.
func (c Confirm) String() string { return confirmNames()[c] }

// ParseConfirm is the inverse of String; ok is false for a name that is none.
func ParseConfirm(name string) (c Confirm, ok bool) {
	i := slices.Index(confirmNames(), name)
	return Confirm(max(0, i)), i >= 0
}

// MaxTries is how many wrong answers, or wrong codes, end a login.
const MaxTries = 3

// newSecrets makes what a person may be asked for, the first choice first: a number has to
// differ from those that the same person is asked for by other browsers.
func (c Confirm) newSecrets() []string {
	if c == ConfirmCode {
		return []string{fmt.Sprintf("%06d", random(1_000_000))}
	}
	secrets := make([]string, 8)
	for i := range secrets {
		secrets[i] = strconv.FormatInt(10+random(90), 10)
	}
	return secrets
}

func random(n int64) int64 {
	r, err := rand.Int(rand.Reader, big.NewInt(n))
	if err != nil {
		panic(err) // crypto/rand.Reader never fails
	}
	return r.Int64()
}

// Question is what a scanned login waits for.
type Question struct {
	By     Confirm
	Number string // for the page, where the person answers with it
	Code   string // for the person, where the page asks for it
	Origin        // of the browser, for the person
}

// Origin is what was noted of the browser that shows a code, for the words to the phone.
// Nothing depends on it.
type Origin struct {
	Place   string // roughly where it is
	Browser string // which it is, and on what system
}

// Answer is what somebody wrote who may have something to confirm.
type Answer struct {
	OpenID string
	Text   string
	Push   []byte // as of a Scan
}

// Verdict is what came of an answer.
type Verdict struct {
	Outcome Outcome
	Changed []ID // logins to tell about
	Origin       // of the browser that was confirmed
}

// one is the login that the answer was about, where it was about one.
func (v Verdict) one() (id ID) {
	if len(v.Changed) == 1 {
		id = v.Changed[0]
	}
	return id
}

// reading is what an answer says.
type reading uint8

const (
	otherWords reading = iota
	aNumber
	aRefusal
)

// read finds out what the person means. A refusal that was meant otherwise costs a scan, one
// that is missed an account: so it takes whatever sounds like one.
func (a Answer) read() (what reading, number string) {
	text := plainWords(a.Text)
	digits := strings.TrimFunc(text, unicode.IsDigit) == "" && text != ""
	switch {
	case digits && strings.Trim(text, "0") == "", refuses(text):
		return aRefusal, ""
	case digits:
		return aNumber, text
	}
	return otherWords, ""
}

// plainWords is the text in lower case, its digits and letters in their usual width, without
// what stands around it.
func plainWords(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r >= '！' && r <= '～': // full width, as Chinese keyboards may type it
			r -= '！' - '!'
		case r == '’':
			r = '\''
		}
		return unicode.ToLower(r)
	}, text)
	return strings.TrimFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
}

// refuses is for a text in lower case.
func refuses(text string) bool {
	for _, word := range []string{"不", "否", "别", "拒", "取消", "我没", "没扫", "没有扫"} {
		if strings.HasPrefix(text, word) {
			return true
		}
	}
	for _, word := range []string{"不是我", "不是本人", "非本人"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r != '\'' && !unicode.IsLetter(r) })
	return slices.ContainsFunc(words, func(word string) bool {
		switch word {
		case "n", "no", "nope", "not", "never", "cancel", "deny", "decline", "reject", "refuse", "stop", "wasn't", "wasnt", "isn't", "isnt", "didn't", "didnt":
			return true
		}
		return false
	})
}
