package e2e

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/wechatsim"
)

// unavailable expects the event that tells of trouble, and the end of the stream. It returns
// after how many seconds the page is to try again.
func (s *eventStream) unavailable(reason string) (retryIn int) {
	s.t.Helper()
	var retry time.Duration
	e := s.take("unavailable", func(e event) bool {
		retry = max(retry, e.retry)
		return e.name != ""
	})
	var v struct {
		Reason  string `json:"reason"`
		RetryIn int    `json:"retry_in"`
	}
	if err := json.Unmarshal([]byte(e.data), &v); err != nil || e.name != "unavailable" || v.Reason != reason || v.RetryIn < 1 {
		s.t.Fatalf("event %s %.200s, want unavailable for %s", e.name, e.data, reason)
	}
	if retry != time.Duration(v.RetryIn)*time.Second {
		s.t.Errorf("retry: %v, but retry_in %d", retry, v.RetryIn)
	}
	if e.id != "" {
		s.t.Errorf("unavailable has the id %q, so the browser would be turned away next time", e.id)
	}
	s.end()
	return v.RetryIn
}

// codeSoon opens streams until one brings a code, as a page does while the site is busy.
func (b *browser) codeSoon(i *instance) (stream *eventStream, code qrCode) {
	b.t.Helper()
	eventually(b.t, "a code", func() bool {
		stream = b.events(i)
		e := stream.next()
		if e.name != "qr" {
			stream.close()
			return false
		}
		code = stream.codeIn(e)
		return true
	})
	return stream, code
}

func TestExpiryIsToldOnTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_TTL": "3s"}})
	b := newBrowser(t, w)
	stream := b.events(w.a)
	first := stream.code()
	shown := time.Now()
	if first.ExpiresIn != 3 {
		t.Errorf("%d s left, want 3", first.ExpiresIn)
	}
	e := stream.expect("expired")
	if took := time.Since(shown); took < 2500*time.Millisecond || took > 5*time.Second {
		t.Errorf("expired after %v, want 3 s", took)
	}
	if e.data != "{}" || e.id == "" {
		t.Errorf("expired: %+v", e)
	}
	stream.end()
	forgotten := b.openEvents(w.a, "Last-Event-ID", e.id)
	if got := forgotten.response.StatusCode; got != http.StatusNoContent {
		t.Errorf("with Last-Event-ID: status %d", got)
	}
	gone := b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusGone)
	if gone.json(t, "error") != "expired" {
		t.Error(gone.body)
	}
	fresh := b.events(w.b).code()
	if fresh.Ticket == first.Ticket || fresh.ExpiresIn != 3 {
		t.Errorf("a new code has %d s, and its ticket is new: %t", fresh.ExpiresIn, fresh.Ticket != first.Ticket)
	}
}

// The scanned login has a time of its own, which the code's doesn't shorten.
func TestScannedLoginOutlivesItsCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_TTL": "2s", "BIND_TTL": "5s"}})
	w.account(t, "alice")
	b, late := newBrowser(t, w), newBrowser(t, w)
	stream, lateStream := b.events(w.a), late.events(w.b)
	for who, s := range map[wechatsim.User]*eventStream{w.person(true): stream, w.person(true): lateStream} {
		w.scan(t, who, s.code().Ticket)
		s.expect("bind-required")
	}
	other := newBrowser(t, w).events(w.a)
	other.code()
	other.expect("expired") // so the code's time is over for the scanned ones too
	b.post(w.b, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusOK)
	lateStream.expect("expired")
	late.post(w.a, "/user/bind", form("username", "alice", "password", password)).want(t, http.StatusGone)
}

func TestStaleCodesLogNobodyIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_REST": "0s", "SCENE_TTL": "2s"}})
	who := w.person(true)
	former := newBrowser(t, w)
	stream := former.events(w.a)
	old := stream.code()
	stream.expect("expired")
	push := w.pushXML(who.OpenID, "SCAN", strconv.Itoa(old.SceneID), old.Ticket)
	if a := w.push(former, w.b, push).want(t, http.StatusOK); !strings.Contains(a.body, "expired") {
		t.Errorf("an expired code: the phone is told %s", a.body)
	}
	former.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusGone)

	holder := newBrowser(t, w)
	stream, code := holder.codeSoon(w.b)
	if code.SceneID != old.SceneID || code.Ticket == old.Ticket {
		t.Fatalf("scene %d follows scene %d", code.SceneID, old.SceneID)
	}
	if a := w.push(former, w.a, push).want(t, http.StatusOK); !strings.Contains(a.body, "expired") {
		t.Errorf("the code of a former holder: the phone is told %s", a.body)
	}
	former.post(w.a, "/login/complete", jsonBody()).want(t, http.StatusGone)
	former.post(w.a, "/user/bind", form("username", "a", "password", "b")).want(t, http.StatusGone)
	holder.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusConflict)
	w.scan(t, who, code.Ticket)
	stream.expect("bind-required")
}

func TestPoolExhaustionAndRecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_REST": "0s", "SCENE_GRACE": "1s"}})
	holder, waiting := newBrowser(t, w), newBrowser(t, w)
	held := holder.events(w.a)
	held.code()
	stream := waiting.events(w.b)
	stream.unavailable("pool_exhausted")
	if c := stream.response.Cookies(); len(c) > 0 {
		t.Errorf("cookies without a login: %v", c)
	}
	held.close()
	_, code := waiting.codeSoon(w.b)
	if code.SceneID != 1 {
		t.Errorf("scene %d", code.SceneID)
	}
	// The one who left and comes back is not given somebody else's login.
	holder.events(w.a).unavailable("pool_exhausted")
}

func TestSceneIsHeldUntilItsLastTabCloses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_REST": "0s", "SCENE_GRACE": "1s"}})
	b, other := newBrowser(t, w), newBrowser(t, w)
	one := b.events(w.a)
	code := one.code()
	two := b.events(w.b)
	two.code()
	one.close()
	for range 4 { // a beat is a second here, so the grace is over by then
		two.comment()
	}
	other.events(w.a).unavailable("pool_exhausted")
	three := b.events(w.a)
	if three.code().Ticket != code.Ticket {
		t.Error("a login with an open tab has lost its scene")
	}
	two.close()
	three.close()
	other.codeSoon(w.b)
}

func TestWeChatOutageAndRecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1"}})
	b := newBrowser(t, w)
	w.sim.SetFaults(wechatsim.Faults{API: map[string]wechatsim.APIFault{wechatsim.AnyEndpoint: {Code: 50002, Calls: wechatsim.Always}}})
	b.events(w.a).unavailable("wechat_unavailable")
	b.events(w.b).unavailable("wechat_unavailable") // and not pool_exhausted: the one scene was given back
	w.sim.SetFaults(wechatsim.Faults{})
	stream, code := b.codeSoon(w.a)
	w.scan(t, w.person(true), code.Ticket)
	stream.expect("bind-required")
}

func TestRevokedAccessTokenIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	newBrowser(t, w).events(w.a).code()
	w.sim.RevokeTokens()
	newBrowser(t, w).events(w.a).code()
	w.sim.ExpireTokens()
	newBrowser(t, w).events(w.b).code()
	newBrowser(t, w).events(w.a).code()
}

func TestPoolGrowsAndShrinksWhileAnInstanceRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "1", "SCENE_REST": "0s", "SCENE_GRACE": "1s"}})
	first, second, third := newBrowser(t, w), newBrowser(t, w), newBrowser(t, w)
	held := first.events(w.b)
	held.code()
	second.events(w.b).unavailable("pool_exhausted")

	w.a.stop()
	w.a.restart(settings{"SCENE_POOL": "2"})
	grown, code := second.codeSoon(w.b)
	if code.SceneID != 2 {
		t.Errorf("scene %d, want 2", code.SceneID)
	}
	third.events(w.b).unavailable("pool_exhausted")

	w.a.stop()
	w.a.restart(settings{"SCENE_POOL": "1"})
	// Who holds a retired scene keeps it.
	w.scan(t, w.person(true), code.Ticket)
	grown.expect("bind-required")
	third.events(w.b).unavailable("pool_exhausted")
	held.close()
	if _, code := third.codeSoon(w.b); code.SceneID != 1 {
		t.Errorf("scene %d, want 1", code.SceneID)
	}
	first.events(w.b).unavailable("pool_exhausted")
}
