package wechat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultBaseURL is where WeChat's API is.
const DefaultBaseURL = "https://api.weixin.qq.com"

const (
	endpointToken  = "/cgi-bin/stable_token"
	endpointQRCode = "/cgi-bin/qrcode/create"
	endpointSend   = "/cgi-bin/message/custom/send"

	maxMessage     = 512 // bytes of an errmsg that are kept
	maxBusyRepeats = 2
	busyPause      = 200 * time.Millisecond // doubles, and up to as much again by chance
)

// MaxQRCodeTTL is how long WeChat lets a temporary QR code live.
const MaxQRCodeTTL = 2592000 * time.Second

// Client calls the API of one Official Account. It is safe for concurrent use;
// its fields are set before the first call and not changed after.
type Client struct {
	AppID     string
	AppSecret string
	// BaseURL is scheme and host of the API, DefaultBaseURL where empty.
	BaseURL string
	// HTTP makes the calls. Where nil, a client on http.DefaultTransport with
	// 10 s for a call. Redirects are never followed, whatever it says: they
	// would carry the secret or the token to another place.
	HTTP *http.Client
	// Token gives the access token. Where nil, each call asks WeChat for it,
	// which suits a check from the shell and nothing that serves.
	Token TokenSource
	// Called, where it isn't nil, hears of each call once it is over, repeats among
	// them. It must not block.
	Called func(ctx context.Context, c Call)
}

// Call is one call of the API that was made.
type Call struct {
	Endpoint string // path, one of Endpoints
	Began    time.Time
	Err      error // an *APIError where WeChat answered so
}

// Endpoints are the paths that a Client calls while it serves.
func Endpoints() []string { return []string{endpointToken, endpointQRCode} }

// StableToken asks WeChat for the account's access token and how long it
// lives. Repeated calls give the same token with the life that remains; it
// never asks for a forced refresh, which would end the token that other
// instances hold.
//
// It repeats the call at most twice while WeChat is busy. Errors are *APIError
// (ErrSecret, ErrAppID, ErrAddress …), those of ctx, and those of the transport.
//
// Source: developers.weixin.qq.com/doc/offiaccount/Basic_Information/getStableAccessToken.html
func (c *Client) StableToken(ctx context.Context) (token string, expiresIn time.Duration, err error) {
	question := struct {
		GrantType    string `json:"grant_type"`
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		ForceRefresh bool   `json:"force_refresh"`
	}{"client_credential", c.AppID, c.AppSecret, false}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"` // seconds
	}
	if err := c.call(ctx, endpointToken, "", question, &answer); err != nil {
		return "", 0, err
	}
	if answer.AccessToken == "" || answer.ExpiresIn < 1 || answer.ExpiresIn > maxTokenSeconds {
		return "", 0, fmt.Errorf("%s: answer without token or its life", endpointToken)
	}
	return answer.AccessToken, time.Duration(answer.ExpiresIn) * time.Second, nil
}

// Ticket is a QR code that WeChat made. A new one for the same scene does not
// void the old: both scan until they expire.
type Ticket struct {
	Ticket    string        // comes back in the event of the scan
	URL       string        // what the QR code shows
	ExpiresIn time.Duration // by WeChat's clock, from the answer on
}

// CreateQRCode makes a temporary QR code for a scene ID from 1 on, that can be
// scanned for ttl, whole seconds from 1 to MaxQRCodeTTL; a fraction of a second
// is cut off. Each call counts against the day's quota of the account.
//
// A refused access token is dropped, fetched again and tried once more; where
// the same token comes back, the error is ErrToken. While WeChat is busy the
// call is repeated at most twice, inside the deadline of ctx. Errors are
// *APIError (ErrQuota, ErrRate, ErrPermission …), those of the token source, of
// ctx and of the transport.
//
// Source: developers.weixin.qq.com/doc/offiaccount/Account_Management/Generating_a_Parametric_QR_Code.html
func (c *Client) CreateQRCode(ctx context.Context, sceneID int32, ttl time.Duration) (Ticket, error) {
	if sceneID < 1 {
		return Ticket{}, fmt.Errorf("%s: scene ID %d is not positive", endpointQRCode, sceneID)
	}
	if ttl < time.Second || ttl > MaxQRCodeTTL {
		return Ticket{}, fmt.Errorf("%s: a code can't live for %v, only 1s to %v", endpointQRCode, ttl, MaxQRCodeTTL)
	}
	question := newQRCodeQuestion(sceneID, ttl)
	var answer qrCodeAnswer
	err := c.withToken(ctx, func(token string) error {
		return c.call(ctx, endpointQRCode, token, question, &answer)
	})
	if err != nil {
		return Ticket{}, err
	}
	return answer.ticket(ttl)
}

// SendText sends somebody who follows the account a text of at most 2,048 bytes, as a
// customer-service message.
// WeChat takes 5 of them within 48 h of each message that the user has written, and 3 within
// a minute of following, of scanning a code and of a click in the menu; else the error is
// ErrUnreachable. The other errors are those of CreateQRCode. None names the user.
//
// Source: developers.weixin.qq.com/doc/service/api/customer/message/api_sendcustommessage
func (c *Client) SendText(ctx context.Context, openID, text string) error {
	question := struct {
		To   string `json:"touser"`
		Type string `json:"msgtype"`
		Text struct {
			Content string `json:"content"`
		} `json:"text"`
	}{To: openID, Type: "text"}
	question.Text.Content = text
	err := c.withToken(ctx, func(token string) error {
		return c.call(ctx, endpointSend, token, question, &struct{}{})
	})
	if refusal, ok := errors.AsType[*APIError](err); ok {
		refusal.Message = strings.ReplaceAll(refusal.Message, openID, hidden)
	}
	return err
}

type qrCodeQuestion struct {
	ExpireSeconds int64  `json:"expire_seconds"` // always sent: the default is under a minute
	ActionName    string `json:"action_name"`
	ActionInfo    struct {
		// Without this level the call succeeds and every event names scene 0.
		Scene struct {
			SceneID int32 `json:"scene_id"`
		} `json:"scene"`
	} `json:"action_info"`
}

func newQRCodeQuestion(sceneID int32, ttl time.Duration) qrCodeQuestion {
	question := qrCodeQuestion{ExpireSeconds: int64(ttl / time.Second), ActionName: "QR_SCENE"}
	question.ActionInfo.Scene.SceneID = sceneID
	return question
}

type qrCodeAnswer struct {
	Ticket        string `json:"ticket"`
	ExpireSeconds int64  `json:"expire_seconds"`
	URL           string `json:"url"`
}

func (a qrCodeAnswer) ticket(asked time.Duration) (Ticket, error) {
	if a.Ticket == "" || a.URL == "" {
		return Ticket{}, fmt.Errorf("%s: answer without ticket or url", endpointQRCode)
	}
	// Never longer than asked for, so that a strange answer can't outlive a scene.
	life := asked.Truncate(time.Second)
	if a.ExpireSeconds > 0 && a.ExpireSeconds < int64(life/time.Second) {
		life = time.Duration(a.ExpireSeconds) * time.Second
	}
	return Ticket{Ticket: a.Ticket, URL: a.URL, ExpiresIn: life}, nil
}

// withToken does something with the access token, and once more with a new one
// where WeChat refused it.
func (c *Client) withToken(ctx context.Context, do func(token string) error) error {
	source := c.tokens()
	token, err := source.Token(ctx)
	if err != nil {
		return fmt.Errorf("access token: %w", err)
	}
	err = do(token)
	if !errors.Is(err, ErrToken) {
		return err
	}
	if dropErr := source.Drop(ctx, token); dropErr != nil {
		return fmt.Errorf("%w; dropping the token: %w", err, dropErr)
	}
	fresh, freshErr := source.Token(ctx)
	if freshErr != nil {
		return fmt.Errorf("%w; new access token: %w", err, freshErr)
	}
	if fresh == token {
		return fmt.Errorf("%w; WeChat gives out that same token again", err)
	}
	return do(fresh)
}

func (c *Client) tokens() TokenSource {
	if c.Token == nil {
		return uncached{c}
	}
	return c.Token
}

// call asks the question and reads the answer, repeating it while WeChat is
// busy and ctx leaves time for it. The token goes into the query, unless empty.
func (c *Client) call(ctx context.Context, endpoint, token string, question, answer any) error {
	for repeats := 0; ; repeats++ {
		began := time.Now()
		err := c.ask(ctx, endpoint, token, question, answer)
		if c.Called != nil {
			c.Called(ctx, Call{endpoint, began, err})
		}
		if !errors.Is(err, ErrBusy) || repeats == maxBusyRepeats {
			return err
		}
		backoff := busyPause << repeats
		if pauseErr := pause(ctx, backoff+rand.N(backoff)); pauseErr != nil {
			return fmt.Errorf("%w; no time to repeat: %w", err, pauseErr)
		}
	}
}

// pause waits, unless ctx would end before.
func pause(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) ask(ctx context.Context, endpoint, token string, question, answer any) error {
	data, err := c.exchange(ctx, endpoint, token, question)
	if err != nil {
		return fmt.Errorf("%s: %w", endpoint, c.hide(err, token))
	}
	var failure struct {
		Code    int    `json:"errcode"`
		Message string `json:"errmsg"`
	}
	if json.Unmarshal(data, &failure) != nil {
		return fmt.Errorf("%s: answer is not the JSON of an API", endpoint)
	}
	if failure.Code != 0 {
		message := c.hideText(failure.Message, token)
		return &APIError{Code: failure.Code, Message: shorten(message), Endpoint: endpoint}
	}
	// The decoder's own errors quote the answer, which may be a token.
	if json.Unmarshal(data, answer) != nil {
		return fmt.Errorf("%s: answer has fields of another kind", endpoint)
	}
	return nil
}

// exchange returns the body of a 200.
func (c *Client) exchange(ctx context.Context, endpoint, token string, question any) ([]byte, error) {
	req, err := c.request(ctx, endpoint, token, question)
	if err != nil {
		return nil, err
	}
	resp, err := sameServer(c.HTTP).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readAnswer(resp.StatusCode, resp.Body)
}

// request posts a question, or just gets where there is none.
func (c *Client) request(ctx context.Context, endpoint, token string, question any) (*http.Request, error) {
	target := strings.TrimSuffix(cmp.Or(c.BaseURL, DefaultBaseURL), "/") + endpoint
	if token != "" {
		target += "?" + url.Values{"access_token": {token}}.Encode()
	}
	if question == nil {
		return http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // WeChat shows \u003c as it stands in a message
	if err := encoder.Encode(question); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, &body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// hide takes the URL off an error of net/http, and secrets out of what is left.
func (c *Client) hide(err error, token string) error {
	err = withoutURL(err)
	text := err.Error()
	if hidden := c.hideText(text, token); hidden != text {
		return errors.New(hidden)
	}
	return err
}

const hidden = "[hidden]"

// hideText is for what others wrote, an errmsg or the error of a transport:
// either may repeat what was sent.
func (c *Client) hideText(text, token string) string {
	if token != "" {
		escaped := url.QueryEscape(token)
		text = strings.NewReplacer("access_token="+escaped, hidden, escaped, hidden, token, hidden).Replace(text)
	}
	if c.AppSecret != "" {
		text = strings.ReplaceAll(text, c.AppSecret, hidden)
	}
	return text
}

// shorten keeps a foreign text to one short line of valid UTF-8.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
}
