package wechat

import "testing"

// realScan is a SCAN as WeChat pushes it (developers.weixin.qq.com, 事件推送), with line
// breaks and names of the usual length.
const realScan = `<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName>
<FromUserName><![CDATA[oia2TjuEGTNoeX76QEjQNrcURxG8]]></FromUserName>
<CreateTime>1395658920</CreateTime>
<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[SCAN]]></Event>
<EventKey><![CDATA[100723]]></EventKey>
<Ticket><![CDATA[gQEX8DwAAAAAAAAAAS5odHRwOi8vd2VpeGluLnFxLmNvbS9xLzAyQnZkSmNOX2FkX2gxd3BZejFGY3oAAgR3Cr9mAwQAjScA]]></Ticket>
</xml>`

const replyText = "登录成功"

// scanPush is a callback of each mode with a push for it.
func scanPush(tb testing.TB, c *Cipher) (cb *Callback, body []byte) {
	cb = testCallback(c)
	if c == nil {
		return cb, []byte(realScan)
	}
	return cb, sealedXML(encrypted(tb, c, realScan))
}

func BenchmarkRead(b *testing.B) {
	for name, c := range map[string]*Cipher{"plain": nil, "AES": testCipher(b, testAppID)} {
		b.Run(name, func(b *testing.B) {
			cb, body := scanPush(b, c)
			q := signedQuery(cb, body)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cb.Read(q, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReply(b *testing.B) {
	for name, c := range map[string]*Cipher{"plain": nil, "AES": testCipher(b, testAppID)} {
		b.Run(name, func(b *testing.B) {
			cb, body := scanPush(b, c)
			m, err := cb.Read(signedQuery(cb, body), body)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cb.Reply(m, replyText); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAllocationsOfACallback bounds what a callback costs, in what doesn't depend on the
// machine. A field that is read is one allocation, of which a SCAN has seven, and so is
// each copy of a body: as text, decrypted, joined to be signed, encoded. The bounds leave
// two for the runtime and the libraries to change.
func TestAllocationsOfACallback(t *testing.T) {
	for _, tc := range []struct {
		name        string
		c           *Cipher
		read, reply float64
	}{
		{"plain", nil, 13, 4},
		{"AES", testCipher(t, testAppID), 24, 14},
	} {
		cb, body := scanPush(t, tc.c)
		q := signedQuery(cb, body)
		var m Message
		var err error
		if got := testing.AllocsPerRun(100, func() { m, err = cb.Read(q, body) }); err != nil || got > tc.read {
			t.Errorf("%s: Read makes %.0f allocations, more than %.0f (%v)", tc.name, got, tc.read, err)
		}
		if got := testing.AllocsPerRun(100, func() { _, err = cb.Reply(m, replyText) }); err != nil || got > tc.reply {
			t.Errorf("%s: Reply makes %.0f allocations, more than %.0f (%v)", tc.name, got, tc.reply, err)
		}
	}
}
