package wechatsim

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// keptMessages is how much of a conversation is remembered.
const keptMessages = 50

// User is a person with WeChat.
type User struct {
	OpenID   string `json:"openid"` // as this account knows them
	Name     string `json:"name"`   // on the phone page only: WeChat no longer tells names
	Follower bool   `json:"follower"`
}

// MessageKind says what a line of a conversation is.
type MessageKind string

// What happens between a user and the account.
const (
	Scanned    MessageKind = "scan"     // the user scanned a code; Text is its scene
	Expired    MessageKind = "expired"  // the code had expired; Text is its scene
	Followed   MessageKind = "follow"   // the user followed the account
	Unfollowed MessageKind = "unfollow" // the user left
	Said       MessageKind = "say"      // the user wrote Text
	Replied    MessageKind = "reply"    // the account answered Text
	Sent       MessageKind = "message"  // the account wrote Text by itself
	Failed     MessageKind = "failure"  // WeChat says that the account doesn't work
)

// Message is one line of a conversation between a user and the account.
type Message struct {
	Kind MessageKind `json:"kind"`
	Text string      `json:"text,omitempty"`
	At   time.Time   `json:"at"`
}

type person struct {
	User
	messages []Message   // oldest first, at most keptMessages
	allowed  []allowance // what the account may write by itself
}

// people holds the users. Its methods want the server's lock.
type people struct {
	byOpenID map[string]*person
	byName   map[string]*person
	order    []*person // as added
}

func newPeople() people {
	return people{byOpenID: map[string]*person{}, byName: map[string]*person{}}
}

// openID derives a user's openid: 28 characters that begin with o, always the same
// for a name and an account, so that a database outlives the simulator.
func openID(appID, name string) string {
	sum := sha256.Sum256([]byte(appID + "\x00" + name))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}

// AddUser adds a user, or returns the one who has that name already, as they are.
func (s *Server) AddUser(name string, follower bool) User {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.users.byName[name]; p != nil {
		return p.User
	}
	p := &person{User: User{OpenID: openID(s.cfg.AppID, name), Name: name, Follower: follower}}
	s.users.byName[name] = p
	s.users.byOpenID[p.OpenID] = p
	s.users.order = append(s.users.order, p)
	s.version++
	return p.User
}

// Users returns everybody, in the order in which they were added.
func (s *Server) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]User, len(s.users.order))
	for i, p := range s.users.order {
		out[i] = p.User
	}
	return out
}

// Messages returns the last lines of a user's conversation, oldest first.
func (s *Server) Messages(openid string) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.users.byOpenID[openid]
	if p == nil {
		return nil, ErrUnknownUser
	}
	return append([]Message(nil), p.messages...), nil
}

// userByName returns the user with that name.
func (s *Server) userByName(name string) (User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.users.byName[name]
	if p == nil {
		return User{}, ErrUnknownUser
	}
	return p.User, nil
}

func (s *Server) userByOpenID(openid string) (User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.users.byOpenID[openid]
	if p == nil {
		return User{}, ErrUnknownUser
	}
	return p.User, nil
}

// note adds a line to a conversation. It wants the server's lock.
func (s *Server) note(p *person, kind MessageKind, text string) {
	if len(p.messages) == keptMessages {
		p.messages = p.messages[1:]
	}
	p.messages = append(p.messages, Message{Kind: kind, Text: text, At: time.Now()})
	s.version++
}
