package wechat

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzXMLAgainstTheDecoder holds our reader of XML against one that was made of the
// standard library's decoder: what ours takes, the other takes as the same fields, and
// what ours refuses, the other refuses, but for what is documented as stricter.
func FuzzXMLAgainstTheDecoder(f *testing.F) {
	for _, p := range loadVectors(f).EventPayloads {
		f.Add([]byte(p.Body))
	}
	for _, v := range loadVectors(f).Crypto {
		f.Add([]byte(v.Body))
		f.Add([]byte(v.Plaintext))
		f.Add(v.sealedBody())
	}
	for _, body := range malformedBodies() {
		f.Add([]byte(body))
	}
	for _, body := range costlyBodies() {
		f.Add([]byte(body))
	}
	f.Add([]byte(realScan))
	for _, inside := range []string{
		`<x:Event xmlns:x="y">SC</x:Event >`, `<x:Event xmlns:x="">SC</x:Event>`, `<Event xmlns="">SC</Event>`,
		`<Event xmlns="y">SC</Event>`, `<Event a="]]>">SC</Event>`, `<a b='&lt;' c = "d"/>`, `<a b="&lt;"/>`, `<a b="&b;"/>`,
		`<a b="<"/>`, `<a b="">`, `<a b/>`, `<a b="c"d="e"/>`, `<a/ >`, `<a b="c`, `<a></a b>`, `<a></ a>`, `<a></ab>`, `<ab></a>`,
		`<a:b:c/>`, `<:/>`, `<1/>`, `<名/>`, `<a>]]></a>`, `<Event>]]&gt;</Event>`, `<Event>]]]><![CDATA[>]]></Event>`,
		`<Event>&#xd800;</Event>`, `<Event>&#x110000;</Event>`, `<Event>&#X41;&#65</Event>`, `<Event>&#0065;&#x1F600;</Event>`,
		`<Event>a&#13;` + "\r\n\r" + `b</Event>`, `&#32;<![CDATA[ ]]>`, `&#33;`, `<![CDATA[x]]>`, `<Event/><Event/>`, `<a><Event>SC</Event></a>`,
	} {
		f.Add([]byte(xmlHead + inside + xmlTail))
	}
	f.Add([]byte(`<?xml version="1.0"?> ` + xmlHead + xmlTail + "\n"))
	f.Add([]byte(realScan))
	f.Fuzz(func(t *testing.T, body []byte) {
		if kind, err := detectFormat(body); err != nil || kind != formatXML || len(body) > MaxBody || !utf8.Valid(body) {
			return
		}
		o := oracle{dec: xml.NewDecoder(bytes.NewReader(body)), body: body, into: make(map[string]string)}
		want := o.read()
		ours, _, got := readFields(body)
		if got != nil && !errors.Is(got, ErrMalformed) {
			t.Fatalf("%q: %v", body, got)
		}
		if (got == nil) != (want == nil) && (got == nil || !o.unusual) {
			t.Fatalf("%q: %v, the decoder: %v", body, got, want)
		}
		fields := make(map[string]string)
		for _, field := range ours {
			fields[field.name] = field.value
		}
		if got == nil && !maps.Equal(fields, o.into) {
			t.Fatalf("%q: %q, the decoder: %q", body, fields, o.into)
		}
	})
}

var (
	plainTag         = regexp.MustCompile(`^<[A-Za-z_:][\w:.-]*(\s+[A-Za-z_:][\w:.-]*="[^"<&]*")*\s*/?>$`)
	plainDeclaration = regexp.MustCompile(`^<\?xml version="1.0"( encoding="(UTF|utf)-8")?\?>$`)
)

// oracle is the reader that ours is held against.
type oracle struct {
	dec     *xml.Decoder
	body    []byte
	into    map[string]string
	tokens  int  // so many were read
	unusual bool // there was something that WeChat doesn't write
}

// raw returns the next token, having looked at how it is written.
func (r *oracle) raw() (xml.Token, error) {
	from := r.dec.InputOffset()
	token, err := r.dec.Token()
	source := string(r.body[from:r.dec.InputOffset()])
	switch token := token.(type) {
	case xml.StartElement:
		r.unusual = r.unusual || !plainTag.MatchString(source) || slices.ContainsFunc(token.Attr, func(a xml.Attr) bool {
			return a.Name.Local == "xmlns" || a.Name.Space == "xmlns" && a.Value == ""
		})
	case xml.ProcInst:
		r.unusual = r.unusual || !plainDeclaration.MatchString(source)
	case xml.CharData:
		// The decoder takes a reference to a surrogate for U+FFFD.
		r.unusual = r.unusual || strings.Contains(source, "&#") && bytes.ContainsRune(token, utf8.RuneError)
	}
	return token, err
}

func (r *oracle) read() error {
	if err := r.root(); err != nil {
		return err
	}
	return r.end()
}

// token returns the next token inside the root, where the end of the input is
// an error.
func (r *oracle) token() (xml.Token, error) {
	token, err := r.raw()
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
func (r *oracle) root() error {
	start, err := r.start()
	if err != nil {
		return err
	}
	if start.Name != (xml.Name{Local: "xml"}) {
		return malformed("root is not xml")
	}
	return r.children()
}

func (r *oracle) start() (xml.StartElement, error) {
	declared := false
	for {
		token, err := r.raw()
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

func (r *oracle) children() error {
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

func (r *oracle) child(name xml.Name) error {
	if name.Space != "" || !known(name.Local) {
		return r.skip()
	}
	text, err := r.text()
	if err != nil {
		return err
	}
	if _, twice := r.into[name.Local]; twice {
		return malformed("two of a field")
	}
	r.into[name.Local] = text
	return nil
}

// text reads to the end of an element that holds nothing else.
func (r *oracle) text() (string, error) {
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
func (r *oracle) skip() error {
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
func (r *oracle) end() error {
	for {
		token, err := r.raw()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if text, ok := token.(xml.CharData); err != nil || !ok || !blank(text) {
			return malformed("more after the root")
		}
	}
}

func blank(text []byte) bool { return len(bytes.TrimLeft(text, xmlSpace)) == 0 }
