package wechat

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth is how deep elements may be nested. The deepest that WeChat
	// documents, the pictures of a menu, need five.
	maxDepth = 16
	// maxTokens is how many tags and texts a body may have, maxMembers how many
	// members. WeChat's have under a hundred.
	maxTokens  = 2048
	maxMembers = 512
)

// readXML reads the known children of <xml>. What a push never holds is
// refused: document types, and the entities that come with them, comments,
// instructions, a second root.
//
// It is stricter than XML 1.0 with what WeChat never writes: names are of ASCII
// characters, an XML declaration looks one of three ways, and an attribute is
// name="value" without entities, and declares no default or empty name space. A
// name with a prefix is no known one.
func readXML(body string, into *fields) error {
	if strings.ContainsFunc(body, func(c rune) bool { return !xmlChar(c) }) {
		return malformed("a character that XML can't hold")
	}
	if strings.Contains(body, "\r") { // section 2.11
		body = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body)
	}
	r := xmlReader{rest: body, into: into, text: make([]byte, 0, 128)}
	r.space()
	if r.skip(`<?xml version="1.0"?>`) || r.skip(`<?xml version="1.0" encoding="UTF-8"?>`) ||
		r.skip(`<?xml version="1.0" encoding="utf-8"?>`) {
		r.space()
	}
	r.want("<")
	r.element(1)
	r.space()
	if r.rest != "" {
		r.fail("more after the root")
	}
	return r.err
}

// xmlReader takes a body apart from left to right.
type xmlReader struct {
	rest   string
	into   *fields
	text   []byte // of the element that is being read
	tokens int    // so many were read
	err    error  // the first; nothing is left to read then
}

func (r *xmlReader) fail(reason string) { r.failed(malformed(reason)) }

func (r *xmlReader) failed(err error) {
	if r.err == nil && err != nil {
		r.err, r.rest = err, ""
	}
}

// element reads one behind its "<". The root's depth is 1.
func (r *xmlReader) element(depth int) {
	name := r.name()
	for r.space() && !strings.HasPrefix(r.rest, "/") && !strings.HasPrefix(r.rest, ">") {
		r.attribute()
	}
	empty := r.skip("/")
	r.want(">")
	if depth > maxDepth || depth == 1 && name != "xml" {
		r.fail("nested too deep, or another root than xml")
	}
	field := depth == 2 && known(name)
	r.text = r.text[:0]
	for !empty && r.err == nil && !r.skip("</") {
		r.content(depth, field)
	}
	if !empty {
		r.want(name)
		r.space()
		r.want(">")
	}
	if field && r.err == nil {
		r.failed(r.into.add(name, string(r.text)))
	}
	r.count()
}

// content reads what comes next inside an element: text in a field, elements and
// space in the root, anything in what isn't known.
func (r *xmlReader) content(depth int, field bool) {
	switch {
	case r.skip("<![CDATA["):
		r.text = append(r.text, r.until("]]>")...)
	case !field && r.skip("<"):
		r.element(depth + 1)
		r.text = r.text[:0]
	default:
		r.characters()
	}
	if depth == 1 && len(bytes.TrimLeft(r.text, xmlSpace)) > 0 {
		r.fail("text between the fields")
	}
	if !field {
		r.text = r.text[:0]
	}
	r.count()
}

func (r *xmlReader) count() {
	if r.tokens++; r.tokens > maxTokens {
		r.fail("too many elements")
	}
}

// characters reads text up to the next tag.
func (r *xmlReader) characters() {
	text, _, _ := strings.Cut(r.rest, "<")
	if text == "" || strings.Contains(text, "]]>") {
		r.fail("an element inside a field, or cut off")
		return
	}
	r.rest = r.rest[len(text):]
	r.unescape(text)
}

// attribute reads one that means nothing to us.
func (r *xmlReader) attribute() {
	name := r.name()
	r.want(`="`)
	value := r.until(`"`)
	if strings.ContainsAny(value, "<&") || name == "xmlns" || strings.HasPrefix(name, "xmlns:") && value == "" {
		r.fail("an attribute that WeChat doesn't write")
	}
}

// unescape adds a text to that of the element, its entities replaced.
func (r *xmlReader) unescape(text string) {
	for text != "" {
		plain, rest, escaped := strings.Cut(text, "&")
		r.text = append(r.text, plain...)
		if !escaped {
			return
		}
		name, rest, ended := strings.Cut(rest, ";")
		c, ok := entity(name)
		if !ended || !ok {
			r.fail("an entity")
			return
		}
		r.text, text = utf8.AppendRune(r.text, c), rest
	}
}

// entity is the character of a predefined entity or a character reference.
func entity(name string) (c rune, ok bool) {
	for i, predefined := range [...]string{"lt", "gt", "amp", "apos", "quot"} {
		if name == predefined {
			return rune("<>&'\""[i]), true
		}
	}
	digits, numeric := strings.CutPrefix(name, "#")
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 31)
	c = rune(n)
	return c, numeric && err == nil && utf8.ValidRune(c) && xmlChar(c)
}

// name reads the name of an element or an attribute, with one prefix at most.
func (r *xmlReader) name() string {
	n := strings.IndexFunc(r.rest, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_:-.", c)
	})
	if n < 1 || strings.ContainsAny(r.rest[:1], "-.0123456789") || strings.Count(r.rest[:n], ":") > 1 {
		r.fail("no name")
		return ""
	}
	name := r.rest[:n]
	r.rest = r.rest[n:]
	return name
}

const xmlSpace = " \t\r\n"

func (r *xmlReader) space() (found bool) {
	rest := strings.TrimLeft(r.rest, xmlSpace)
	found = len(rest) < len(r.rest)
	r.rest = rest
	return found
}

func (r *xmlReader) skip(text string) (found bool) {
	r.rest, found = strings.CutPrefix(r.rest, text)
	return found
}

func (r *xmlReader) want(text string) {
	if !r.skip(text) {
		r.fail("not XML")
	}
}

func (r *xmlReader) until(end string) string {
	text, rest, found := strings.Cut(r.rest, end)
	if !found {
		r.fail("cut off")
	}
	r.rest = rest
	return text
}

// readJSON reads the known members of an object: strings and numbers, as text;
// null counts as empty. Names are compared exactly, unlike in json.Unmarshal,
// which would take "encrypt" for "Encrypt" and the last of two.
func readJSON(body []byte, into *fields) error {
	if !json.Valid(body) {
		return malformed("not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if _, err := dec.Token(); err != nil { // the opening brace
		return malformed("not JSON")
	}
	for members := 0; dec.More(); members++ {
		if members == maxMembers {
			return malformed("too many members")
		}
		if err := readMember(dec, into); err != nil {
			return err
		}
	}
	return nil
}

func readMember(dec *json.Decoder, into *fields) error {
	token, err := dec.Token()
	name, ok := token.(string)
	if err != nil || !ok {
		return malformed("not JSON")
	}
	var raw json.RawMessage // costs the same whatever is in it
	if dec.Decode(&raw) != nil {
		return malformed("not JSON")
	}
	if !known(name) {
		return nil
	}
	return readValue(name, raw, into)
}

func readValue(name string, raw json.RawMessage, into *fields) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	value, err := dec.Token()
	if err != nil {
		return malformed("not JSON")
	}
	switch value := value.(type) {
	case string:
		return into.add(name, value)
	case json.Number:
		return into.add(name, value.String())
	case nil:
		return into.add(name, "")
	}
	return malformed(name + " is neither text nor number")
}
