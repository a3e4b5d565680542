package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/wechat"
	"scanlogin/internal/wechatsim"
)

const (
	oldToken  = "callbacktokenofyesterday"
	oldAESKey = "zyxwvutsrqponmlkjihgfedcba9876543210ZYXWVUT"
)

// platform is WeChat for the same account, with these secrets in its console.
func (w *world) platform(token, key string) *wechatsim.Server {
	w.t.Helper()
	sim, err := wechatsim.New(wechatsim.Config{
		AppID: appID, AppSecret: appSecret, Token: token, EncodingAESKey: key,
		CallbackURLs: []string{w.a.url("/wechat/callback"), w.b.url("/wechat/callback")}, RetryGap: time.Millisecond,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(sim.Close)
	w.keep(token, key)
	return sim
}

// followed is what a phone shows after somebody new has followed the account.
func (w *world) followed(t testing.TB, sim *wechatsim.Server) wechatsim.Delivery {
	t.Helper()
	who := sim.AddUser("follower-"+strconv.FormatInt(w.people.Add(1), 10), false)
	w.keep(who.OpenID)
	d, err := sim.Follow(t.Context(), who.OpenID)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The simulated phone shows a reply only where it is encrypted and signed with the
// secrets that its platform knows.
func TestSecretsOfTheCallbackChangeWithoutAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{
		"WECHAT_TOKEN_PREVIOUS": oldToken, "WECHAT_ENCODING_AES_KEY": aesKey, "WECHAT_ENCODING_AES_KEY_PREVIOUS": oldAESKey,
	}})
	platforms := map[string]*wechatsim.Server{
		"both old":  w.platform(oldToken, oldAESKey),
		"old token": w.platform(oldToken, aesKey),
		"old key":   w.platform(token, oldAESKey),
		"both new":  w.platform(token, aesKey),
	}
	for name, sim := range platforms {
		if err := sim.VerifyCallbacks(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for range 2 { // at either instance
			if d := w.followed(t, sim); d.Failed || d.Tries != 1 || !strings.Contains(d.Reply, "following") {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
	delete(w.settings, "WECHAT_TOKEN_PREVIOUS")
	delete(w.settings, "WECHAT_ENCODING_AES_KEY_PREVIOUS")
	for _, i := range []*instance{w.a, w.b} {
		i.stop()
		i.restart(nil)
	}
	for name, sim := range platforms {
		// By the token alone WeChat is known; a message that can't be read is malformed then.
		refused := map[string]int{"both old": http.StatusForbidden, "old token": http.StatusForbidden, "old key": http.StatusBadRequest}
		d := w.followed(t, sim)
		if name == "both new" {
			if d.Failed {
				t.Errorf("%s: %+v", name, d)
			}
		} else if !d.Failed || slices.ContainsFunc(d.Statuses, func(s int) bool { return s != refused[name] }) {
			t.Errorf("%s after the change: %+v", name, d)
		}
	}
}

// pushSealed posts an encrypted message, with other fields beside it.
func (w *world) pushSealed(b *browser, i *instance, beside, message string) answer {
	b.t.Helper()
	c, err := wechat.NewCipher(aesKey, appID)
	if err != nil {
		b.t.Fatal(err)
	}
	sealed, err := c.Encrypt([]byte(message))
	if err != nil {
		b.t.Fatal(err)
	}
	q := signed(time.Now())
	q.Set("encrypt_type", "aes")
	q.Set("msg_signature", wechat.Sign(token, q.Get("timestamp"), q.Get("nonce"), sealed))
	return w.pushWith(b, i, q, "<xml>"+beside+"<Encrypt>"+sealed+"</Encrypt></xml>")
}

func TestOnlyTheEncryptedPartCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{mode: wechatsim.Compatible, settings: settings{"WECHAT_ENCODING_AES_KEY": aesKey}})
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := stream.code()
	victim, thief := w.person(true), w.person(true)

	scan := w.pushXML(thief.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	fields := strings.TrimSuffix(strings.TrimPrefix(scan, "<xml>"), "</xml>")
	harmless := w.pushXML(thief.OpenID, "VIEW", "", "")
	if a := w.pushSealed(b, w.b, fields, harmless).want(t, http.StatusOK); a.body != "success" {
		t.Errorf("a harmless event with a scan beside it: %s", a.body)
	}
	w.push(b, w.a, scan).want(t, http.StatusForbidden)
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusConflict)

	if d := w.scan(t, victim, code.Ticket); d.Tries != 1 || d.Reply == "" {
		t.Errorf("%+v", d)
	}
	stream.expect("bind-required")
}

func TestPushesForAnotherAccountAreRefusedOnceOursIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{0}, settings: settings{"WECHAT_ENCODING_AES_KEY": aesKey}})
	b := newBrowser(t, w)
	stream := b.events(w.b)
	code := stream.code()
	who := w.person(true)
	if d, err := w.sim.Say(t.Context(), who.OpenID, "你好"); err != nil || d.Failed { // A learns our name
		t.Fatalf("%+v, %v", d, err)
	}
	foreign := strings.ReplaceAll(w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket), w.sim.OriginalID(), "gh_somebodyelse")
	for _, i := range []*instance{w.b, w.b, w.a} { // B has to find out by itself
		w.pushSealed(b, i, "", foreign).want(t, http.StatusForbidden)
	}
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusConflict)
	w.scan(t, who, code.Ticket)
	stream.expect("bind-required")
}

func TestRepeatedScanHasOneEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_REST": "0s"}, retryGap: time.Second})
	who := w.boundPerson(t, "alice")
	sessions := w.count("SELECT count(*) FROM scanlogin.web_session")
	b := newBrowser(t, w)
	stream, code := b.codeSoon(w.a)
	push := w.pushXML(who.OpenID, "SCAN", strconv.Itoa(code.SceneID), code.Ticket)
	words := w.replyTo(b, w.a, push)
	same := func(when string) {
		t.Helper()
		for _, i := range []*instance{w.b, w.a} {
			if got := w.replyTo(b, i, push); got != words {
				t.Errorf("%s, instance %s: the phone is told %q, then %q", when, i.name, words, got)
			}
		}
	}
	same("before the end of the login")
	stream.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	same("after it")
	other := newBrowser(t, w)
	other.codeSoon(w.b) // the scene is somebody else's now
	same("when the scene has gone on")
	other.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusConflict)
	if n := w.count("SELECT count(*) FROM scanlogin.web_session") - sessions; n != 1 {
		t.Errorf("%d sessions came of one scan", n)
	}
}

// replyTo is the text that the phone shows for a plain push.
func (w *world) replyTo(b *browser, i *instance, push string) string {
	b.t.Helper()
	a := w.push(b, i, push).want(b.t, http.StatusOK)
	_, rest, _ := strings.Cut(a.body, "<Content><![CDATA[")
	words, _, ok := strings.Cut(rest, "]]>")
	if !ok {
		b.t.Fatalf("no reply: %.300s", a.body)
	}
	return words
}

func TestWeChatsRetryAfterOurFailureSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{retryGap: 3 * time.Second})
	who := w.boundPerson(t, "alice")
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := stream.code()
	w.sql("ALTER TABLE scanlogin.wechat_push RENAME TO gone_for_a_moment")
	answered := make(chan wechatsim.Delivery, 1)
	go func() {
		d, _ := w.sim.Scan(t.Context(), who.OpenID, code.Ticket) // a failure shows in what is answered
		answered <- d
	}()
	eventually(t, "the push fails", func() bool {
		return strings.Contains(w.a.log.String()+w.b.log.String(), "request failed")
	})
	w.sql("ALTER TABLE scanlogin.gone_for_a_moment RENAME TO wechat_push")
	d := <-answered
	if d.Failed || len(d.Statuses) < 2 || d.Statuses[0] != http.StatusServiceUnavailable || d.Statuses[len(d.Statuses)-1] != http.StatusOK {
		t.Errorf("%+v", d)
	}
	stream.expect("success")
}

func TestFollowersAreToldWhatToDoNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	b := newBrowser(t, w)
	stream := b.events(w.a)
	code := stream.code()
	// WeChat leaves the scene out at times.
	who := w.person(false)
	w.sim.SetFaults(wechatsim.Faults{LostScenes: 1})
	if d := w.scan(t, who, code.Ticket); d.EventKey != "" || !strings.Contains(d.Reply, "scan it once more") || !strings.Contains(d.Reply, "再扫一次") {
		t.Errorf("%+v", d)
	}
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusConflict)
	w.scan(t, who, code.Ticket)
	stream.expect("bind-required")

	// Follow is tapped when the code has expired.
	late := newBrowser(t, w)
	code = late.events(w.a).code()
	w.sql(fmt.Sprintf("UPDATE scanlogin.scene SET expires_at = now() WHERE id = %d", code.SceneID))
	push := w.pushXML(w.person(false).OpenID, "subscribe", "qrscene_"+strconv.Itoa(code.SceneID), code.Ticket)
	if words := w.replyTo(late, w.b, push); !strings.Contains(words, "expired") || !strings.Contains(words, "过期") {
		t.Errorf("the phone is told %q", words)
	}
	late.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusGone)
}

func TestUnsubscribeEndsSessionsEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	w.b.settings = settings{"UNSUBSCRIBE": "keep"} // and unbind, the default, at A
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	for i, then := range map[*instance]string{w.a: "bind-required", w.b: "success"} {
		name := "alice-" + i.name
		who := w.boundPerson(t, name)
		b, byPassword := newBrowser(t, w), newBrowser(t, w)
		stream := b.events(w.a)
		w.scan(t, who, stream.code().Ticket)
		stream.expect("success")
		b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
		byPassword.post(w.a, "/login", form("username", name, "password", password)).want(t, http.StatusSeeOther)

		if a := w.push(b, i, w.pushXML(who.OpenID, "unsubscribe", "", "")).want(t, http.StatusOK); a.body != "success" {
			t.Errorf("instance %s: %s", i.name, a.body)
		}
		for _, at := range []*instance{w.a, w.b} {
			b.get(at, "/auth/verify").want(t, http.StatusUnauthorized)
			byPassword.get(at, "/auth/verify").want(t, http.StatusUnauthorized)
		}
		again := newBrowser(t, w).events(w.b)
		w.scan(t, who, again.code().Ticket)
		again.expect(then)
	}
}
