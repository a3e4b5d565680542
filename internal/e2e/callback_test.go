package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/wechat"
)

// signed is a callback's query as WeChat signs it at that time.
func signed(at time.Time) url.Values {
	timestamp, nonce := strconv.FormatInt(at.Unix(), 10), "1372623149"
	return url.Values{"timestamp": {timestamp}, "nonce": {nonce}, "signature": {wechat.Sign(token, timestamp, nonce)}}
}

func (w *world) pushXML(openid, event, key, ticket string) string {
	return fmt.Sprintf("<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[%s]]></Event>"+
		"<EventKey><![CDATA[%s]]></EventKey><Ticket><![CDATA[%s]]></Ticket></xml>",
		w.sim.OriginalID(), openid, time.Now().Unix(), event, key, ticket)
}

// push posts what WeChat would post, to an instance of the test's choice.
func (w *world) push(b *browser, i *instance, body string) answer {
	return w.pushWith(b, i, signed(time.Now()), body)
}

func (w *world) pushWith(b *browser, i *instance, query url.Values, body string) answer {
	b.t.Helper()
	w.keep(query.Get("signature"), query.Get("msg_signature"))
	return b.post(i, "/wechat/callback?"+query.Encode(), content{"text/xml", body}, "Sec-Fetch-Site", "")
}

func verifyURL(s story) {
	b := newBrowser(s, s.world)
	q := signed(time.Now())
	q.Set("echostr", "5927782489442352469")
	if a := b.get(s.a, "/wechat/callback?"+q.Encode()).want(s, http.StatusOK); a.body != "5927782489442352469" {
		s.Errorf("echo %q", a.body)
	}
	q.Set("signature", strings.Repeat("0", 40))
	b.get(s.a, "/wechat/callback?"+q.Encode()).want(s, http.StatusForbidden)
}

func badCallbacks(s story) {
	b := newBrowser(s, s.world)
	stream, code := s.shown(b, s.a)
	good := s.pushXML(s.ming.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	forged := signed(time.Now())
	forged.Set("signature", strings.Repeat("0", 40))
	sealed := signed(time.Now())
	sealed.Set("encrypt_type", "aes")
	for name, c := range map[string]struct {
		query url.Values
		body  string
		want  int
	}{
		"bad signature":    {forged, good, http.StatusForbidden},
		"no signature":     {nil, good, http.StatusForbidden},
		"too old":          {signed(time.Now().Add(-11 * time.Minute)), good, http.StatusForbidden},
		"from the future":  {signed(time.Now().Add(11 * time.Minute)), good, http.StatusForbidden},
		"wrong mode":       {sealed, good, http.StatusForbidden},
		"more than 64 KiB": {signed(time.Now()), "<xml>" + strings.Repeat(" ", 64<<10) + "</xml>", http.StatusBadRequest},
		"no XML":           {signed(time.Now()), "hello", http.StatusBadRequest},
		"half of it":       {signed(time.Now()), good[:len(good)/2], http.StatusBadRequest},
		"nothing":          {signed(time.Now()), "", http.StatusBadRequest},
		"entities":         {signed(time.Now()), `<!DOCTYPE xml [<!ENTITY a "b">]><xml>&a;</xml>`, http.StatusBadRequest},
	} {
		if a := s.pushWith(b, s.b, c.query, c.body); a.status != c.want {
			s.Errorf("%s: status %d, want %d", name, a.status, c.want)
		}
	}
	b.post(s.a, "/login/complete", jsonBody()).want(s, http.StatusConflict)
	// The same push as WeChat sends it does count.
	s.push(b, s.b, good).want(s, http.StatusOK)
	stream.expect("success")
}

func otherPushes(s story) {
	who := s.person(false)
	ctx := s.Context()
	if d, err := s.sim.Follow(ctx, who.OpenID); err != nil || d.Failed || d.Reply == "" {
		s.Errorf("follow: %+v, %v", d, err)
	}
	if d, err := s.sim.Say(ctx, who.OpenID, "你好"); err != nil || d.Failed {
		s.Errorf("text: %+v, %v", d, err)
	}
	if d, err := s.sim.Unsubscribe(ctx, who.OpenID); err != nil || d.Failed || d.Tries != 1 {
		s.Errorf("unsubscribe: %+v, %v", d, err)
	}
	b := newBrowser(s, s.world)
	for _, event := range []string{"VIEW", "CLICK", "LOCATION", "nobody_knows_this_one"} {
		if a := s.push(b, s.a, s.pushXML(who.OpenID, event, "1", "")).want(s, http.StatusOK); a.body != "success" {
			s.Errorf("%s: %s", event, a.body)
		}
	}
}

func TestSafeMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"WECHAT_ENCODING_AES_KEY": aesKey}})
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := stream.code()
	who := w.person(false)

	plain := w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	w.push(b, w.a, plain).want(t, http.StatusForbidden)
	downgraded := signed(time.Now())
	downgraded.Set("encrypt_type", "raw")
	w.pushWith(b, w.a, downgraded, plain).want(t, http.StatusForbidden)

	// The reply comes back encrypted: the simulated phone could not show it otherwise.
	if d := w.scan(t, who, code.Ticket); d.Reply == "" || d.Tries != 1 {
		t.Errorf("%+v", d)
	}
	stream.expect("bind-required")
	w.account(t, "alice")
	b.post(w.b, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusOK)
	again := newBrowser(t, w)
	stream = again.events(w.b)
	w.scan(t, who, stream.code().Ticket)
	stream.expect("success")
}

// WeChat repeats a push whose answer it didn't get, and sometimes delivers one twice.
func TestRepeatedPushesChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.a)
	f := w.sim.Faults()
	f.Duplicates, f.LoseReplies = 1, 1
	w.sim.SetFaults(f)
	d := w.scan(t, who, stream.code().Ticket)
	if d.Again == nil || d.Again.Failed || d.Again.Reply != d.Reply || d.Tries+d.Again.Tries != 3 {
		t.Errorf("%+v, again %+v", d, d.Again)
	}
	stream.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
}
