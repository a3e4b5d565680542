package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestScan(t *testing.T) {
	const ticket = "gQH"
	for _, tc := range []struct {
		name    string
		message Message
		want    int32 // 0: none
	}{
		{"scan", Message{MsgType: "event", Event: "SCAN", EventKey: "7", Ticket: ticket}, 7},
		{"scan in other case", Message{MsgType: "event", Event: "scan", EventKey: "7", Ticket: ticket}, 7},
		{"subscribe", Message{MsgType: "event", Event: "subscribe", EventKey: "qrscene_7", Ticket: ticket}, 7},
		{"subscribe in other case", Message{MsgType: "event", Event: "Subscribe", EventKey: "qrscene_7", Ticket: ticket}, 7},
		{"largest", Message{MsgType: "event", Event: "SCAN", EventKey: "2147483647", Ticket: ticket}, 2147483647},

		{"too large", Message{MsgType: "event", Event: "SCAN", EventKey: "2147483648", Ticket: ticket}, 0},
		{"2^32+7", Message{MsgType: "event", Event: "SCAN", EventKey: "4294967303", Ticket: ticket}, 0},
		{"zero", Message{MsgType: "event", Event: "SCAN", EventKey: "0", Ticket: ticket}, 0},
		{"negative", Message{MsgType: "event", Event: "SCAN", EventKey: "-7", Ticket: ticket}, 0},
		{"plus", Message{MsgType: "event", Event: "SCAN", EventKey: "+7", Ticket: ticket}, 0},
		{"leading zero", Message{MsgType: "event", Event: "SCAN", EventKey: "07", Ticket: ticket}, 0},
		{"space", Message{MsgType: "event", Event: "SCAN", EventKey: " 7", Ticket: ticket}, 0},
		{"hexadecimal", Message{MsgType: "event", Event: "SCAN", EventKey: "0x7", Ticket: ticket}, 0},
		{"underscore", Message{MsgType: "event", Event: "SCAN", EventKey: "1_0", Ticket: ticket}, 0},
		{"float", Message{MsgType: "event", Event: "SCAN", EventKey: "7.0", Ticket: ticket}, 0},
		{"wide digit", Message{MsgType: "event", Event: "SCAN", EventKey: "７", Ticket: ticket}, 0},
		{"empty", Message{MsgType: "event", Event: "SCAN", Ticket: ticket}, 0},
		{"prefix on scan", Message{MsgType: "event", Event: "SCAN", EventKey: "qrscene_7", Ticket: ticket}, 0},
		{"no prefix on subscribe", Message{MsgType: "event", Event: "subscribe", EventKey: "7", Ticket: ticket}, 0},
		{"two prefixes", Message{MsgType: "event", Event: "subscribe", EventKey: "qrscene_qrscene_7", Ticket: ticket}, 0},
		{"prefix in other case", Message{MsgType: "event", Event: "subscribe", EventKey: "QRSCENE_7", Ticket: ticket}, 0},
		{"only the prefix", Message{MsgType: "event", Event: "subscribe", EventKey: "qrscene_", Ticket: ticket}, 0},
		{"plain follow", Message{MsgType: "event", Event: "subscribe"}, 0},
		{"no ticket", Message{MsgType: "event", Event: "SCAN", EventKey: "7"}, 0},
		{"unsubscribe", Message{MsgType: "event", Event: "unsubscribe", EventKey: "7", Ticket: ticket}, 0},
		{"click", Message{MsgType: "event", Event: "CLICK", EventKey: "7", Ticket: ticket}, 0},
		{"text", Message{MsgType: "text", Event: "SCAN", EventKey: "7", Ticket: ticket}, 0},
		{"nothing", Message{}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, ok := tc.message.Scan(); got != tc.want || ok != (tc.want != 0) {
				t.Errorf("Scan = %d, %v; want %d", got, ok, tc.want)
			}
		})
	}
}

const (
	xmlHead = "<xml><FromUserName>o1</FromUserName><MsgType>event</MsgType>"
	xmlTail = "</xml>"
)

func TestReadXML(t *testing.T) {
	whole := Message{FromUserName: "o1", MsgType: "event"}
	with := func(change func(*Message)) Message {
		m := whole
		change(&m)
		return m
	}
	for name, tc := range map[string]struct {
		body string
		want Message
	}{
		"least":       {xmlHead + xmlTail, whole},
		"declaration": {`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + xmlHead + xmlTail, whole},
		"space":       {" \r\n\t" + xmlHead + " \n " + xmlTail + "\n ", whole},
		"entities": {
			xmlHead + "<Content>&lt;&amp;&gt;&quot;&apos;&#20320;</Content>" + xmlTail,
			with(func(m *Message) { m.Content = `<&>"'你` }),
		},
		"split CDATA": {
			xmlHead + "<Content><![CDATA[a]]]]><![CDATA[>b]]></Content>" + xmlTail,
			with(func(m *Message) { m.Content = "a]]>b" }),
		},
		"markup in CDATA": {
			xmlHead + "<Content><![CDATA[</Content><Event>SCAN</Event>]]></Content>" + xmlTail,
			with(func(m *Message) { m.Content = "</Content><Event>SCAN</Event>" }),
		},
		"nested unknown": {
			xmlHead + "<SendPicsInfo><Count>1</Count><PicList><item><Event>SCAN</Event></item></PicList></SendPicsInfo>" + xmlTail,
			whole,
		},
		"unknown twice":  {xmlHead + "<X>1</X><X>2</X>" + xmlTail, whole},
		"other case":     {xmlHead + "<event>SCAN</event>" + xmlTail, whole},
		"other space":    {xmlHead + `<x:Event xmlns:x="y">SCAN</x:Event>` + xmlTail, whole},
		"empty element":  {xmlHead + "<EventKey/>" + xmlTail, whole},
		"empty number":   {xmlHead + "<MsgId></MsgId>" + xmlTail, whole},
		"largest number": {xmlHead + "<MsgId>9223372036854775807</MsgId>" + xmlTail, with(func(m *Message) { m.MsgID = 1<<63 - 1 })},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := readSigned(t, []byte(tc.body))
			if err != nil || m != tc.want {
				t.Errorf("Read = %+v, %v; want %+v", m, err, tc.want)
			}
		})
	}
}

// malformedBodies are refused with 400, however well they are signed.
func malformedBodies() map[string]string {
	deep := strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth)
	return map[string]string{
		"empty":      "",
		"space":      " \n",
		"text":       "hello",
		"BOM":        "\ufeff" + xmlHead + xmlTail,
		"UTF-16":     "<\x00x\x00m\x00l\x00>\x00",
		"not UTF-8":  xmlHead + "<Content>\xff\xfe</Content>" + xmlTail,
		"GBK":        `<?xml version="1.0" encoding="GBK"?>` + xmlHead + xmlTail,
		"too long":   xmlHead + "<Content>" + strings.Repeat("a", MaxBody) + "</Content>" + xmlTail,
		"array":      `[{"FromUserName":"o1","MsgType":"event"}]`,
		"other root": "<html>" + xmlHead + xmlTail + "</html>",
		"root space": `<xml xmlns="x"><FromUserName>o1</FromUserName><MsgType>event</MsgType></xml>`,

		"XML without sender":     "<xml><MsgType>event</MsgType></xml>",
		"XML without type":       "<xml><FromUserName>o1</FromUserName></xml>",
		"XML with empty sender":  "<xml><FromUserName></FromUserName><MsgType>event</MsgType></xml>",
		"XML twice the field":    xmlHead + "<FromUserName>o2</FromUserName>" + xmlTail,
		"XML twice the event":    xmlHead + "<Event>SCAN</Event><Event>SCAN</Event>" + xmlTail,
		"XML cut off":            xmlHead,
		"XML cut in a tag":       xmlHead + "</xm",
		"XML cut in CDATA":       xmlHead + "<Event><![CDATA[SCAN",
		"XML crossed":            xmlHead + "<a><b></a></b>" + xmlTail,
		"XML two roots":          xmlHead + xmlTail + xmlHead + xmlTail,
		"XML and text":           xmlHead + xmlTail + "x",
		"XML and a comment":      xmlHead + xmlTail + "<!-- -->",
		"XML text between":       xmlHead + "x" + xmlTail,
		"XML comment in a field": xmlHead + "<Event>SC<!-- -->AN</Event>" + xmlTail,
		"XML element in a field": xmlHead + "<Event><b>SCAN</b></Event>" + xmlTail,
		"XML instruction":        xmlHead + "<?php x ?>" + xmlTail,
		"XML two declarations":   `<?xml version="1.0"?><?xml version="1.0"?>` + xmlHead + xmlTail,
		"XML document type":      "<!DOCTYPE xml>" + xmlHead + xmlTail,
		"XML own entity":         `<!DOCTYPE xml [<!ENTITY e "x">]>` + xmlHead + "<Event>&e;</Event>" + xmlTail,
		"XML outside entity":     `<!DOCTYPE xml [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + xmlHead + "<Event>&e;</Event>" + xmlTail,
		"XML HTML entity":        xmlHead + "<Event>&nbsp;</Event>" + xmlTail,
		"XML bare ampersand":     xmlHead + "<Event>a&b</Event>" + xmlTail,
		"XML zero byte":          xmlHead + "<Event>a\x00b</Event>" + xmlTail,
		"XML zero entity":        xmlHead + "<Event>&#0;</Event>" + xmlTail,
		"XML deep":               xmlHead + deep + xmlTail,
		"XML negative time":      xmlHead + "<CreateTime>-1</CreateTime>" + xmlTail,
		"XML time in words":      xmlHead + "<CreateTime>now</CreateTime>" + xmlTail,
		"XML too large a number": xmlHead + "<MsgId>9223372036854775808</MsgId>" + xmlTail,

		"JSON without sender":    `{"MsgType":"event"}`,
		"JSON null sender":       `{"FromUserName":null,"MsgType":"event"}`,
		"JSON twice the field":   `{"FromUserName":"o1","MsgType":"event","FromUserName":"o2"}`,
		"JSON twice, escaped":    `{"FromUserName":"o1","MsgType":"event","\u0046romUserName":"o2"}`,
		"JSON cut off":           `{"FromUserName":"o1","MsgType":"event"`,
		"JSON two":               `{"FromUserName":"o1","MsgType":"event"}{}`,
		"JSON and text":          `{"FromUserName":"o1","MsgType":"event"}x`,
		"JSON trailing comma":    `{"FromUserName":"o1","MsgType":"event",}`,
		"JSON object as a field": `{"FromUserName":{"a":1},"MsgType":"event"}`,
		"JSON array as a field":  `{"FromUserName":["o1"],"MsgType":"event"}`,
		"JSON truth as a field":  `{"FromUserName":true,"MsgType":"event"}`,
		"JSON fraction of time":  `{"FromUserName":"o1","MsgType":"event","CreateTime":1.5}`,
		"JSON power of time":     `{"FromUserName":"o1","MsgType":"event","CreateTime":1e9}`,
		"JSON negative time":     `{"FromUserName":"o1","MsgType":"event","CreateTime":-1}`,
		"JSON too deep":          `{"FromUserName":"o1","MsgType":"event","x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		"JSON raw line break":    "{\"FromUserName\":\"o\n1\",\"MsgType\":\"event\"}",
	}
}

func TestReadMalformed(t *testing.T) {
	for name, body := range malformedBodies() {
		t.Run(name, func(t *testing.T) {
			m, err := readSigned(t, []byte(body))
			if !errors.Is(err, ErrMalformed) || m != (Message{}) {
				t.Errorf("Read = %+v, %v; want ErrMalformed", m, err)
			}
		})
	}
}

func TestReadJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want Message
	}{
		"numbers": {
			`{"FromUserName":"o1","MsgType":"text","CreateTime":1714037059,"MsgId":6074130599188426998}`,
			Message{FromUserName: "o1", MsgType: "text", CreateTime: 1714037059, MsgID: 6074130599188426998},
		},
		"numbers as text": {
			`{"FromUserName":"o1","MsgType":"text","CreateTime":"1714037059","MsgId":"7"}`,
			Message{FromUserName: "o1", MsgType: "text", CreateTime: 1714037059, MsgID: 7},
		},
		"scene as a number": {
			`{"FromUserName":"o1","MsgType":"event","Event":"SCAN","EventKey":7,"Ticket":"t"}`,
			Message{FromUserName: "o1", MsgType: "event", Event: "SCAN", EventKey: "7", Ticket: "t"},
		},
		"nested, null, other case": {
			`{"FromUserName":"o1","MsgType":"event","EventKey":null,"event":"SCAN","x":{"Event":"SCAN","y":[1,{}]}}`,
			Message{FromUserName: "o1", MsgType: "event"},
		},
		"space": {
			" \n {\t\"FromUserName\" : \"o1\" ,\r\n\"MsgType\":\"event\" } \n",
			Message{FromUserName: "o1", MsgType: "event"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.format = formatJSON
			m, err := readSigned(t, []byte(tc.body))
			if err != nil || m != tc.want {
				t.Errorf("Read = %+v, %v; want %+v", m, err, tc.want)
			}
		})
	}
}

func FuzzReadXML(f *testing.F) {
	for _, p := range loadVectors(f).EventPayloads {
		f.Add([]byte(p.Body))
	}
	f.Add([]byte(`<?xml version="1.0"?>` + xmlHead + "<Content><![CDATA[a]]]]><![CDATA[>b]]>&#20320;</Content>" + xmlTail))
	fuzzRead(f, '<')
}

func FuzzReadJSON(f *testing.F) {
	for _, v := range loadVectors(f).Crypto {
		if v.Format == "json" {
			f.Add([]byte(v.Body + v.Plaintext))
		}
	}
	f.Add([]byte(`{"FromUserName":"\ud800\u0000<>&","MsgType":"event","EventKey":1e400,"Content":"]]>"}`))
	fuzzRead(f, '{')
}

// fuzzRead holds for every body: it is malformed or a message; reading it costs
// no more than a small multiple of its size; and the reply to it reads as the
// text that was said, with the two names swapped.
func fuzzRead(f *testing.F, first byte) {
	for _, body := range malformedBodies() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 0 && body[0] != first {
			body = append([]byte{first}, body...)
		}
		for _, cb := range []*Callback{testCallback(nil), testCallback(testCipher(t, testAppID))} {
			checkRead(t, cb, body)
		}
	})
}

func checkRead(t *testing.T, cb *Callback, body []byte) {
	t.Helper()
	sent := body
	if cb.Cipher != nil {
		sealed, err := cb.Cipher.Encrypt(body)
		if err != nil {
			t.Fatal(err)
		}
		if sent = sealedXML(sealed); len(sent) > MaxBody {
			return
		}
	}
	m, err := cb.Read(signedQuery(cb, sent), sent)
	if err != nil {
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrMode) {
			t.Errorf("Read = %v", err)
		}
		return
	}
	if size := len(m.FromUserName) + len(m.ToUserName) + len(m.MsgType) + len(m.Event) + len(m.EventKey) +
		len(m.Ticket) + len(m.Content); size > 3*len(body) {
		t.Errorf("%d bytes were read out of %d", size, len(body))
	}
	m.Scan()
	checkReply(t, cb, m)
}

// checkReply reads the reply as WeChat does.
func checkReply(t *testing.T, cb *Callback, m Message) {
	t.Helper()
	said := "扫码成功 ]]> <&> " + m.Content
	reply, err := cb.Reply(m, said)
	if err != nil {
		t.Fatal(err)
	}
	if len(reply) > MaxBody {
		return
	}
	back := readReply(t, cb, reply)
	if back.format != m.format || back.MsgType != "text" || back.CreateTime != testTime {
		t.Errorf("reply %q reads as %+v", reply, back)
	}
	if back.ToUserName != carried(m.format, m.FromUserName) || back.FromUserName != carried(m.format, m.ToUserName) ||
		back.Content != carried(m.format, said) {
		t.Errorf("reply to %+v reads as %+v", m, back)
	}
}

// carried is what is left of a text that a format can't hold as it is.
func carried(kind format, text string) string {
	if kind == formatJSON {
		return string([]rune(text)) // U+FFFD for what is not UTF-8
	}
	var left strings.Builder
	for _, r := range strings.ToValidUTF8(text, "") {
		if xmlChar(r) {
			left.WriteRune(r)
		}
	}
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(left.String())
}

// readReply verifies and opens a reply. It does not go through Read, because a
// reply may well go to nobody.
func readReply(t *testing.T, cb *Callback, reply []byte) Message {
	t.Helper()
	f, kind, err := readFields(reply)
	if err != nil {
		t.Fatalf("reply %q: %v", reply, err)
	}
	if cb.Cipher != nil {
		f, kind = openReply(t, cb, reply, f.get("Encrypt"))
	}
	created, err := f.number("CreateTime")
	if err != nil {
		t.Fatal(err)
	}
	return Message{
		ToUserName: f.get("ToUserName"), FromUserName: f.get("FromUserName"), MsgType: f.get("MsgType"), Content: f.get("Content"),
		CreateTime: created, format: kind,
	}
}

func openReply(t *testing.T, cb *Callback, reply []byte, sealed string) (fields, format) {
	t.Helper()
	signature, timestamp, nonce := envelopeFields(t, reply)
	if timestamp != fmt.Sprint(testTime) || !VerifySignature(signature, cb.Token, timestamp, nonce, sealed) {
		t.Fatalf("reply %q is not signed", reply)
	}
	plain, err := cb.Cipher.Decrypt(sealed)
	if err != nil {
		t.Fatal(err)
	}
	f, kind, err := readFields(plain)
	if err != nil {
		t.Fatalf("reply %q: %v", plain, err)
	}
	return f, kind
}

func envelopeFields(t *testing.T, reply []byte) (signature, timestamp, nonce string) {
	t.Helper()
	if reply[0] == '{' {
		var e struct {
			MsgSignature string
			TimeStamp    json.Number
			Nonce        string
		}
		if err := json.Unmarshal(reply, &e); err != nil {
			t.Fatal(err)
		}
		return e.MsgSignature, e.TimeStamp.String(), e.Nonce
	}
	between := func(name string) string {
		_, rest, _ := strings.Cut(string(reply), "<"+name+">")
		value, _, _ := strings.Cut(rest, "</"+name+">")
		return strings.TrimSuffix(strings.TrimPrefix(value, "<![CDATA["), "]]>")
	}
	return between("MsgSignature"), between("TimeStamp"), between("Nonce")
}
