package wechat

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxBody is how many bytes the body of a push may have.
const MaxBody = 64 << 10

// ErrMalformed is said of a push that is not the XML or JSON of a message. The
// answer is 400.
var ErrMalformed = errors.New("malformed message")

// Message is what WeChat pushed: an event, or what a follower sent. Fields that
// are not named here are ignored.
type Message struct {
	ToUserName   string // the account's original ID, gh_…
	FromUserName string // openid
	MsgType      string // "event", "text" …
	Event        string // of an event: "SCAN", "subscribe" …
	EventKey     string
	Ticket       string // of the QR code that was scanned
	Content      string // of a text
	CreateTime   int64  // seconds since 1970
	MsgID        int64  // of what is no event

	format format
	// Which of the callback's secrets it came with. Not the secrets themselves:
	// a message may be printed.
	previousToken, previousCipher bool
}

// probeEvent is the event of a message that Check sends. Nothing handles it.
const probeEvent = "scanlogin_check"

// Probe tells a message that Check sent, to see whether messages are taken.
// There is no account in its ToUserName, and it asks for nothing: it is to be
// acknowledged, not learned from, and not forwarded.
func (m Message) Probe() bool { return m.MsgType == "event" && m.Event == probeEvent }

// Scan returns the scene of the QR code that was scanned, from 1 on. It is not
// ok for everything that is no scan of a code with a scene and a ticket: among
// them a plain follow, scene 0, and scenes that are strings.
func (m Message) Scan() (scene int32, ok bool) {
	if m.MsgType != "event" || m.Ticket == "" {
		return 0, false
	}
	switch {
	case strings.EqualFold(m.Event, "SCAN"):
		return parseScene(m.EventKey)
	case strings.EqualFold(m.Event, "subscribe"):
		digits, ok := strings.CutPrefix(m.EventKey, "qrscene_")
		if !ok {
			return 0, false
		}
		return parseScene(digits)
	}
	return 0, false
}

// parseScene takes the digits that WeChat writes and no other form of a number.
func parseScene(digits string) (int32, bool) {
	scene, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || scene < 1 || strconv.FormatInt(scene, 10) != digits {
		return 0, false
	}
	return int32(scene), true
}

// format is how a push was written, and so how its reply is.
type format int

const (
	formatXML format = iota
	formatJSON
)

// detectFormat tells the format by the first byte that is no space: a setting
// of the account switches it, and nothing in the request names it.
func detectFormat(body []byte) (format, error) {
	body = bytes.TrimLeft(body, " \t\r\n")
	switch {
	case bytes.HasPrefix(body, []byte("<")):
		return formatXML, nil
	case bytes.HasPrefix(body, []byte("{")):
		return formatJSON, nil
	}
	return 0, malformed("neither XML nor JSON")
}

// fields are the values of a push, as text. There are ten at most.
type fields []struct{ name, value string }

// get returns "" for a field that isn't there.
func (f fields) get(name string) string {
	for _, field := range f {
		if field.name == name {
			return field.value
		}
	}
	return ""
}

// known tells the fields that are read. Others may hold anything that is
// well-formed.
func known(name string) bool {
	switch name {
	case "ToUserName", "FromUserName", "MsgType", "Event", "EventKey", "Ticket", "Content", "CreateTime", "MsgId", "Encrypt":
		return true
	}
	return false
}

// add refuses a field that stands twice: two readers could each believe another.
func (f *fields) add(name, value string) error {
	for _, field := range *f {
		if field.name == name {
			return malformed("two of " + name)
		}
	}
	*f = append(*f, struct{ name, value string }{name, value})
	return nil
}

// readFields reads a body in either format.
func readFields(body []byte) (fields, format, error) {
	if len(body) > MaxBody {
		return nil, 0, malformed("too long")
	}
	if !utf8.Valid(body) {
		return nil, 0, malformed("not UTF-8")
	}
	kind, err := detectFormat(body)
	if err != nil {
		return nil, 0, err
	}
	f := make(fields, 0, 10)
	if kind == formatJSON {
		err = readJSON(body, &f)
	} else {
		err = readXML(string(body), &f)
	}
	return f, kind, err
}

// message makes the message of the fields of a plain or decrypted body.
func (f fields) message(kind format) (Message, error) {
	m := Message{
		ToUserName: f.get("ToUserName"), FromUserName: f.get("FromUserName"), MsgType: f.get("MsgType"),
		Event: f.get("Event"), EventKey: f.get("EventKey"), Ticket: f.get("Ticket"), Content: f.get("Content"),
		format: kind,
	}
	if m.FromUserName == "" || m.MsgType == "" {
		return Message{}, malformed("no FromUserName or MsgType")
	}
	var err error
	if m.CreateTime, err = f.number("CreateTime"); err != nil {
		return Message{}, err
	}
	if m.MsgID, err = f.number("MsgId"); err != nil {
		return Message{}, err
	}
	return m, nil
}

// number is 0 for a field that is missing or empty.
func (f fields) number(name string) (int64, error) {
	digits := f.get(name)
	if digits == "" {
		return 0, nil
	}
	n, err := parseDigits(digits)
	if err != nil {
		return 0, malformed(name + " is no number")
	}
	return n, nil
}

// parseDigits refuses signs, which ParseInt takes.
func parseDigits(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

// malformed never repeats a piece of the message: it may hold an openid.
func malformed(reason string) error {
	return fmt.Errorf("%w: %s", ErrMalformed, reason)
}
