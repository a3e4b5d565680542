package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/wechat"
)

// recorded is a store that takes every scan.
type recorded struct{ login.Store }

func (recorded) Scan(context.Context, login.Scan, time.Duration) (login.Outcome, login.ID, error) {
	return login.LoggedIn, login.ID{1}, nil
}

// calls is a callback that is made again and again, with as little around it as there can be.
type calls struct {
	h    http.Handler
	r    *http.Request
	body *bytes.Reader
	w    discarded
}

// discarded counts what is written.
type discarded struct {
	header http.Header
	status int
	n      int
}

func (d *discarded) Header() http.Header    { return d.header }
func (d *discarded) WriteHeader(status int) { d.status = status }
func (d *discarded) Write(b []byte) (int, error) {
	d.n += len(b)
	return len(b), nil
}

const aScan = `<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName>
<FromUserName><![CDATA[oia2TjuEGTNoeX76QEjQNrcURxG8]]></FromUserName>
<CreateTime>1395658920</CreateTime>
<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[SCAN]]></Event>
<EventKey><![CDATA[100723]]></EventKey>
<Ticket><![CDATA[gQEX8DwAAAAAAAAAAS5odHRwOi8vd2VpeGluLnFxLmNvbS9xLzAyQnZkSmNOX2FkX2gxd3BZej]]></Ticket>
</xml>`

func newCalls(tb testing.TB, c *wechat.Cipher) *calls {
	tb.Helper()
	s, h, _ := newServer(tb, "https://login.example.com")
	s.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // its lines are part of the cost
	s.Logins.Store, s.Logins.Logger = recorded{}, s.Logger
	s.Logins.Notify = func(context.Context, login.ID) error { return nil }
	s.Callback = &wechat.Callback{Token: token, Cipher: c}
	s.Replies = builtinReplies()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	q := url.Values{"timestamp": {now}, "nonce": {"1320562132"}, "openid": {"oia2TjuEGTNoeX76QEjQNrcURxG8"}, "signature": {wechat.Sign(token, now, "1320562132")}}
	body := aScan
	if c != nil {
		sealed, err := c.Encrypt([]byte(body))
		if err != nil {
			tb.Fatal(err)
		}
		body = "<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName>\n<Encrypt><![CDATA[" + sealed + "]]></Encrypt>\n</xml>"
		q.Set("encrypt_type", "aes")
		q.Set("msg_signature", wechat.Sign(token, now, "1320562132", sealed))
	}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/wechat/callback?"+q.Encode(), http.NoBody)
	r.Header.Set("Content-Type", "text/xml")
	r.Header.Set("User-Agent", "Mozilla/4.0")
	r.ContentLength = int64(len(body))
	return &calls{h: h, r: r, body: bytes.NewReader([]byte(body)), w: discarded{header: http.Header{}}}
}

func (c *calls) call() {
	_, _ = c.body.Seek(0, io.SeekStart)
	c.r.Body = io.NopCloser(c.body)
	c.w.status, c.w.n = 0, 0
	c.h.ServeHTTP(&c.w, c.r)
}

func BenchmarkCallback(b *testing.B) {
	for name, c := range callbackModes(b) {
		b.Run(name, func(b *testing.B) {
			calls := newCalls(b, c)
			b.ReportAllocs()
			for b.Loop() {
				calls.call()
			}
			if calls.w.status != http.StatusOK {
				b.Fatalf("status %d", calls.w.status)
			}
		})
	}
}

func callbackModes(tb testing.TB) map[string]*wechat.Cipher {
	c, err := wechat.NewCipher(strings.Repeat("k", 42)+"E", "wx0123456789abcdef")
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]*wechat.Cipher{"plain": nil, "AES": c}
}

// TestAllocationsOfACallback bounds what a callback costs from the request to the answer, in
// what doesn't depend on the machine: the wechat package's own share, the query, one context,
// a line in the log for the request and one for the scan. It is 43 and 68; the bounds
// leave room for the runtime and the libraries to change, and for the race detector's eight.
func TestAllocationsOfACallback(t *testing.T) {
	bounds := map[string]float64{"plain": 53, "AES": 78}
	for name, c := range callbackModes(t) {
		calls := newCalls(t, c)
		if got := testing.AllocsPerRun(100, calls.call); got > bounds[name] || calls.w.status != http.StatusOK {
			t.Errorf("%s: %.0f allocations, more than %.0f (status %d)", name, got, bounds[name], calls.w.status)
		}
		if calls.w.n < 100 {
			t.Errorf("%s: %d bytes are no reply", name, calls.w.n)
		}
	}
}

// The version before this one named pushes so, and answers the repeats of those that this one
// was the first to get.
func TestDigestStaysTheSame(t *testing.T) {
	for _, m := range []wechat.Message{
		{},
		{FromUserName: "oia2TjuEGTNoeX76QEjQNrcURxG8", CreateTime: 1395658920, Event: "SCAN", EventKey: "100723", Ticket: "gQEX8Dw=="},
		{FromUserName: "a\"b\\\x00\u2028", CreateTime: -1, Event: "scan", EventKey: "小红 \U0001f600", MsgID: 1 << 62},
	} {
		want := sha256.Sum256(fmt.Appendf(nil, "%q %d %q %q %q %d",
			m.FromUserName, m.CreateTime, strings.ToLower(m.Event), m.EventKey, m.Ticket, m.MsgID))
		if got := digest(m); !bytes.Equal(got, want[:]) {
			t.Errorf("%+v: %x", m, got)
		}
	}
}
