package wechatsim

import (
	"context"
	"strconv"
	"time"
)

// Scan scans the code with ticket with the user's phone. A follower causes SCAN;
// anybody else follows the account by that and causes subscribe. It returns when
// the account has answered or WeChat has given up, within about 17 s; when ctx
// ends before, the push goes on without the caller.
//
// Errors: [ErrUnknownUser], [ErrUnknownCode], [ErrCodeExpired] (the phone says so,
// nothing is pushed), [ErrNoCallback], [ErrClosed].
func (s *Server) Scan(ctx context.Context, openid, ticket string) (Delivery, error) {
	loseScene := s.loseSceneOf(openid)
	s.mu.Lock()
	p, code := s.users.byOpenID[openid], s.codes.byTicket[ticket]
	switch {
	case p == nil:
		s.mu.Unlock()
		return Delivery{}, ErrUnknownUser
	case code == nil:
		s.mu.Unlock()
		return Delivery{}, ErrUnknownCode
	case code.Expired(time.Now()):
		s.note(p, Expired, code.scene())
		s.mu.Unlock()
		return Delivery{}, ErrCodeExpired
	}
	code.Scans++
	e := event{openid: openid, created: time.Now(), name: "SCAN", key: code.scene(), ticket: code.Ticket}
	s.note(p, Scanned, code.scene())
	p.allow(allowedByAct, actedWindow)
	if !p.Follower {
		e.name, e.key = "subscribe", "qrscene_"+code.scene()
		s.follow(p)
		if loseScene {
			e.key, e.ticket = "", ""
		}
	}
	s.mu.Unlock()
	return s.push(ctx, e)
}

// loseSceneOf spends the fault of lost scenes on somebody who is about to follow.
func (s *Server) loseSceneOf(openid string) bool {
	u, err := s.userByOpenID(openid)
	return err == nil && !u.Follower && s.loseScene()
}

// Follow makes the user a follower without any code, as by a search in WeChat.
// Errors: [ErrUnknownUser], [ErrFollower], [ErrNoCallback], [ErrClosed].
func (s *Server) Follow(ctx context.Context, openid string) (Delivery, error) {
	return s.act(ctx, openid, func(p *person) (event, error) {
		if p.Follower {
			return event{}, ErrFollower
		}
		s.follow(p)
		return event{name: "subscribe"}, nil
	})
}

// follow wants the server's lock.
func (s *Server) follow(p *person) {
	p.Follower = true
	p.allow(allowedByAct, actedWindow)
	s.note(p, Followed, "")
}

// Unsubscribe makes the user leave the account. The phone shows no reply to that.
// Errors: [ErrUnknownUser], [ErrNotFollower], [ErrNoCallback], [ErrClosed].
func (s *Server) Unsubscribe(ctx context.Context, openid string) (Delivery, error) {
	return s.act(ctx, openid, func(p *person) (event, error) {
		if !p.Follower {
			return event{}, ErrNotFollower
		}
		p.Follower, p.allowed = false, nil
		s.note(p, Unfollowed, "")
		return event{name: "unsubscribe"}, nil
	})
}

// Say sends the account a text from the user.
// Errors: [ErrUnknownUser], [ErrNotFollower], [ErrNoCallback], [ErrClosed].
func (s *Server) Say(ctx context.Context, openid, text string) (Delivery, error) {
	return s.act(ctx, openid, func(p *person) (event, error) {
		if !p.Follower {
			return event{}, ErrNotFollower
		}
		s.note(p, Said, text)
		p.allow(allowedByText, wroteWindow)
		s.sent++
		id := time.Now().UnixMilli()<<20 | int64(s.sent&0xfffff) // 20 bits
		return event{text: text, msgID: strconv.FormatInt(id, 10)}, nil
	})
}

// act changes the user under the lock and pushes what change returns.
func (s *Server) act(ctx context.Context, openid string, change func(*person) (event, error)) (Delivery, error) {
	s.mu.Lock()
	p := s.users.byOpenID[openid]
	if p == nil {
		s.mu.Unlock()
		return Delivery{}, ErrUnknownUser
	}
	e, err := change(p)
	s.mu.Unlock()
	if err != nil {
		return Delivery{}, err
	}
	e.openid, e.created = openid, time.Now()
	return s.push(ctx, e)
}
