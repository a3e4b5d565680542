package wechat

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	defaultTimeout = 10 * time.Second
	maxAnswer      = 64 << 10 // bytes; a token has 512 or a little more
	minSecret      = 4        // bytes; what is shorter stands in any text by chance
)

// sameServer is the client, or one with 10 s for a call where nil, that follows
// no redirect: it would carry the secrets of a request to another place.
func sameServer(client *http.Client) *http.Client {
	own := http.Client{Timeout: defaultTimeout}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// readAnswer returns the body of a 200, of 64 KiB at most.
func readAnswer(status int, body io.Reader) ([]byte, error) {
	if status != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", status)
	}
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	return data, nil
}

// withoutURL takes the URL off an error of net/http, which prints it with its
// query, and keeps what is inside, so that errors.Is still finds the errors of
// a context.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

// withoutQuery is withoutURL for a request whose query or user may be secret.
// A server that is none of HTTP may be quoted inside, and repeat them.
func withoutQuery(err error, sent *url.URL) error {
	err = withoutURL(err)
	text := err.Error()
	repeats := func(secret string) bool { return len(secret) >= minSecret && strings.Contains(text, secret) }
	if slices.ContainsFunc(secretParts(sent), repeats) {
		return errors.New("an answer that repeats the query")
	}
	return err
}

func secretParts(u *url.URL) []string {
	password, _ := u.User.Password()
	parts := []string{u.RawQuery, u.User.Username(), password}
	for _, values := range u.Query() {
		for _, value := range values {
			parts = append(parts, value, url.QueryEscape(value))
		}
	}
	return parts
}
