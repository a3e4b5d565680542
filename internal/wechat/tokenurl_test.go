package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	tokenServerQuery = "apikey=QUERY%2BSECRET&app=wx1"
	tokenServerUser  = "reader:USER-SECRET"
)

// tokenServer returns the address of a server, with everything secret that an
// address can have.
func tokenServer(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return withSecrets(server.URL)
}

func withSecrets(address string) string {
	return strings.Replace(address, "://", "://"+tokenServerUser+"@", 1) + "/token?" + tokenServerQuery
}

func mustHide(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, secret := range []string{"QUERY", "SECRET", "apikey", "reader", testToken, "http://"} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("%q stands in %q", secret, err)
		}
	}
}

func TestTokenFromURL(t *testing.T) {
	for name, body := range map[string]string{
		"number":     `{"access_token":"A","expires_in":7200}`,
		"text":       `{"access_token":"A","expires_in":"7200"}`,
		"more of it": ` {"errcode":0,"errmsg":"ok","access_token":"A","expires_in":7200,"x":[1]} `,
	} {
		address := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if r.Method != "GET" || r.URL.RequestURI() != "/token?"+tokenServerQuery || user+":"+password != tokenServerUser {
				t.Errorf("%s %s by %s", r.Method, r.URL, user)
			}
			io.WriteString(w, body)
		})
		token, expiresIn, err := TokenFromURL(nil, address)(t.Context())
		if err != nil || token != "A" || expiresIn != 7200*time.Second {
			t.Errorf("%s: %q, %v, %v", name, token, expiresIn, err)
		}
	}
}

func TestTokenFromURLServesAClient(t *testing.T) {
	var fetches, calls atomic.Int32
	address := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":"token-%d","expires_in":7200}`, fetches.Add(1))
	})
	c := testClient(t, refusing(&calls, 42001, "token-1"))
	c.Token = NewMemoryTokens(TokenFromURL(nil, address))
	if _, err := c.CreateQRCode(t.Context(), 7, time.Minute); err != nil || fetches.Load() != 2 {
		t.Errorf("%v after %d fetches", err, fetches.Load())
	}
}

func TestTokenFromURLRefuses(t *testing.T) {
	token := `"access_token":"` + testToken + `"`
	for name, handler := range map[string]http.HandlerFunc{
		"empty":         answer(""),
		"HTML":          answer("<html>" + testToken),
		"null":          answer("null"),
		"nothing":       answer("{}"),
		"no token":      answer(`{"expires_in":7200}`),
		"empty token":   answer(`{"access_token":"","expires_in":7200}`),
		"no life":       answer("{" + token + "}"),
		"zero":          answer("{" + token + `,"expires_in":0}`),
		"negative":      answer("{" + token + `,"expires_in":-1}`),
		"fraction":      answer("{" + token + `,"expires_in":7200.5}`),
		"power":         answer("{" + token + `,"expires_in":7e3}`),
		"endless":       answer("{" + token + `,"expires_in":9223372036854775807}`),
		"words":         answer("{" + token + `,"expires_in":"2 hours"}`),
		"truth":         answer("{" + token + `,"expires_in":true}`),
		"other kinds":   answer(`{"access_token":1,"expires_in":7200}`),
		"errcode":       answer(`{"errcode":40001,"errmsg":"` + testToken + `"}`),
		"code and more": answer(`{"errcode":40001,` + token + `,"expires_in":7200}`),
		"too long":      answer("{" + token + `,"expires_in":7200}` + strings.Repeat(" ", maxAnswer)),
		"hung up":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not HTTP":      notHTTP,
		"status 500": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, "{"+token+`,"expires_in":7200}`)
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "{"+token+`,"expires_in":7200}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, life, err := TokenFromURL(nil, tokenServer(t, handler))(t.Context())
			mustHide(t, err)
			if got != "" || life != 0 {
				t.Errorf("%q, %v beside %v", got, life, err)
			}
		})
	}
}

func TestTokenFromURLAtNoServer(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, address := range map[string]string{
		"refused": withSecrets(closed.URL), "no scheme": "reader:SECRET@host/?apikey=QUERY", "no URL": "http://[::1?apikey=QUERY",
		"bad port": "http://host:SECRET/", "empty": "", "control character": "http://a\x7f?apikey=QUERY",
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := TokenFromURL(nil, address)(t.Context())
			mustHide(t, err)
		})
	}
}

func TestTokenFromURLFollowsNoRedirect(t *testing.T) {
	thief := tokenServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the thief was asked") })
	address := tokenServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief, http.StatusTemporaryRedirect) })
	_, _, err := TokenFromURL(nil, address)(t.Context())
	mustHide(t, err)
}

func TestTokenFromURLEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := tokenServer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, _, err := TokenFromURL(nil, address)(ctx)
	mustHide(t, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
