package wechatsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scanlogin/internal/wechat"
)

// VerifyCallbacks asks every callback URL for its echostr, as WeChat does when the
// URL is saved in the console. The error names the hosts that failed and why.
func (s *Server) VerifyCallbacks(ctx context.Context) error {
	if len(s.cfg.CallbackURLs) == 0 {
		return ErrNoCallback
	}
	var failed []error
	for _, base := range s.cfg.CallbackURLs {
		if err := s.verify(ctx, base); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", hostOf(base), err))
		}
	}
	return errors.Join(failed...)
}

func (s *Server) verify(ctx context.Context, base string) error {
	timestamp, nonce, echo := strconv.FormatInt(time.Now().Unix(), 10), newNonce(), newNonce()
	query := url.Values{
		"signature": {wechat.Sign(s.cfg.Token, timestamp, nonce)},
		"timestamp": {timestamp},
		"nonce":     {nonce},
		"echostr":   {echo},
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, withQuery(base, query), nil)
	if err != nil {
		return errors.New("the callback URL is not usable")
	}
	a, err := s.send(req)
	switch {
	case err != nil:
		return err
	case a.status != http.StatusOK:
		return fmt.Errorf("the callback answered status %d", a.status)
	case string(a.body) != echo:
		return errors.New("the callback did not answer the echostr")
	}
	return nil
}

// send does req, with all that WeChat sends along.
func (s *Server) send(req *http.Request) (answer, error) {
	req.Header.Set("User-Agent", "Mozilla/4.0")
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, withoutURL(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return answer{}, withoutURL(err)
	}
	return answer{resp.StatusCode, body}, nil
}
