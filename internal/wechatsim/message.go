package wechatsim

import (
	"net/http"
	"slices"
	"time"
)

// maxMessage is how many bytes of text a message may have.
const maxMessage = 2048

// allowance is what the account may still write to a user after something that the user did.
type allowance struct {
	until time.Time
	left  int
}

// What each of the user's acts allows. Source:
// developers.weixin.qq.com/doc/service/api/customer/message/api_sendcustommessage
const (
	allowedByText = 5 // within wroteWindow
	allowedByAct  = 3 // following, scanning; within actedWindow
	wroteWindow   = 48 * time.Hour
	actedWindow   = time.Minute
)

// allow lets the account write to p. It wants the server's lock.
func (p *person) allow(messages int, within time.Duration) {
	now := time.Now()
	p.allowed = slices.DeleteFunc(p.allowed, func(a allowance) bool { return !now.Before(a.until) })
	p.allowed = append(p.allowed, allowance{now.Add(within), messages})
}

// spend takes a message from what is allowed: the one that ends first. It returns the
// errcode of what is not.
func (p *person) spend() int {
	now, code := time.Now(), codeOutOfTime
	if !p.Follower {
		return code
	}
	var first *allowance
	for i := range p.allowed {
		a := &p.allowed[i]
		if !now.Before(a.until) {
			continue
		}
		code = codeOutOfCount
		if a.left > 0 && (first == nil || a.until.Before(first.until)) {
			first = a
		}
	}
	if first == nil {
		return code
	}
	first.left--
	return 0
}

// CloseWindow lets the time pass in which the account may write to this user: a message to
// them gets 45015 until they do something again.
func (s *Server) CloseWindow(openid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.users.byOpenID[openid]
	if p == nil {
		return ErrUnknownUser
	}
	p.allowed = nil
	return nil
}

type messageRequest struct {
	To   string `json:"touser"`
	Type string `json:"msgtype"`
	Text struct {
		Content string `json:"content"`
	} `json:"text"`
}

// apiSend is POST /cgi-bin/message/custom/send, for texts.
func (s *Server) apiSend(r *http.Request) (any, error) {
	var q messageRequest
	if err := readJSON(r, &q); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.users.byOpenID[q.To]
	switch {
	case p == nil:
		return nil, apiError(codeOpenID)
	case q.Type != "text":
		return nil, apiError(codeMessageType)
	case q.Text.Content == "":
		return nil, apiError(codeEmptyContent)
	case len(q.Text.Content) > maxMessage:
		return nil, apiError(codeContentSize)
	}
	if code := p.spend(); code != 0 {
		return nil, apiError(code)
	}
	s.stats.Messages++
	s.note(p, Sent, q.Text.Content)
	return map[string]any{"errcode": 0, "errmsg": "ok"}, nil
}
