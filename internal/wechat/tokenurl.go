package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// TokenFromURL fetches the access token from a team's own token server instead
// of WeChat, where other systems use the account too: it
// GETs the address, which answers {"access_token":"…","expires_in":7200} with
// the seconds that remain, as a number or as its digits. What it returns fits
// where (*Client).StableToken does.
//
// The client, where nil, is one with 10 s for a call; redirects are never
// followed. Errors hold neither the query nor the user of the address.
func TokenFromURL(client *http.Client, address string) func(context.Context) (token string, expiresIn time.Duration, err error) {
	client = sameServer(client)
	return func(ctx context.Context) (string, time.Duration, error) {
		token, expiresIn, err := fetchToken(ctx, client, address)
		if err != nil {
			return "", 0, fmt.Errorf("token server: %w", err)
		}
		return token, expiresIn, nil
	}
}

func fetchToken(ctx context.Context, client *http.Client, address string) (string, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		// Errors about it would quote a piece of it.
		return "", 0, errors.New("its address is no URL with http or https")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", 0, withoutQuery(err, req.URL)
	}
	defer resp.Body.Close()
	data, err := readAnswer(resp.StatusCode, resp.Body)
	if err != nil {
		return "", 0, withoutQuery(err, req.URL)
	}
	return readToken(data)
}

// readToken never repeats a piece of the answer: it may be a token.
func readToken(data []byte) (string, time.Duration, error) {
	var answer struct {
		Token     string      `json:"access_token"`
		ExpiresIn json.Number `json:"expires_in"` // takes digits in quotes as well
		Code      int         `json:"errcode"`
	}
	if json.Unmarshal(data, &answer) != nil {
		return "", 0, errors.New("answer is not JSON with access_token and expires_in")
	}
	if answer.Code != 0 {
		return "", 0, fmt.Errorf("errcode %d", answer.Code)
	}
	seconds, err := parseDigits(answer.ExpiresIn.String())
	if err != nil || seconds < 1 || seconds > maxTokenSeconds || answer.Token == "" {
		return "", 0, errors.New("answer without access_token, or without expires_in in whole seconds")
	}
	return answer.Token, time.Duration(seconds) * time.Second, nil
}
