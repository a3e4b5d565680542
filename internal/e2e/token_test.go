package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"scanlogin/internal/wechatsim"
)

// tokenServer is a team's own: it alone asks WeChat, by the endpoint of old.
func (w *world) tokenServer() (address string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	q := url.Values{"grant_type": {"client_credential"}, "appid": {appID}, "secret": {appSecret}}
	source := w.settings["WECHAT_API_URL"] + "/cgi-bin/token?" + q.Encode()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodGet || r.URL.Query().Get("key") != "key-of-the-token-server" {
			http.Error(rw, "who is this?", http.StatusForbidden)
			return
		}
		resp, err := http.Get(source)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(rw, resp.Body)
	}))
	w.t.Cleanup(server.Close)
	w.keep("key-of-the-token-server")
	return server.URL + "/token?key=key-of-the-token-server", asked
}

func TestOwnTokenServerIsAskedInsteadOfWeChat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	address, asked := w.tokenServer()
	w.settings["WECHAT_TOKEN_URL"] = address
	w.a.start()
	w.b.start()
	w.a.awaitReady()
	w.b.awaitReady()
	for _, i := range []*instance{w.a, w.b, w.a} {
		newBrowser(t, w).events(i).code()
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the token server was asked %d times", n)
	}
	// Refused with 40001: one new token, one more try.
	before := w.sim.Stats()
	w.sim.RevokeTokens()
	newBrowser(t, w).events(w.b).code()
	after := w.sim.Stats()
	calls := after.Calls[wechatsim.EndpointQRCode] - before.Calls[wechatsim.EndpointQRCode]
	failed := after.CallErrors[wechatsim.EndpointQRCode] - before.CallErrors[wechatsim.EndpointQRCode]
	if calls != 2 || failed != 1 || asked.Load() != 2 {
		t.Errorf("after a revocation: %d calls, %d of them refused, %d tokens fetched in all", calls, failed, asked.Load())
	}
	newBrowser(t, w).events(w.a).code()
	if asked.Load() != 2 {
		t.Error("the other instance didn't take the new token")
	}
	if n := after.Calls[wechatsim.EndpointStableToken]; n != 0 {
		t.Errorf("WeChat's own endpoint was asked %d times", n)
	}
}
