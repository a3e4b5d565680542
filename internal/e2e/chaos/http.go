package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	loginCookie   = "scanlogin_login"
	sessionCookie = "scanlogin_session"
	// requestPatience is the page's own.
	requestPatience = 20 * time.Second
)

// jar is a browser's cookies.
type jar struct {
	mu             sync.Mutex
	login, session string
}

func (j *jar) header() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var cookies []string
	if j.login != "" {
		cookies = append(cookies, loginCookie+"="+j.login)
	}
	if j.session != "" {
		cookies = append(cookies, sessionCookie+"="+j.session)
	}
	return strings.Join(cookies, "; ")
}

// take stores what an answer sets. It is true where that is a session.
func (j *jar) take(resp *http.Response) (session bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range resp.Cookies() {
		value := c.Value
		if c.MaxAge < 0 {
			value = ""
		}
		switch c.Name {
		case loginCookie:
			j.login = value
		case sessionCookie:
			j.session = value
			session = value != ""
		}
	}
	return session
}

// answer is what came back for a request; status 0 for nothing.
type answer struct {
	status int
	from   string // the instance; empty where the balancer answered itself
	user   string
	resp   *http.Response
}

// request asks the site and reads the answer to its end.
func (w *world) request(ctx context.Context, method, path, cookies, body string) answer {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.site+path, strings.NewReader(body))
	if err != nil {
		return answer{}
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Accept", "application/json")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if cookies != "" {
		req.Header.Set("Cookie", cookies)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return answer{} // cut off: nobody heard it
	}
	return answer{resp.StatusCode, resp.Header.Get("X-Instance"), resp.Header.Get("X-Auth-User"), resp}
}
