package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	testSecret = "SECRET/0123456789abcdef"
	testToken  = "TOKEN+85_0123456789abcdef"
)

// givenTokens gives out the tokens in turn, the last one for ever.
func givenTokens(tokens ...string) *MemoryTokens {
	next := 0
	return NewMemoryTokens(func(context.Context) (string, time.Duration, error) {
		token := tokens[min(next, len(tokens)-1)]
		next++
		return token, 2 * time.Hour, nil
	})
}

// mustFail checks the kind of an error, and that it tells no secret.
func mustFail(t *testing.T, err, kind error) {
	t.Helper()
	if err == nil || kind != nil && !errors.Is(err, kind) {
		t.Fatalf("error %v, want %v", err, kind)
	}
	for _, other := range []error{ErrBusy, ErrToken, ErrAppID, ErrSecret, ErrAddress, ErrQuota, ErrRate, ErrPermission, ErrBanned, ErrUnreachable} {
		if other != kind && errors.Is(err, other) {
			t.Errorf("error %v is %v too", err, other)
		}
	}
	for _, secret := range []string{
		testSecret, url.QueryEscape(testSecret), testToken, url.QueryEscape(testToken), "access_token=", "http://", "https://api",
	} {
		if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, err), secret) {
			t.Errorf("%q stands in %q", secret, err)
		}
	}
}

func testClient(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &Client{AppID: "wx1", AppSecret: testSecret, BaseURL: server.URL, HTTP: server.Client(), Token: givenTokens(testToken)}
}

// inProcess is a transport without sockets, for tests in a bubble of synctest.
type inProcess http.HandlerFunc

func (h inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	return w.Result(), nil
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

const okTicket = `{"ticket":"gQH","expire_seconds":60,"url":"http://weixin.qq.com/q/1"}`

func TestStableTokenRequest(t *testing.T) {
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := `{"appid":"wx1","force_refresh":false,"grant_type":"client_credential","secret":"` + testSecret + `"}`
		if r.Method != "POST" || r.URL.String() != "/cgi-bin/stable_token" || canonicalJSON(t, body) != want {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		if r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
		}
		io.WriteString(w, `{"access_token":"A","expires_in":300}`)
	})
	c.BaseURL += "/" // a slash more is no other address
	token, expiresIn, err := c.StableToken(t.Context())
	if err != nil || token != "A" || expiresIn != 300*time.Second {
		t.Fatalf("StableToken = %q, %v, %v", token, expiresIn, err)
	}
}

func TestCreateQRCodeRequest(t *testing.T) {
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/cgi-bin/qrcode/create" || r.URL.Query().Get("access_token") != testToken {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		io.WriteString(w, okTicket)
	})
	got, err := c.CreateQRCode(t.Context(), 7, 60*time.Second)
	if err != nil || got != (Ticket{"gQH", "http://weixin.qq.com/q/1", time.Minute}) {
		t.Fatalf("CreateQRCode = %+v, %v", got, err)
	}
}

const okSent = `{"errcode":0,"errmsg":"ok"}`

func TestSendText(t *testing.T) {
	const openID, text = "o6_bmjrPTlm6_2sgVt7hMZOPfL2M", "登录 <a&b> \"in\""
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := `{"touser":"` + openID + `","msgtype":"text","text":{"content":"登录 <a&b> \"in\""}}` // as it is, nothing escaped
		if r.Method != "POST" || r.URL.Path != "/cgi-bin/message/custom/send" || r.URL.Query().Get("access_token") != testToken ||
			strings.TrimSpace(string(body)) != want {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		io.WriteString(w, okSent)
	})
	if err := c.SendText(t.Context(), openID, text); err != nil {
		t.Fatal(err)
	}
	for code, kind := range map[int]error{
		40003: ErrUnreachable, 43004: ErrUnreachable, 43019: ErrUnreachable, 45015: ErrUnreachable, 45047: ErrUnreachable, 48002: ErrUnreachable,
		48001: ErrPermission, 45009: ErrQuota, 44004: nil,
	} {
		err := testClient(t, answer(fmt.Sprintf(`{"errcode":%d,"errmsg":"no text for %s rid: 1"}`, code, openID))).SendText(t.Context(), openID, text)
		mustFail(t, err, kind)
		if strings.Contains(err.Error(), openID) || !strings.Contains(err.Error(), "rid: 1") {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestCreateQRCodeLife(t *testing.T) {
	for _, tc := range []struct {
		asked    time.Duration
		sent     int64
		answered string
		want     time.Duration
	}{
		{time.Minute, 60, `,"expire_seconds":60`, time.Minute},
		{time.Minute, 60, `,"expire_seconds":30`, 30 * time.Second},
		{time.Minute, 60, `,"expire_seconds":2592000`, time.Minute},
		{time.Minute, 60, `,"expire_seconds":-1`, time.Minute},
		{time.Minute, 60, ``, time.Minute},
		{1999 * time.Millisecond, 1, ``, time.Second},
		{MaxQRCodeTTL, 2592000, `,"expire_seconds":9223372036854775807`, MaxQRCodeTTL},
	} {
		c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
			var got qrCodeQuestion
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got.ExpireSeconds != tc.sent {
				t.Errorf("asked for %v: sent %+v, %v", tc.asked, got, err)
			}
			io.WriteString(w, `{"ticket":"t","url":"u"`+tc.answered+`}`)
		})
		got, err := c.CreateQRCode(t.Context(), 7, tc.asked)
		if err != nil || got.ExpiresIn != tc.want {
			t.Errorf("asked for %v, answered %q: %v, %v", tc.asked, tc.answered, got.ExpiresIn, err)
		}
	}
}

func TestCreateQRCodeArguments(t *testing.T) {
	c := testClient(t, func(http.ResponseWriter, *http.Request) { t.Error("WeChat was asked") })
	for _, tc := range []struct {
		scene int32
		ttl   time.Duration
	}{
		{0, time.Minute}, {-1, time.Minute}, {1, 0}, {1, -time.Second}, {1, time.Second - 1}, {1, MaxQRCodeTTL + 1},
	} {
		if _, err := c.CreateQRCode(t.Context(), tc.scene, tc.ttl); err == nil {
			t.Errorf("scene %d for %v was taken", tc.scene, tc.ttl)
		}
	}
}

func TestStrangeAnswers(t *testing.T) {
	big := strings.Repeat(" ", maxAnswer)
	for name, handler := range map[string]http.HandlerFunc{
		"empty":         answer(""),
		"HTML":          answer("<html>" + testSecret + testToken),
		"array":         answer("[]"),
		"null":          answer("null"),
		"nothing":       answer("{}"),
		"no url":        answer(`{"ticket":"t","access_token":"a"}`),
		"no ticket":     answer(`{"url":"u","expires_in":7200}`),
		"other kinds":   answer(`{"ticket":1,"url":2,"access_token":3,"expires_in":"` + testToken + `"}`),
		"code as text":  answer(`{"errcode":"40001","errmsg":""}`),
		"no life":       answer(`{"access_token":"a","expires_in":0,"ticket":"t"}`),
		"negative life": answer(`{"access_token":"a","expires_in":-7200,"ticket":"t"}`),
		"endless life":  answer(`{"access_token":"a","expires_in":9223372036854775807,"ticket":"t"}`),
		"too long":      answer(okTicket + big),
		"unknown code":  answer(`{"errcode":12345,"errmsg":"?"}`),
		"code beside a result": answer(
			`{"errcode":12345,"errmsg":"?","access_token":"a","expires_in":7200,"ticket":"t","url":"u"}`),
		"status 500": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, okTicket)
		},
		"status 201": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			io.WriteString(w, okTicket)
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, okTicket)
		},
		"hung up":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not HTTP": notHTTP,
		"echoes":   echo,
	} {
		t.Run(name, func(t *testing.T) {
			c := testClient(t, handler)
			_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
			mustFail(t, err, nil)
			_, _, err = c.StableToken(t.Context())
			mustFail(t, err, nil)
		})
	}
}

// notHTTP answers with the request line, as a broken proxy may.
func notHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\n\r\n", r.URL.RequestURI())
}

// echo repeats what it was sent in its errmsg.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	message, _ := json.Marshal(r.URL.Query().Get("access_token") + " " + r.URL.RawQuery + " " + string(body))
	fmt.Fprintf(w, `{"errcode":40002,"errmsg":%s}`, message)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var stolen atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stolen.Add(1)
		io.WriteString(w, okTicket)
	}))
	defer thief.Close()
	for _, status := range []int{301, 302, 307, 308} {
		c := testClient(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, status) })
		_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
		mustFail(t, err, nil)
		_, _, err = c.StableToken(t.Context())
		mustFail(t, err, nil)
	}
	if stolen.Load() > 0 {
		t.Error("secret or token went to another server")
	}
}

func TestTransportErrors(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, base := range map[string]string{
		"refused": closed.URL, "no scheme": "api.weixin.qq.com", "no URL": "http://[::1", "control character": "http://a\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			c := &Client{AppID: "wx1", AppSecret: testSecret, BaseURL: base, Token: givenTokens(testToken)}
			_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
			mustFail(t, err, nil)
			_, _, err = c.StableToken(t.Context())
			mustFail(t, err, nil)
		})
	}
}

func TestContextErrorsAreFound(t *testing.T) {
	asked := make(chan struct{}, 1)
	c := testClient(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil { // only then the server notices the hang-up
			t.Error(err)
		}
		asked <- struct{}{}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := c.CreateQRCode(ctx, 7, time.Minute)
	mustFail(t, err, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	c.HTTP.Timeout = time.Millisecond
	_, err = c.CreateQRCode(t.Context(), 7, time.Minute)
	mustFail(t, err, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timed out: %v", err)
	}
}

// refusing refuses the given tokens with a code and takes all others.
func refusing(calls *atomic.Int32, code int, tokens ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		for _, token := range tokens {
			if r.URL.Query().Get("access_token") == token {
				fmt.Fprintf(w, `{"errcode":%d,"errmsg":"refused rid: 1"}`, code)
				return
			}
		}
		io.WriteString(w, okTicket)
	}
}

func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	for _, code := range []int{40001, 40014, 42001} {
		var calls atomic.Int32
		c := testClient(t, refusing(&calls, code, "stale"))
		c.Token = givenTokens("stale", testToken)
		if _, err := c.CreateQRCode(t.Context(), 7, time.Minute); err != nil || calls.Load() != 2 {
			t.Errorf("%d: %v after %d calls", code, err, calls.Load())
		}
		if got := mustToken(t, c.Token); got != testToken {
			t.Errorf("%d: the source holds %q", code, got)
		}
	}
}

func TestRefusedTokenThatComesBackIsReported(t *testing.T) {
	var calls atomic.Int32
	c := testClient(t, refusing(&calls, 40001, testToken))
	_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
	mustFail(t, err, ErrToken)
	if calls.Load() != 1 {
		t.Errorf("%d calls with one token", calls.Load())
	}
}

func TestSecondRefusedTokenIsReported(t *testing.T) {
	var calls atomic.Int32
	c := testClient(t, refusing(&calls, 40001, "stale", testToken))
	c.Token = givenTokens("stale", testToken, "third")
	_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
	mustFail(t, err, ErrToken)
	if calls.Load() != 2 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestRefusedTokenThatWasReplacedMeanwhileIsNotDropped(t *testing.T) {
	c := testClient(t, nil)
	var fetches, calls atomic.Int32
	source := NewMemoryTokens(countingFetch(&fetches, time.Hour))
	c.Token = source
	handler := func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			mustDrop(t, source, "token-1") // another caller was faster
			mustToken(t, source)
			io.WriteString(w, `{"errcode":40001,"errmsg":""}`)
			return
		}
		io.WriteString(w, okTicket)
	}
	c.HTTP = &http.Client{Transport: inProcess(handler)}
	if _, err := c.CreateQRCode(t.Context(), 7, time.Minute); err != nil || fetches.Load() != 2 {
		t.Errorf("%v after %d fetches, want 2", err, fetches.Load())
	}
}

func TestNoNewTokenAfterARefusedOne(t *testing.T) {
	broken := errors.New("broken")
	first := true
	var calls atomic.Int32
	c := testClient(t, refusing(&calls, 42001, testToken))
	c.Token = NewMemoryTokens(func(context.Context) (string, time.Duration, error) {
		if first {
			first = false
			return testToken, time.Hour, nil
		}
		return "", 0, broken
	})
	_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
	mustFail(t, err, ErrToken)
	if !errors.Is(err, broken) {
		t.Errorf("the reason is missing in %v", err)
	}
}

func TestClientWithoutTokenSource(t *testing.T) {
	var fetches atomic.Int32
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == endpointToken:
			fetches.Add(1)
			io.WriteString(w, `{"access_token":"A","expires_in":7200}`)
		case r.URL.Query().Get("access_token") == "A":
			io.WriteString(w, okTicket)
		}
	})
	c.Token = nil
	for range 2 {
		if _, err := c.CreateQRCode(t.Context(), 7, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if fetches.Load() != 2 {
		t.Errorf("%d fetches", fetches.Load())
	}
}

func TestWrongSecretIsNoRefusedToken(t *testing.T) {
	var calls atomic.Int32
	c := testClient(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		io.WriteString(w, `{"errcode":40001,"errmsg":"invalid credential"}`)
	})
	c.Token = NewMemoryTokens(c.StableToken)
	_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
	mustFail(t, err, ErrSecret)
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestErrorKinds(t *testing.T) {
	for code, want := range map[int]error{
		-1: ErrBusy, 40001: ErrToken, 40014: ErrToken, 42001: ErrToken, 40013: ErrAppID, 40125: ErrSecret,
		40164: ErrAddress, 45009: ErrQuota, 45011: ErrRate, 48001: ErrPermission, 48004: ErrBanned, 1: nil,
	} {
		mustFail(t, fmt.Errorf("wrapped: %w", &APIError{Code: code, Endpoint: endpointQRCode}), want)
	}
	if errors.Is(&APIError{Code: 1}, nil) {
		t.Error("an unknown code is nil")
	}
}

func TestLongMessageIsCutAtACharacter(t *testing.T) {
	c := testClient(t, answer(`{"errcode":1,"errmsg":"a`+strings.Repeat("微", 1000)+"\\n\\u0000"+`"}`))
	_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
	apiErr, ok := errors.AsType[*APIError](err)
	if !ok || len(apiErr.Message) != maxMessage-1 || !strings.HasSuffix(apiErr.Message, "微") {
		t.Errorf("error %v", err)
	}
}

// busy answers -1 so many times, then a ticket.
func busy(calls *atomic.Int32, times int32) inProcess {
	return func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) <= times {
			io.WriteString(w, `{"errcode":-1,"errmsg":"system error"}`)
			return
		}
		io.WriteString(w, okTicket)
	}
}

func TestBusyIsRepeatedTwice(t *testing.T) {
	for _, tc := range []struct {
		times, calls int32
		want         error
	}{{0, 1, nil}, {1, 2, nil}, {2, 3, nil}, {3, 3, ErrBusy}, {100, 3, ErrBusy}} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int32
			c := &Client{HTTP: &http.Client{Transport: busy(&calls, tc.times)}, Token: givenTokens(testToken)}
			start := time.Now()
			_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
			if !errors.Is(err, tc.want) || calls.Load() != tc.calls {
				t.Errorf("busy %d times: %v after %d calls", tc.times, err, calls.Load())
			}
			least := busyPause * (1<<(tc.calls-1) - 1)
			if took := time.Since(start); took < least || took > 2*least {
				t.Errorf("busy %d times: took %v, want %v to %v", tc.times, took, least, 2*least)
			}
		})
	}
}

func TestBusyStaysInsideTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := &Client{HTTP: &http.Client{Transport: busy(&calls, 100)}, Token: givenTokens(testToken)}
		ctx, cancel := context.WithTimeout(t.Context(), busyPause)
		defer cancel()
		start := time.Now()
		_, err := c.CreateQRCode(ctx, 7, time.Minute)
		mustFail(t, err, ErrBusy)
		if !errors.Is(err, context.DeadlineExceeded) || calls.Load() != 1 || time.Since(start) != 0 {
			t.Errorf("%v after %d calls and %v", err, calls.Load(), time.Since(start))
		}
	})
}

func TestBusyPauseEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := &Client{HTTP: &http.Client{Transport: busy(&calls, 100)}, Token: givenTokens(testToken)}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(busyPause/2, cancel)
		_, err := c.CreateQRCode(ctx, 7, time.Minute)
		mustFail(t, err, ErrBusy)
		if !errors.Is(err, context.Canceled) || calls.Load() != 1 {
			t.Errorf("%v after %d calls", err, calls.Load())
		}
	})
}

func TestSpentQuotaIsNotRepeated(t *testing.T) {
	for code, want := range map[int]error{45009: ErrQuota, 45011: ErrRate, 48001: ErrPermission, 40164: ErrAddress} {
		var calls atomic.Int32
		c := testClient(t, refusing(&calls, code, testToken))
		_, err := c.CreateQRCode(t.Context(), 7, time.Minute)
		mustFail(t, err, want)
		if calls.Load() != 1 {
			t.Errorf("%d: %d calls", code, calls.Load())
		}
	}
}
