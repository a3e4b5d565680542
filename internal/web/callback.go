package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"scanlogin/internal/audit"
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
	arrived := time.Now()
	m, body, err := s.readPush(r)
	var verdict string
	if err == nil {
		s.heard.Store(arrived.UnixMilli())
		verdict, err = s.answerPush(login.Arrived(r.Context(), arrived), w, r, m, body)
	}
	if err != nil {
		verdict = refusal(err)
		s.noteForged(r, err)
	}
	s.Metrics.callback(m, verdict)
	return err
}

func (s *Server) readPush(r *http.Request) (wechat.Message, []byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return wechat.Message{}, nil, fmt.Errorf("%w: %w", errMalformed, err) // too large is malformed, to WeChat
	}
	m, err := s.Callback.Read(r.URL.Query(), body)
	return m, body, err
}

// answerPush returns in a word what came of it.
func (s *Server) answerPush(ctx context.Context, w http.ResponseWriter, r *http.Request, m wechat.Message, body []byte) (verdict string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackDeadline)
	defer cancel()
	text, err := through(ctx, &s.callbacks, func() (words, error) { return s.answer(ctx, m) })
	if err != nil {
		return "", err
	}
	if s.Forward != nil && !text.ours {
		var reply []byte
		if reply, text.verdict = s.forward(ctx, r, body); len(reply) > 0 {
			return text.verdict, writeReply(w, reply)
		}
	}
	reply, err := s.Callback.Reply(m, text.text)
	if err != nil {
		return "", err
	}
	return text.verdict, writeReply(w, reply)
}

// noteForged tells the audit log of what isn't WeChat's, or not for us.
func (s *Server) noteForged(r *http.Request, err error) {
	if a := answerTo(err); a.status == http.StatusForbidden {
		s.Audit.Note(s.traced(r.Context(), r), audit.Event{Kind: audit.Forged, Detail: a.code})
	}
}

func writeReply(w http.ResponseWriter, reply []byte) error {
	w.Header().Set("Content-Type", replyType(reply))
	_, err := w.Write(reply)
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

// words are what the phone is told, empty for nothing.
type words struct {
	text    string
	ours    bool   // the push was about a login: nobody else's to see and to answer
	verdict string // what came of it, in a word
}

// forward passes a push on and returns the reply, empty where there is none, and the verdict.
// A receiver that is slow or dead is no reason for WeChat to push again: it would only get more.
func (s *Server) forward(ctx context.Context, r *http.Request, body []byte) (reply []byte, verdict string) {
	reply, err := s.Forward.Forward(ctx, r.URL.Query(), r.Header.Get("Content-Type"), body)
	if err != nil {
		s.Logger.WarnContext(ctx, "a push was not forwarded", "err", err)
		return nil, "forward_failed"
	}
	if string(reply) == "success" {
		reply = nil // nothing to say: we may have
	}
	return reply, "forwarded"
}

// answer does what a push asks for and returns the words for the phone. A push that was
// answered before gets the same answer. What is not about a login, messages, menus, and
// following without a code, another system may want to see and answer.
func (s *Server) answer(ctx context.Context, m wechat.Message) (words, error) {
	if m.Probe() {
		return words{ours: true, verdict: "acknowledged"}, nil
	}
	if err := s.learn(ctx, m); err != nil {
		return words{}, err
	}
	push := digest(m)
	if scene, ok := m.Scan(); ok {
		return s.answerScan(ctx, m, login.Scan{Scene: scene, Ticket: m.Ticket, OpenID: m.FromUserName, Push: push})
	}
	if m.MsgType == "text" && s.Logins.Confirm != login.ConfirmOff {
		return s.answerText(ctx, m, push)
	}
	return s.answerOther(ctx, m, push)
}

func (s *Server) answerScan(ctx context.Context, m wechat.Message, scan login.Scan) (words, error) {
	if err := s.Limits.Scan(ctx, scan.OpenID); err != nil {
		return words{"", true, "limited"}, nil //nolint:nilerr // acknowledged, or WeChat would push it twice more
	}
	o, err := s.Logins.Scanned(ctx, scan)
	if err != nil {
		return words{}, unstored{err}
	}
	switch o {
	case login.ToConfirm:
		text, err := s.ask(ctx, m, scan)
		return words{text, true, o.String()}, err
	case login.Stale, login.Used: // of what it has changed the store takes note
		s.Audit.Note(ctx, audit.Event{Kind: audit.Scan, Detail: o.String(), Person: s.Audit.Person(scan.OpenID)})
	}
	reply, origin := outcomeReply(o), login.Origin{}
	if s.wantsOrigin(reply) {
		if origin, err = s.Logins.OriginOf(ctx, scan); err != nil {
			s.Logger.WarnContext(ctx, "a reply goes without the origin", "err", err)
		}
	}
	return words{s.say(reply, m.CreateTime, login.Question{Origin: origin}), true, o.String()}, nil
}

// ask is what the person is asked before the scan counts. A repeat of the push may come when
// that is over.
func (s *Server) ask(ctx context.Context, m wechat.Message, scan login.Scan) (string, error) {
	q, err := s.Logins.QuestionTo(ctx, scan)
	switch {
	case errors.Is(err, login.ErrEnded):
		return s.say(ReplyExpired, m.CreateTime, q), nil
	case err != nil:
		return "", unstored{err}
	case q.By == login.ConfirmCode:
		return s.say(ReplyConfirmCode, m.CreateTime, q), nil
	}
	return s.say(ReplyConfirm, m.CreateTime, q), nil
}

// answerText is for a message of somebody who may be asked to confirm a login; else it is
// not about one.
func (s *Server) answerText(ctx context.Context, m wechat.Message, push []byte) (words, error) {
	v, err := s.Logins.Answered(ctx, login.Answer{OpenID: m.FromUserName, Text: m.Content, Push: push})
	switch {
	case errors.Is(err, login.ErrNotAsked):
		return words{verdict: "acknowledged"}, nil
	case err != nil:
		return words{}, unstored{err}
	}
	return words{s.say(outcomeReply(v.Outcome), m.CreateTime, login.Question{Origin: v.Origin}), true, v.Outcome.String()}, nil
}

func (s *Server) answerOther(ctx context.Context, m wechat.Message, push []byte) (words, error) {
	kept, ok, err := s.Pushes.Reply(ctx, push)
	if err != nil {
		return words{}, unstored{err}
	}
	if ok {
		return words{kept, false, "duplicate"}, nil
	}
	text, err := s.react(ctx, m)
	if err == nil && m.MsgType == "event" {
		err = s.Pushes.Save(ctx, push, text)
	}
	if err != nil {
		return words{}, unstored{err}
	}
	return words{text, false, "acknowledged"}, nil
}

// learn remembers what the account calls itself. A plain push proves nothing: its
// signature doesn't cover what it says. Another instance may have learned another name
// before, which counts then.
func (s *Server) learn(ctx context.Context, m wechat.Message) error {
	if s.Learn == nil || s.Callback.Cipher == nil {
		return nil
	}
	if err := s.Learn(ctx, m.ToUserName); err != nil {
		return unstored{err}
	}
	if known := s.Callback.Known(); known != "" && known != m.ToUserName {
		return wechat.ErrForeignAccount
	}
	return nil
}

// react does what a push asks for that isn't a scan.
func (s *Server) react(ctx context.Context, m wechat.Message) (string, error) {
	person := login.PersonOf(s.Callback.AppID, m.FromUserName)
	s.Logger.InfoContext(ctx, "push from WeChat", "type", m.MsgType, "event", m.Event, "person", person)
	if m.MsgType != "event" {
		return "", nil
	}
	switch strings.ToLower(m.Event) {
	case "subscribe":
		// Also who scanned a code and followed when it had expired, and since 2023 some
		// who followed by a fresh one: WeChat leaves the key out at times.
		return s.say(ReplyWelcome, m.CreateTime, login.Question{}), nil
	case "unsubscribe":
		sessions, err := s.Accounts.Unfollowed(ctx, m.FromUserName, !s.KeepTies)
		if err != nil {
			return "", err
		}
		s.Metrics.sessionEnded("unfollowed", sessions)
		s.Logger.InfoContext(ctx, "a WeChat user has unfollowed", "person", person, "sessions_ended", sessions, "tie_kept", s.KeepTies)
	}
	return "", nil
}

// digest names a push: WeChat's retries have a new timestamp and nonce, and the same facts.
func digest(m wechat.Message) []byte {
	b := strconv.AppendQuote(make([]byte, 0, 512), m.FromUserName)
	b = strconv.AppendInt(append(b, ' '), m.CreateTime, 10)
	b = strconv.AppendQuote(append(b, ' '), strings.ToLower(m.Event))
	b = strconv.AppendQuote(append(b, ' '), m.EventKey)
	b = strconv.AppendQuote(append(b, ' '), m.Ticket)
	b = strconv.AppendInt(append(b, ' '), m.MsgID, 10)
	sum := sha256.Sum256(b)
	return sum[:]
}

func outcomeReply(o login.Outcome) Reply {
	switch o {
	case login.LoggedIn:
		return ReplyLoggedIn
	case login.MustBind:
		return ReplyGoBind
	case login.Used:
		return ReplyUsed
	case login.Refused:
		return ReplyDeclined
	case login.WrongNumber:
		return ReplyWrongNumber
	case login.WrongThrice:
		return ReplyWrongThrice
	case login.Stale, login.ToConfirm: // which ask says
	}
	return ReplyExpired
}
