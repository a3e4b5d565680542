package wechat

import (
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"
)

// filled repeats a unit until the body is as large as a body may be.
func filled(before, unit, after string) string {
	return before + strings.Repeat(unit, (MaxBody-len(before)-len(after))/len(unit)) + after
}

// costlyBodies are the largest of their kind, made to cost as much as they can.
func costlyBodies() map[string]string {
	nested := strings.Repeat("<a>", maxDepth-2) + strings.Repeat("</a>", maxDepth-2)
	return map[string]string{
		"elements":       filled(xmlHead, "<a/>", xmlTail),
		"nested":         filled(xmlHead, nested, xmlTail),
		"never closed":   filled(xmlHead, "<a>", ""),
		"duplicated":     filled(xmlHead, "<Event>a</Event>", xmlTail),
		"attributes":     filled(xmlHead+"<a", ` a=""`, "/>"+xmlTail),
		"name spaces":    filled(xmlHead+"<a", ` xmlns:a="b"`, "/>"+xmlTail),
		"split CDATA":    filled(xmlHead+"<Content>", "<![CDATA[]]>", "</Content>"+xmlTail),
		"entities":       filled(xmlHead+"<Content>", "&lt;", "</Content>"+xmlTail),
		"text":           filled(xmlHead+"<Content>", "a", "</Content>"+xmlTail),
		"a long name":    filled("<xml><", "a", ">"),
		"a comment":      filled("<xml><!--", "a", "-->"),
		"entities made":  filled("<!DOCTYPE xml [", `<!ENTITY a "b">`, "]>"+xmlHead+xmlTail),
		"space":          filled("", " ", ""),
		"declared GBK":   filled(`<?xml version="1.0" encoding="GBK"?>`+xmlHead+"<Content>", "a", "</Content>"+xmlTail),
		"GBK":            filled(xmlHead+"<Content>", "\xc4\xe3\xba\xc3", "</Content>"+xmlTail),
		"last byte bad":  filled(xmlHead+"<Content>", "a", "</Content>"+xmlTail+"\xff"),
		"UTF-16":         filled("\xff\xfe<\x00", "a\x00", ""),
		"oversized":      filled(xmlHead, " ", xmlTail) + " \n",
		"huge":           strings.Repeat("<", 100*MaxBody),
		"Encrypt":        filled("<xml><Encrypt>", "A", "</Encrypt></xml>"),
		"JSON members":   filled("{", `"":0,`, `"":0}`),
		"JSON array":     filled(`{"a":[`, "[],", "[]]}"),
		"JSON object":    filled(`{"a":{`, `"":{},`, `"":0}}`),
		"JSON nested":    `{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"JSON too deep":  filled(`{"a":`, "[", ""),
		"JSON as field":  filled(`{"Event":[`, "[],", "[]]}"),
		"JSON escapes":   filled(`{"Content":"`, `\u4f60`, `"}`),
		"JSON digits":    filled(`{"CreateTime":`, "1", "}"),
		"JSON cut":       filled(`{"Content":"`, "a", ""),
		"JSON duplicate": filled("{", `"Event":"a",`, `"a":0}`),
	}
}

// TestCostOfABody: whatever it is made of, reading one costs memory in
// proportion to its size, and no allocation for every few bytes of it.
func TestCostOfABody(t *testing.T) {
	for name, text := range costlyBodies() {
		t.Run(name, func(t *testing.T) {
			body := []byte(text)
			read := func() { _, _, _ = readFields(body) }
			if allocs, most := testing.AllocsPerRun(3, read), float64(MaxBody)/4; allocs > most {
				t.Errorf("%.0f allocations, more than %.0f", allocs, most)
			}
			if size, most := allocated(read), uint64(64*MaxBody); size > most {
				t.Errorf("%d bytes allocated, more than %d", size, most)
			}
		})
	}
}

// allocated is how many bytes do allocates, the least of a few runs: others may
// be at work.
func allocated(do func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// TestOversizedBodyIsNotRead: the refusal costs the same for any size.
func TestOversizedBodyIsNotRead(t *testing.T) {
	body := []byte(costlyBodies()["huge"])
	for _, cb := range []*Callback{testCallback(nil), testCallback(testCipher(t, testAppID))} {
		q := signedQuery(cb, nil)
		q.Del("encrypt_type")
		allocs := testing.AllocsPerRun(10, func() {
			if _, err := cb.Read(q, body); !errors.Is(err, ErrMalformed) {
				t.Errorf("Read = %v", err)
			}
		})
		if allocs > 100 {
			t.Errorf("%.0f allocations", allocs)
		}
	}
}

// TestManyElements has the limits that bound the cost, from both sides.
func TestManyElements(t *testing.T) {
	// The heads bring two elements, of three tokens each; the end is one more.
	elements := func(n int) string { return xmlHead + strings.Repeat("<a/>", n) + xmlTail }
	members := func(n int) string {
		return `{"FromUserName":"o1","MsgType":"event"` + strings.Repeat(`,"a":[{}]`, n-2) + "}"
	}
	for _, tc := range []struct {
		name, body string
		want       error
	}{
		{"most elements", elements((maxTokens - 7) / 2), nil},
		{"an element more", elements((maxTokens-7)/2 + 1), ErrMalformed},
		{"most members", members(maxMembers), nil},
		{"a member more", members(maxMembers + 1), ErrMalformed},
	} {
		if _, err := readSigned(t, []byte(tc.body)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// TestTruncatedBodies: no beginning of a message is a message.
func TestTruncatedBodies(t *testing.T) {
	c := testCipher(t, testAppID)
	sealed := string(sealedXML(encrypted(t, c, scanBody("o1"))))
	for _, body := range []string{scanBody("o1"), `{"FromUserName":"o1","MsgType":"event","Event":"SCAN"}`, sealed} {
		for cut := range body {
			if m, err := readSigned(t, []byte(body[:cut])); !errors.Is(err, ErrMalformed) || m != (Message{}) {
				t.Errorf("%q: %+v, %v", body[:cut], m, err)
			}
		}
	}
	// Cut inside what is encrypted, and signed all the same.
	cb, inside := testCallback(c), encrypted(t, c, scanBody("o1"))
	for cut := 1; cut < len(inside); cut++ {
		body := sealedXML(inside[:cut])
		if m, err := cb.Read(signedQuery(cb, body), body); err == nil {
			t.Fatalf("cut to %d: %+v", cut, m)
		}
	}
}

// FuzzReadUnsigned: without the token there is no message, whatever the query,
// the body, and the mode.
func FuzzReadUnsigned(f *testing.F) {
	c := testCipher(f, testAppID)
	both := testCallback(c)
	both.PreviousToken, both.PreviousCipher = oldToken, oldCipher(f, testAppID)
	callbacks := []*Callback{testCallback(nil), testCallback(c), both}
	for _, v := range loadVectors(f).Crypto { // signed by other tokens
		f.Add(v.query(f).Encode(), v.sealedBody())
	}
	f.Add("signature=&timestamp=&nonce=", []byte(scanBody("o1")))
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		for i, cb := range callbacks {
			m, err := cb.Read(q, body)
			if !errors.Is(err, ErrSignature) || m != (Message{}) {
				t.Errorf("callback %d: %+v, %v", i, m, err)
			}
			if echo, err := cb.VerifyURL(q); !errors.Is(err, ErrSignature) || echo != "" {
				t.Errorf("callback %d: VerifyURL = %q, %v", i, echo, err)
			}
			for _, secret := range []string{testCallbackToken, oldToken} {
				if strings.Contains(fmt.Sprint(err), secret) {
					t.Errorf("the token stands in %q", err)
				}
			}
		}
	})
}
