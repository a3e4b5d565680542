package wechatsim

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"scanlogin/internal/wechat"
)

const (
	pushTries = 3

	// failureNotice is what WeChat shows in the conversation when the account
	// doesn't answer, or answers what WeChat doesn't understand.
	failureNotice = "该公众号提供的服务出现故障，请稍后再试"
)

// event is one event or message on its way to the callback. Its retries repeat it.
type event struct {
	openid  string
	created time.Time
	name    string // Event; empty: a text message
	key     string // EventKey
	ticket  string
	text    string
	msgID   string
}

// Delivery is what became of a push.
type Delivery struct {
	Event    string    `json:"event"`               // SCAN, subscribe, unsubscribe; empty for a text
	EventKey string    `json:"event_key"`           //
	Reply    string    `json:"reply"`               // as the phone shows it, decrypted; empty for none
	Failed   bool      `json:"failed"`              // Reply is WeChat's notice that the account doesn't work
	Tries    int       `json:"tries"`               // 1 to 3
	Statuses []int     `json:"statuses"`            // HTTP status of every try, 0: no answer in time
	Problem  string    `json:"problem,omitempty"`   // what was wrong with the last try that was not right
	Again    *Delivery `json:"duplicate,omitempty"` // the second delivery of a push that Faults doubled
}

// push sends e on a goroutine of its own, as WeChat promises no order, and waits for the outcome.
func (s *Server) push(ctx context.Context, e event) (Delivery, error) {
	if len(s.cfg.CallbackURLs) == 0 {
		return Delivery{}, ErrNoCallback
	}
	type outcome struct {
		delivery Delivery
		err      error
	}
	done := make(chan outcome, 1)
	running := s.spawn(func() {
		d, err := s.deliver(e)
		done <- outcome{d, err}
	})
	if !running {
		return Delivery{}, ErrClosed
	}
	select {
	case o := <-done:
		return o.delivery, o.err
	case <-ctx.Done():
		return Delivery{}, fmt.Errorf("wait for the account's answer: %w", ctx.Err())
	}
}

// deliver pushes e, twice at a time if a fault says so, and writes the outcome
// into the conversation.
func (s *Server) deliver(e event) (Delivery, error) {
	var again *Delivery
	var twin sync.WaitGroup
	if s.duplicate() {
		twin.Go(func() {
			if d, err := s.attempts(e); err == nil {
				again = &d
			}
		})
	}
	d, err := s.attempts(e)
	twin.Wait()
	if err != nil {
		return Delivery{}, err
	}
	d.Again = again
	s.show(e, &d)
	return d, nil
}

// attempts posts e until the callback answers, three times at most. Its only error is ErrClosed.
func (s *Server) attempts(e event) (Delivery, error) {
	d := Delivery{Event: e.name, EventKey: e.key}
	for try := range pushTries {
		if try > 0 && !s.sleep(s.ctx, s.cfg.RetryGap) {
			return Delivery{}, ErrClosed
		}
		answer, err := s.try(e)
		if s.ctx.Err() != nil {
			return Delivery{}, ErrClosed
		}
		d.Tries++
		d.Statuses = append(d.Statuses, answer.status)
		if err == nil {
			d.Reply, err = s.open(answer.body, e.openid)
		}
		if err == nil {
			return d, nil
		}
		d.Problem = err.Error()
		s.log.WarnContext(s.ctx, "push not answered as it should be",
			"event", e.name, "try", d.Tries, "status", answer.status, "error", err)
		if answer.status == http.StatusOK {
			break // answered, if with nonsense: WeChat doesn't ask again
		}
	}
	d.Failed, d.Reply = true, failureNotice
	return d, nil
}

// show writes d into the user's conversation and counts it.
func (s *Server) show(e event, d *Delivery) {
	if e.name == "unsubscribe" {
		d.Reply = "" // there is no conversation any more
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range []*Delivery{d, d.Again} {
		if one == nil {
			continue
		}
		s.stats.Pushes++
		s.stats.Tries += one.Tries
		if one.Failed {
			s.stats.Failures++
		}
	}
	s.version++
	p := s.users.byOpenID[e.openid]
	switch {
	case d.Reply == "" || p == nil:
	case d.Failed:
		s.note(p, Failed, d.Reply)
	default:
		s.stats.Replies++
		s.note(p, Replied, d.Reply)
	}
}

// answer is what came back for one try; status 0 for nothing.
type answer struct {
	status int
	body   []byte
}

var (
	errDropped = errors.New("the push was lost on its way")
	errLost    = errors.New("the answer was lost on its way")
)

// try posts e once. The error is nil for a status 200 that arrived in time.
func (s *Server) try(e event) (answer, error) {
	if s.dropTry() {
		return answer{}, errDropped
	}
	if !s.sleep(s.ctx, s.pushDelay()) {
		return answer{}, ErrClosed
	}
	a, err := s.post(e)
	if s.loseReply() {
		return answer{}, errLost
	}
	if err != nil {
		return answer{}, err
	}
	if a.status != http.StatusOK {
		return a, fmt.Errorf("the callback answered status %d", a.status)
	}
	return a, nil
}

func (s *Server) post(e event) (answer, error) {
	query, body, err := s.seal(e)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.PushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.nextCallback(query), bytes.NewReader(body))
	if err != nil {
		return answer{}, errors.New("the callback URL is not usable")
	}
	req.Header.Set("Content-Type", "text/xml")
	return s.send(req)
}

// withoutURL keeps the query of the callback, which holds signature and openid,
// out of the error.
func withoutURL(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the callback did not answer in time")
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("the callback could not be reached: %w", err)
}

// nextCallback is the next of the callback URLs, with query added.
func (s *Server) nextCallback(query url.Values) string {
	s.mu.Lock()
	base := s.cfg.CallbackURLs[s.pushed%uint64(len(s.cfg.CallbackURLs))]
	s.pushed++
	s.mu.Unlock()
	return withQuery(base, query)
}

// withQuery adds query to a URL that may have one already.
func withQuery(base string, query url.Values) string {
	if strings.Contains(base, "?") {
		return base + "&" + query.Encode()
	}
	return base + "?" + query.Encode()
}

// seal returns the query and the body of a post of e: new timestamp, nonce and
// signatures every time, the same facts.
func (s *Server) seal(e event) (url.Values, []byte, error) {
	timestamp, nonce := strconv.FormatInt(time.Now().Unix(), 10), newNonce()
	query := url.Values{
		"signature": {wechat.Sign(s.cfg.Token, timestamp, nonce)},
		"timestamp": {timestamp},
		"nonce":     {nonce},
		"openid":    {e.openid},
	}
	plain := s.fields(e)
	if s.cfg.Mode == Plain {
		return query, wrap(plain), nil
	}
	encrypted, err := s.cipher.Encrypt(wrap(plain))
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the push: %w", err)
	}
	query.Set("encrypt_type", "aes")
	query.Set("msg_signature", wechat.Sign(s.cfg.Token, timestamp, nonce, encrypted))
	if s.cfg.Mode == Safe {
		plain = element("ToUserName", s.originalID)
	}
	return query, wrap(plain + element("Encrypt", encrypted)), nil
}

func newNonce() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<31))
	if err != nil {
		panic(err) // crypto/rand.Reader never fails
	}
	return n.String()
}

// fields is the inside of the push's XML, field for field in WeChat's order.
func (s *Server) fields(e event) string {
	head := element("ToUserName", s.originalID) +
		element("FromUserName", e.openid) +
		number("CreateTime", strconv.FormatInt(e.created.Unix(), 10))
	if e.name == "" {
		return head + element("MsgType", "text") + element("Content", e.text) + number("MsgId", e.msgID)
	}
	body := head + element("MsgType", "event") + element("Event", e.name) + element("EventKey", e.key)
	if e.ticket != "" {
		body += element("Ticket", e.ticket)
	}
	return body
}

func wrap(fields string) []byte { return []byte("<xml>" + strings.TrimSuffix(fields, "\n") + "</xml>") }

func element(name, text string) string {
	text = strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>")
	return "<" + name + "><![CDATA[" + text + "]]></" + name + ">\n"
}

func number(name, digits string) string { return "<" + name + ">" + digits + "</" + name + ">\n" }

// replyXML is a passive reply, plain or encrypted.
type replyXML struct {
	XMLName      xml.Name `xml:"xml"`
	ToUserName   string   `xml:"ToUserName"`
	FromUserName string   `xml:"FromUserName"`
	CreateTime   int64    `xml:"CreateTime"`
	MsgType      string   `xml:"MsgType"`
	Content      string   `xml:"Content"`
	Encrypt      string   `xml:"Encrypt"`
	MsgSignature string   `xml:"MsgSignature"`
	TimeStamp    string   `xml:"TimeStamp"`
	Nonce        string   `xml:"Nonce"`
}

// open reads the account's answer to openid: the text that the phone shows, empty
// for none. The error says what WeChat would not accept.
func (s *Server) open(body []byte, openid string) (string, error) {
	if text := string(bytes.TrimSpace(body)); text == "" || text == "success" {
		return "", nil
	}
	var r replyXML
	if err := xml.Unmarshal(body, &r); err != nil {
		return "", errors.New("reply: neither success nor XML")
	}
	if r.Encrypt == "" && s.cfg.Mode == Safe {
		return "", errors.New("reply: not encrypted, but the mode is safe")
	}
	if r.Encrypt != "" {
		var err error
		if r, err = s.decrypt(r); err != nil {
			return "", err
		}
	}
	switch {
	case r.ToUserName != openid:
		return "", errors.New("reply: ToUserName is not the user's openid")
	case r.FromUserName != s.originalID:
		return "", errors.New("reply: FromUserName is not the account")
	case r.CreateTime <= 0:
		return "", errors.New("reply: no CreateTime")
	case r.MsgType == "text" && r.Content == "":
		return "", errors.New("reply: a text without Content")
	case r.MsgType == "text":
		return r.Content, nil
	default:
		return "", fmt.Errorf("reply: MsgType %q, this phone shows text only", r.MsgType)
	}
}

func (s *Server) decrypt(sealed replyXML) (replyXML, error) {
	var r replyXML
	if s.cipher == nil {
		return r, errors.New("reply: encrypted, but the mode is plain")
	}
	if wechat.Sign(s.cfg.Token, sealed.TimeStamp, sealed.Nonce, sealed.Encrypt) != sealed.MsgSignature {
		return r, errors.New("reply: MsgSignature does not match")
	}
	plain, err := s.cipher.Decrypt(sealed.Encrypt)
	if err != nil {
		return r, fmt.Errorf("reply: %w", err)
	}
	if err := xml.Unmarshal(plain, &r); err != nil || r.Encrypt != "" {
		return replyXML{}, errors.New("reply: what was encrypted is not XML of a message")
	}
	return r, nil
}
