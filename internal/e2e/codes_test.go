package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/wechatsim"
)

// ready is how many codes lie ready.
func (w *world) ready() int {
	return w.count("SELECT count(*) FROM scanlogin.scene WHERE ready_until > now()")
}

// awaitReserve waits until so many codes lie ready.
func (w *world) awaitReserve(n int) {
	w.t.Helper()
	eventually(w.t, strconv.Itoa(n)+" codes are ready", func() bool { return w.ready() == n })
}

// created is how often WeChat was asked for a code.
func (w *world) created() int { return w.sim.Stats().Calls[wechatsim.EndpointQRCode] }

// refuse makes WeChat answer an endpoint with an error until weather tells otherwise.
func (w *world) refuse(endpoint string, code int) {
	w.sim.SetFaults(wechatsim.Faults{API: map[string]wechatsim.APIFault{endpoint: {Code: code, Calls: wechatsim.Always}}})
}

func (w *world) fairWeather() { w.sim.SetFaults(wechatsim.Faults{}) }

func TestReadyCodesNeedNoWeChat(t *testing.T) {
	t.Parallel()
	const reserve = 20
	w := newWorld(t, options{stopped: true, settings: settings{"CODES_READY_MIN": "20", "CODES_READY_MAX": "20"}})
	w.sim.SetFaults(wechatsim.Faults{APILatency: 300 * time.Millisecond})
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	w.awaitReserve(reserve)
	if calls := w.sim.Stats().Calls[wechatsim.EndpointStableToken]; calls != 1 {
		t.Errorf("two instances asked for a token %d times", calls)
	}
	unseen := map[string]bool{}
	for _, c := range w.sim.Codes() {
		unseen[c.Ticket] = true
	}
	if len(unseen) != reserve {
		t.Errorf("%d codes were made for a reserve of %d", len(unseen), reserve)
	}
	// From here on whoever waits for WeChat waits for ever.
	w.sim.SetFaults(wechatsim.Faults{APILatency: time.Minute})
	made := w.created()
	var stream *eventStream
	var code qrCode
	for n := range reserve {
		stream = newBrowser(t, w).events([]*instance{w.a, w.b}[n%2])
		code = stream.code()
		if !unseen[code.Ticket] {
			t.Error("a code was made for its browser, or shown to another before")
		}
		delete(unseen, code.Ticket)
		if code.ExpiresIn > 180 {
			t.Errorf("%d s left", code.ExpiresIn)
		}
	}
	if calls := w.created(); calls != made {
		t.Errorf("WeChat made %d more codes", calls-made)
	}
	w.scan(t, w.person(true), code.Ticket)
	stream.expect("bind-required")
}

// A code that was made ahead can be scanned for an hour, and its picture for as long.
func TestShownCodeIsNeverShownAgain(t *testing.T) {
	t.Parallel()
	const scenes = 4
	w := newWorld(t, options{settings: settings{
		"SCENE_POOL": "4", "SCENE_REST": "0s", "SCENE_GRACE": "1s", "CODES_READY_MIN": "9", "CODES_READY_MAX": "9",
	}})
	w.awaitReserve(scenes)
	seen := map[string]bool{}
	var old []qrCode
	for range 3 {
		var browsers []*browser
		var streams []*eventStream
		for n := range scenes {
			b := newBrowser(t, w)
			stream, code := b.codeSoon([]*instance{w.a, w.b}[n%2])
			if seen[code.Ticket] {
				t.Error("a code is shown twice")
			}
			seen[code.Ticket] = true
			browsers, streams, old = append(browsers, b), append(streams, stream), append(old, code)
		}
		thief := w.person(true)
		for _, code := range old[:len(old)-scenes] {
			if d := w.scan(t, thief, code.Ticket); !strings.Contains(d.Reply, "expired") {
				t.Errorf("an old picture: the phone shows %q", d.Reply)
			}
		}
		for n, b := range browsers {
			b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusConflict)
			streams[n].close()
		}
	}
}

func TestReserveOutlastsAnOutageOfWeChat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"CODES_READY_MIN": "3", "CODES_READY_MAX": "3"}})
	w.awaitReserve(3)
	w.refuse(wechatsim.AnyEndpoint, 50002)
	for _, i := range []*instance{w.a, w.b, w.a} {
		newBrowser(t, w).events(i).code()
	}
	waiting := newBrowser(t, w)
	waiting.events(w.a).unavailable("wechat_unavailable")
	waiting.events(w.b).unavailable("wechat_unavailable")
	w.fairWeather()
	stream, code := waiting.codeSoon(w.b)
	w.scan(t, w.person(true), code.Ticket)
	stream.expect("bind-required")
	w.awaitReserve(3)
}

func TestReserveIsTakenOverFromAnInstanceThatDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"CODES_READY_MIN": "3", "CODES_READY_MAX": "3"}})
	w.awaitReserve(3)
	w.a.kill()
	newBrowser(t, w).events(w.b).code()
	w.awaitReserve(3)
	w.a.restart(nil)
	w.b.kill()
	newBrowser(t, w).events(w.a).code()
	w.awaitReserve(3)
}

func TestSpentQuotaStopsCodesOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true, settings: settings{"CODES_READY_MIN": "2", "CODES_READY_MAX": "2"}})
	w.refuse(wechatsim.EndpointQRCode, 45009)
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	w.account(t, "alice")
	quotaIsSpent := func(until string) {
		t.Helper()
		b := newBrowser(t, w)
		eventually(t, "the instances know that the quota is spent", func() bool {
			return w.count("SELECT count(*) FROM scanlogin.wechat_account WHERE no_codes_until > now()") == 1
		})
		if w.count("SELECT count(*) FROM scanlogin.wechat_account WHERE "+until) != 1 {
			t.Error("no codes until another time than WeChat's")
		}
		b.events(w.a).unavailable("wechat_unavailable")
		calls := w.created()
		if in := b.events(w.a).unavailable("wechat_unavailable"); strings.Contains(until, "Shanghai") && in < 60 {
			t.Errorf("thousands of pages will ask every %d s until midnight", in)
		}
		for range 2 {
			b.events(w.a).unavailable("wechat_unavailable")
			b.events(w.b).unavailable("wechat_unavailable")
		}
		b.post(w.b, "/login", form("username", "alice", "password", password)).want(t, http.StatusSeeOther)
		w.fairWeather()
		if in := b.events(w.b).unavailable("wechat_unavailable"); in > 70 { // WeChat is not even asked
			t.Errorf("a page is told to wait %d s: nobody would", in)
		}
		if more := w.created() - calls; more != 0 {
			t.Errorf("WeChat was asked for %d more codes", more)
		}
		w.sql("UPDATE scanlogin.wechat_account SET no_codes_until = now()") // that time has come
		b.codeSoon(w.a)
	}
	quotaIsSpent("abs(extract(epoch FROM (no_codes_until AT TIME ZONE 'Asia/Shanghai')::time)) < 5" +
		" OR extract(epoch FROM (no_codes_until AT TIME ZONE 'Asia/Shanghai')::time) > 86395")

	// The same by the minute, of which there has to be enough left for this.
	w.awaitReserve(2)
	eventually(t, "a minute has not begun long ago", func() bool { return time.Now().Second() < 40 })
	w.refuse(wechatsim.EndpointQRCode, 45011)
	for range 2 {
		newBrowser(t, w).events(w.a).code()
	}
	quotaIsSpent("no_codes_until <= now() + interval '60 s'")
}
