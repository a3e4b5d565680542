package wechat

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	forwardsAtOnce  = 32
	forwardDeadline = 4 * time.Second // WeChat gives up on us after 5
)

var (
	// ErrForwardBusy is what Forward says at once while 32 others are under way.
	ErrForwardBusy = errors.New("too many pushes are being forwarded")
	// ErrForward is what Forward says of a receiver that didn't answer with 200
	// and 64 KiB at most within 4 s.
	ErrForward = errors.New("push was not forwarded")
)

// Forwarder passes pushes on to another system, because an account has only
// one callback URL. It is safe for concurrent use.
//
// At most 32 pushes are on their way at once, for 4 s each: a receiver that is
// slow or dead costs no more than that, and delays no one else.
type Forwarder struct {
	target *url.URL
	token  string
	client *http.Client
	slots  chan struct{} // holds one for each push under way
}

// NewForwarder forwards to the target, whose own query is kept, signed with the
// callback token. The client, where nil, is one on http.DefaultTransport;
// redirects are never followed.
func NewForwarder(target *url.URL, token string, client *http.Client) *Forwarder {
	return &Forwarder{
		target: target, token: token, client: sameServer(client),
		slots: make(chan struct{}, forwardsAtOnce),
	}
}

// Forward posts a push as it was received, with a query signed anew, as if it
// came from WeChat: q is the query it came with, of which only openid is kept,
// and a receiver with the same token and key takes it. It returns what the
// receiver answered, perhaps nothing, to be given to WeChat as it is.
//
// Errors are ErrForwardBusy, at once, and ErrForward, which wraps an error of
// ctx; neither holds a query.
func (f *Forwarder) Forward(ctx context.Context, q url.Values, contentType string, body []byte) (reply []byte, err error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, ErrForwardBusy
	}
	ctx, cancel := context.WithTimeout(ctx, forwardDeadline)
	defer cancel()
	target := *f.target
	target.RawQuery = f.query(q, body).Encode()
	reply, err = f.post(ctx, &target, contentType, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForward, withoutQuery(err, &target))
	}
	return reply, nil
}

func (f *Forwarder) post(ctx context.Context, target *url.URL, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readAnswer(resp.StatusCode, resp.Body)
}

// query is the target's own, with what WeChat would send to it.
func (f *Forwarder) query(received url.Values, body []byte) url.Values {
	q := f.target.Query()
	maps.Copy(q, signedNow(f.token, time.Now(), body))
	if openid := received.Get("openid"); openid != "" {
		q.Set("openid", openid)
	}
	return q
}

// signedNow is WeChat's query for a body: with msg_signature and encrypt_type
// where it is encrypted.
func signedNow(token string, now time.Time, body []byte) url.Values {
	timestamp, nonce := strconv.FormatInt(now.Unix(), 10), rand.Text()
	q := url.Values{
		"timestamp": {timestamp}, "nonce": {nonce},
		"signature": {Sign(token, timestamp, nonce)},
	}
	// What can't be read holds nothing encrypted.
	if f, _, err := readFields(body); err == nil && f.get("Encrypt") != "" {
		q.Set("encrypt_type", "aes")
		q.Set("msg_signature", Sign(token, timestamp, nonce, f.get("Encrypt")))
	}
	return q
}
