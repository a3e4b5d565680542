package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"scanlogin/internal/login"
	"scanlogin/internal/wechat"
)

// WeChat drops a push after 5 s and tries again, so there is no use in working longer.
const callbackDeadline = 4 * time.Second

// verifyCallback answers WeChat's question whether this is our server.
func (s *Server) verifyCallback(w http.ResponseWriter, r *http.Request) error {
	echo, err := s.Callback.VerifyURL(r.URL.Query())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = io.WriteString(w, echo)
	return err
}

// callback takes a push. It is answered when what it says is stored and the instances
// were told; an error makes WeChat push it again.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err) // too large is malformed, to WeChat
	}
	m, err := s.Callback.Read(r.URL.Query(), body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callbackDeadline)
	defer cancel()
	text, err := s.react(ctx, m)
	if err != nil {
		return err
	}
	reply, err := s.Callback.Reply(m, text)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", replyType(reply))
	_, err = w.Write(reply)
	return err
}

func replyType(reply []byte) string {
	switch reply[0] {
	case '<':
		return "application/xml; charset=utf-8"
	case '{':
		return "application/json; charset=utf-8"
	}
	return "text/plain; charset=utf-8"
}

// react does what a push asks for and returns the words for the phone, empty for none.
func (s *Server) react(ctx context.Context, m wechat.Message) (string, error) {
	if scene, ok := m.Scan(); ok {
		o, err := s.Logins.Scanned(ctx, login.Scan{Scene: scene, Ticket: m.Ticket, OpenID: m.FromUserName})
		if err != nil {
			return "", unstored{err}
		}
		return s.replyText(o), nil
	}
	s.Logger.InfoContext(ctx, "push from WeChat", "type", m.MsgType, "event", m.Event)
	if strings.EqualFold(m.Event, "subscribe") {
		return phoneWelcome(s.site()), nil
	}
	return "", nil
}

func (s *Server) replyText(o login.Outcome) string {
	switch o {
	case login.LoggedIn:
		return phoneLoggedIn(s.site())
	case login.MustBind:
		return phoneGoBind(s.site())
	case login.Used:
		return phoneUsed()
	case login.Stale:
	}
	return phoneExpired()
}
