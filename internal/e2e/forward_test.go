package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scanlogin/internal/wechat"
	"scanlogin/internal/wechatsim"
)

// receiver is another system that wants the account's messages. It believes what WeChat
// would have sent, and no more.
type receiver struct {
	w        *world
	callback *wechat.Callback
	url      string
	hangs    atomic.Bool
	silent   atomic.Bool // says success

	mu     sync.Mutex
	bodies []string
}

func newReceiver(w *world, key string) *receiver {
	r := &receiver{w: w, callback: &wechat.Callback{Token: token}}
	if key != "" {
		c, err := wechat.NewCipher(key, appID)
		if err != nil {
			w.t.Fatal(err)
		}
		r.callback.Cipher = c
	}
	server := httptest.NewServer(http.HandlerFunc(r.receive))
	w.t.Cleanup(server.Close)
	r.url = server.URL + "/wechat?of=bot"
	return r
}

func (r *receiver) receive(rw http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	m, err := r.callback.Read(q, body)
	if err != nil || q.Get("of") != "bot" {
		r.w.t.Errorf("forwarded: %v, of %q", err, q.Get("of"))
		return
	}
	r.mu.Lock()
	r.bodies = append(r.bodies, string(body))
	r.mu.Unlock()
	if r.hangs.Load() {
		<-req.Context().Done()
		return
	}
	text := "you said " + m.Content + m.Event
	if r.silent.Load() {
		text = ""
	}
	reply, err := r.callback.Reply(m, text)
	if err != nil {
		r.w.t.Error(err)
	}
	_, _ = rw.Write(reply)
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.bodies...)
}

// forwardingWorld is one where A forwards to the receiver.
func forwardingWorld(t *testing.T, key string) (*world, *receiver) {
	t.Helper()
	w := newWorld(t, options{stopped: true, pushTo: []int{0}, settings: settings{"WECHAT_ENCODING_AES_KEY": key}})
	r := newReceiver(w, key)
	w.a.settings = settings{"WECHAT_FORWARD_URL": r.url}
	w.b.settings = settings{"WECHAT_FORWARD_URL": "http://" + freeAddr(t) + "/"} // where nobody is
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	return w, r
}

func (w *world) say(t testing.TB, who wechatsim.User, text string) wechatsim.Delivery {
	t.Helper()
	d, err := w.sim.Say(t.Context(), who.OpenID, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMessagesAreForwardedAndTheirRepliesRelayed(t *testing.T) {
	t.Parallel()
	for mode, key := range map[string]string{"plain": "", "safe": aesKey} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w, r := forwardingWorld(t, key)
			who := w.person(false)
			if d, err := w.sim.Follow(t.Context(), who.OpenID); err != nil || d.Failed || d.Reply != "you said subscribe" {
				t.Errorf("a plain follow: %+v, %v", d, err)
			}
			if d := w.say(t, who, "你好"); d.Failed || d.Tries != 1 || d.Reply != "you said 你好" {
				t.Errorf("a text: %+v", d)
			}
			r.silent.Store(true)
			if d := w.say(t, who, "anybody?"); d.Failed || d.Reply != "" {
				t.Errorf("a text that nobody answers: %+v", d)
			}
			if d, err := w.sim.Follow(t.Context(), w.person(false).OpenID); err != nil || d.Failed || !strings.Contains(d.Reply, "Thanks for following") {
				t.Errorf("a follow that nobody answers: %+v, %v", d, err)
			}
			// A login is nobody else's business.
			forwarded := len(r.got())
			stream := newBrowser(t, w).events(w.b)
			w.scan(t, who, stream.code().Ticket)
			stream.expect("bind-required")
			if n := len(r.got()); n != forwarded || n != 4 {
				t.Errorf("%d pushes were forwarded before a scan and %d after it, want 4", forwarded, n)
			}
		})
	}
}

// The receiver's own signature check stands for the rest: what it reads is what came.
func TestForwardedBodyIsTheOneThatCame(t *testing.T) {
	t.Parallel()
	w, r := forwardingWorld(t, "")
	b := newBrowser(t, w)
	body := fmt.Sprintf("\n<xml>  <ToUserName>%s</ToUserName><FromUserName>%s</FromUserName>\n\t<Unknown>&lt;b&gt;</Unknown>"+
		"<CreateTime>%d</CreateTime><MsgType>text</MsgType><Content>raw</Content><MsgId>1</MsgId></xml>\n",
		w.sim.OriginalID(), w.person(true).OpenID, time.Now().Unix())
	if a := w.push(b, w.a, body).want(t, http.StatusOK); !strings.Contains(a.body, "you said raw") {
		t.Errorf("%s", a.body)
	}
	if got := r.got(); len(got) != 1 || got[0] != body {
		t.Errorf("forwarded %q, want %q", got, body)
	}
	// Nobody is there at B's receiver: WeChat doesn't hear of that.
	if a := w.push(b, w.b, body).want(t, http.StatusOK); a.body != "success" {
		t.Errorf("a dead receiver: %s", a.body)
	}
	follow := w.pushXML(w.person(false).OpenID, "subscribe", "", "")
	if words := w.replyTo(b, w.b, follow); !strings.Contains(words, "Thanks for following") {
		t.Errorf("a follow with a dead receiver: %q", words)
	}
}

func TestHangingReceiverDelaysNoLogin(t *testing.T) {
	t.Parallel()
	w, r := forwardingWorld(t, "")
	who := w.boundPerson(t, "alice")
	r.hangs.Store(true)
	const chatting = 40 // more than are forwarded at once
	var talk sync.WaitGroup
	for n := range chatting {
		talk.Go(func() {
			start := time.Now()
			d, err := w.sim.Say(t.Context(), who.OpenID, strconv.Itoa(n))
			if err != nil || d.Failed || d.Tries != 1 || d.Reply != "" {
				t.Errorf("a text to a receiver that hangs: %+v, %v, after %v", d, err, time.Since(start))
			}
		})
	}
	eventually(t, "the receiver has its hands full", func() bool { return len(r.got()) >= 32 })
	start := time.Now()
	b := newBrowser(t, w)
	stream := b.events(w.a)
	if d := w.scan(t, who, stream.code().Ticket); d.Tries != 1 {
		t.Errorf("%+v", d)
	}
	stream.expect("success")
	b.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusOK)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("a login takes %v", took)
	}
	talk.Wait()
	if n := len(r.got()); n != 32 {
		t.Errorf("%d pushes were forwarded at once, want 32", n)
	}
}

func TestOwnWordsForThePhone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true, pushTo: []int{0}, settings: settings{"PUBLIC_URL": "http://login.example.com"}})
	file := writeFile(t, `{"must_bind": "{site} ({place}) saw you at {time}", "welcome": ""}`)
	w.a.settings = settings{"WECHAT_REPLY_TEXTS": file, "TRUSTED_PROXIES": "127.0.0.1", "PLACE_HEADER": "X-City"}
	w.a.start()
	w.a.awaitReady()
	b := newBrowser(t, w)
	code := b.events(w.a, "X-City", "上海").code()
	d := w.scan(t, w.person(true), code.Ticket)
	at, ok := strings.CutPrefix(d.Reply, "login.example.com (上海) saw you at ")
	if _, err := time.Parse("15:04", at); !ok || err != nil {
		t.Errorf("the phone shows %q", d.Reply)
	}
	if d = w.followed(t, w.sim); d.Failed || d.Reply != "" {
		t.Errorf("a follow that asks for no words: %+v", d)
	}
	// What the file leaves out stays as it was.
	if words := w.replyTo(b, w.a, w.pushXML(w.person(true).OpenID, "SCAN", "1", "no such ticket")); !strings.Contains(words, "expired") {
		t.Errorf("the phone is told %q", words)
	}

	for content, why := range map[string]string{
		`{"logged_in": `:                                   "not a JSON object",
		`{"loged_in": "hello"}`:                            "loged_in",
		`{"welcome": "hello {name}"}`:                      "{site}",
		`{"welcome": "` + strings.Repeat("x", 3000) + `"}`: "bytes",
	} {
		env := settings{"ADDR": w.b.addr, "OPS_ADDR": "", "WECHAT_REPLY_TEXTS": writeFile(t, content)}
		maps.Copy(env, w.settings)
		if r := run(t, env, "", "serve"); r.code != 1 || !strings.Contains(r.stderr, "WECHAT_REPLY_TEXTS") || !strings.Contains(r.stderr, why) {
			t.Errorf("%.40s: exit %d, %s", content, r.code, r.stderr)
		}
	}
}
