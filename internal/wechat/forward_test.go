package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func forwardTarget(t *testing.T, address string) *url.URL {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestForwardIsReadByAnotherCallback: the receiver is set up as if WeChat
// called it, and its reply goes back as it is.
func TestForwardIsReadByAnotherCallback(t *testing.T) {
	c := testCipher(t, testAppID)
	sealed := encrypted(t, c, scanBody("o1"))
	for name, tc := range map[string]struct {
		cipher *Cipher
		body   string
	}{
		"plain":      {nil, scanBody("o1")},
		"plain JSON": {nil, `{"FromUserName":"o1","MsgType":"event"}`},
		"safe":       {c, string(sealedXML(sealed))},
		"compatible": {c, "<xml><FromUserName>o1</FromUserName><Encrypt>" + sealed + "</Encrypt></xml>"},
		"safe JSON":  {c, `{"ToUserName":"gh_1","Encrypt":"` + sealed + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := &Callback{Token: testCallbackToken, Cipher: tc.cipher, Window: time.Minute}
			var reply []byte
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				q := r.URL.Query()
				m, err := receiver.Read(q, body)
				if err != nil || string(body) != tc.body || m.FromUserName != "o1" || r.Method != "POST" {
					t.Errorf("%s %q: %+v, %v", r.Method, body, m, err)
				}
				if q.Get("tenant") != "7" || q.Get("openid") != "o1" || q.Has("echostr") || q.Get("nonce") == "415670741" {
					t.Errorf("query %v", q)
				}
				if (q.Get("encrypt_type") == "aes") != (tc.cipher != nil) || !VerifySignature(q.Get("signature"), testCallbackToken, q.Get("timestamp"), q.Get("nonce")) {
					t.Errorf("query %v", q)
				}
				if got := r.Header.Get("Content-Type"); got != "text/xml; charset=x" {
					t.Errorf("Content-Type %q", got)
				}
				if reply, err = receiver.Reply(m, "hello"); err != nil {
					t.Error(err)
				}
				w.Write(reply)
			}))
			defer server.Close()
			f := NewForwarder(forwardTarget(t, server.URL+"/wx?tenant=7"), testCallbackToken, server.Client())
			received := signedBy(testCallbackToken, nil)
			received.Set("openid", "o1")
			received.Set("echostr", "x")
			got, err := f.Forward(t.Context(), received, "text/xml; charset=x", []byte(tc.body))
			if err != nil || string(got) != string(reply) {
				t.Errorf("Forward = %q, %v; want %q", got, err, reply)
			}
			if f.target.RawQuery != "tenant=7" {
				t.Errorf("the target became %v", f.target)
			}
		})
	}
}

func TestForwardOfLittle(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Has("openid") || q.Has("msg_signature") || q.Has("encrypt_type") || r.Header.Values("Content-Type") != nil {
			t.Errorf("query %v, header %v", q, r.Header)
		}
	}))
	defer server.Close()
	f := NewForwarder(forwardTarget(t, server.URL), testCallbackToken, nil)
	if got, err := f.Forward(t.Context(), nil, "", []byte("no message")); err != nil || len(got) != 0 {
		t.Errorf("Forward = %q, %v", got, err)
	}
}

func TestForwardErrors(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer thief.Close()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, handler := range map[string]http.HandlerFunc{
		"500": status(500), "204": status(204), "403": status(403), "not HTTP": notHTTP,
		"hung up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirected": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		},
		"too long": answer(strings.Repeat("a", 64<<10+1)),
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "success")
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			f := NewForwarder(forwardTarget(t, withSecrets(server.URL)), testCallbackToken, nil)
			reply, err := f.Forward(t.Context(), url.Values{"openid": {"openid-of-o1"}}, "", []byte(scanBody("o1")))
			if !errors.Is(err, ErrForward) || reply != nil {
				t.Errorf("Forward = %q, %v", reply, err)
			}
			mustHide(t, err)
			for _, secret := range []string{"openid", "nonce", "signature", testCallbackToken} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q stands in %q", secret, err)
				}
			}
		})
	}
}

func TestForwardTakesTheLargestReply(t *testing.T) {
	want := strings.Repeat("a", 64<<10)
	server := httptest.NewServer(answer(want))
	defer server.Close()
	f := NewForwarder(forwardTarget(t, server.URL), testCallbackToken, nil)
	if got, err := f.Forward(t.Context(), nil, "", nil); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// roundTrip is a transport that may fail.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// deadReceiver never answers.
func deadReceiver(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestForwardToADeadReceiver: it costs 32 pushes their 4 s, and all others
// nothing; then it is tried again.
func TestForwardToADeadReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewForwarder(forwardTarget(t, "http://dead.example"), testCallbackToken, &http.Client{Transport: roundTrip(deadReceiver)})
		start := time.Now()
		var waiting sync.WaitGroup
		for range forwardsAtOnce {
			waiting.Go(func() {
				_, err := f.Forward(t.Context(), nil, "", nil)
				if !errors.Is(err, ErrForward) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != forwardDeadline {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
		}
		synctest.Wait()
		for range 100 {
			if _, err := f.Forward(t.Context(), nil, "", nil); err != ErrForwardBusy || time.Since(start) != 0 {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
		}
		waiting.Wait()
		f.client.Transport = inProcess(answer("success"))
		for range 2 * forwardsAtOnce {
			if got, err := f.Forward(t.Context(), nil, "", nil); err != nil || string(got) != "success" {
				t.Fatalf("afterwards: %q, %v", got, err)
			}
		}
	})
}

func TestForwardEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewForwarder(forwardTarget(t, "http://dead.example"), testCallbackToken, &http.Client{Transport: roundTrip(deadReceiver)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := f.Forward(ctx, nil, "", nil); !errors.Is(err, ErrForward) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestForwardsAtOnceKeepApart(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	f := NewForwarder(forwardTarget(t, server.URL), testCallbackToken, server.Client())
	var all sync.WaitGroup
	for i := range forwardsAtOnce {
		all.Go(func() {
			want := fmt.Sprint(i)
			if got, err := f.Forward(t.Context(), nil, "", []byte(want)); err != nil || string(got) != want {
				t.Errorf("Forward of %s = %q, %v", want, got, err)
			}
		})
	}
	all.Wait()
}
