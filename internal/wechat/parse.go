package wechat

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
)

const (
	// maxDepth is how deep elements may be nested. The deepest that WeChat
	// documents, the pictures of a menu, need five.
	maxDepth = 16
	// maxTokens is how many tags and texts a body may have, maxMembers how many
	// members. WeChat's have under a hundred; each costs several allocations,
	// before anybody's signature is checked where the body is encrypted.
	maxTokens  = 2048
	maxMembers = 512
)

// readXML reads the known children of <xml>. What a push never holds is
// refused: document types, and the entities that come with them, comments,
// instructions, a second root.
func readXML(body []byte, into fields) error {
	r := xmlReader{dec: xml.NewDecoder(bytes.NewReader(body)), into: into}
	if err := r.root(); err != nil {
		return err
	}
	return r.end()
}

type xmlReader struct {
	dec    *xml.Decoder
	into   fields
	tokens int // so many were read
}

// token returns the next token inside the root, where the end of the input is
// an error.
func (r *xmlReader) token() (xml.Token, error) {
	token, err := r.dec.Token()
	if err != nil {
		return nil, malformed("not XML")
	}
	if r.tokens++; r.tokens > maxTokens {
		return nil, malformed("too many elements")
	}
	switch token.(type) {
	case xml.StartElement, xml.EndElement, xml.CharData:
		return token, nil
	}
	return nil, malformed("not only elements and text")
}

// root reads <xml>, after an XML declaration at most.
func (r *xmlReader) root() error {
	start, err := r.start()
	if err != nil {
		return err
	}
	if start.Name != (xml.Name{Local: "xml"}) {
		return malformed("root is not xml")
	}
	return r.children()
}

func (r *xmlReader) start() (xml.StartElement, error) {
	declared := false
	for {
		token, err := r.dec.Token()
		if err != nil {
			return xml.StartElement{}, malformed("not XML")
		}
		switch token := token.(type) {
		case xml.StartElement:
			return token, nil
		case xml.ProcInst:
			if token.Target != "xml" || declared {
				return xml.StartElement{}, malformed("an instruction")
			}
			declared = true
		case xml.CharData:
			if !blank(token) {
				return xml.StartElement{}, malformed("text before the root")
			}
		default:
			return xml.StartElement{}, malformed("no root")
		}
	}
}

func (r *xmlReader) children() error {
	for {
		token, err := r.token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return nil
		case xml.CharData:
			if !blank(token) {
				return malformed("text between the fields")
			}
		case xml.StartElement:
			if err := r.child(token.Name); err != nil {
				return err
			}
		}
	}
}

func (r *xmlReader) child(name xml.Name) error {
	if name.Space != "" || !known(name.Local) {
		return r.skip()
	}
	text, err := r.text()
	if err != nil {
		return err
	}
	return r.into.add(name.Local, text)
}

// text reads to the end of an element that holds nothing else.
func (r *xmlReader) text() (string, error) {
	var text []byte
	for {
		token, err := r.token()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return string(text), nil
		case xml.CharData:
			text = append(text, token...)
		default:
			return "", malformed("an element inside a field")
		}
	}
}

// skip reads to the end of an element, whatever it holds.
func (r *xmlReader) skip() error {
	// The root and the element itself are open.
	for depth := 2; depth > 1; {
		token, err := r.token()
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return malformed("nested too deep")
			}
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

// end makes sure that nothing but space comes after the root.
func (r *xmlReader) end() error {
	for {
		token, err := r.dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if text, ok := token.(xml.CharData); err != nil || !ok || !blank(text) {
			return malformed("more after the root")
		}
	}
}

func blank(text []byte) bool {
	return len(bytes.TrimLeft(text, " \t\r\n")) == 0
}

// readJSON reads the known members of an object: strings and numbers, as text;
// null counts as empty. Names are compared exactly, unlike in json.Unmarshal,
// which would take "encrypt" for "Encrypt" and the last of two.
func readJSON(body []byte, into fields) error {
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

func readMember(dec *json.Decoder, into fields) error {
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

func readValue(name string, raw json.RawMessage, into fields) error {
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
