// Package login is the domain: one browser's attempt to log in by a QR code that
// somebody scans with WeChat.
//
// While it lives, a login is its scene's row: claiming a scene starts it, and what
// must outlive the scene (a session, a tie) is written in the statement that ends it.
// Every change names the scene and the login that is supposed to hold it, so that a
// late writer can't touch the next holder (fencing).
package login

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"
)

// What can go wrong with a login, as its callers need to tell it apart.
var (
	ErrExhausted = errors.New("login: no free scene")                          // every scene tried is held or resting
	ErrNoTicket  = errors.New("login: no QR ticket from WeChat")               // the code could not be made
	ErrNotReady  = errors.New("login: not scanned yet")                        // or still to be bound
	ErrEnded     = errors.New("login: expired, completed or unknown")          // the key opens nothing (any more)
	ErrTied      = errors.New("login: WeChat user is tied to another account") // somebody was faster
	ErrNotAsked  = errors.New("login: nothing to confirm")                     // this browser is asked for no code
	ErrCode      = errors.New("login: wrong code")                             // typed into the page
)

// State says how far a login has come.
//
//	waiting -> authenticated | bind_required -> completed
//
// or, where a scan has to be confirmed before it counts,
//
//	waiting -> scanned -> authenticated | bind_required -> completed
//	           scanned -> declined
//
// and expired from whatever hasn't ended otherwise.
type State uint8

// The states.
const (
	Waiting       State = iota + 1 // the code is shown
	Scanned                        // by somebody who is asked whether they mean it
	Authenticated                  // scanned by somebody with an account
	BindRequired                   // scanned by somebody without one
	Completed                      // turned into a web session
	Declined                       // by the person who scanned, or by wrong answers
	Expired                        // out of time, or left by its browser
)

func stateNames() []string {
	return []string{"none", "waiting", "scanned", "authenticated", "bind_required", "completed", "declined", "expired"}
}

// Ended reports whether nothing can come after the state.
func (s State) Ended() bool { return s == Completed || s == Declined || s == Expired }

// String is the state's name as the database writes it.
func (s State) String() string { return stateNames()[s] }

// ParseState is the inverse of String; ok is false for a name that is none.
func ParseState(name string) (s State, ok bool) {
	for i, n := range stateNames() {
		if n == name {
			return State(i), i > 0
		}
	}
	return 0, false
}

// ID names a login wherever it has to be named: in its row, in a NOTIFY, in a log.
// It is a digest of the browser's secret, so it fences and it opens nothing.
type ID [16]byte

// String is the ID in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short is enough of the ID to follow one login through the logs.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// LogValue logs the short form.
func (id ID) LogValue() slog.Value { return slog.StringValue(id.Short()) }

// ParseID reads what String wrote.
func ParseID(s string) (id ID, ok bool) {
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}

// Secret is what the browser holds and nobody else: 256 random bits.
type Secret [32]byte

// NewSecret makes one.
func NewSecret() (s Secret) {
	rand.Read(s[:]) // never fails: crypto/rand
	return s
}

// ID of the login that this secret opens.
func (s Secret) ID() (id ID) {
	sum := sha256.Sum256(s[:])
	copy(id[:], sum[:])
	return id
}

const hidden = "[secret]"

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Format keeps the secret out of text, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText keeps the secret out of JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Ref is where a login lives: a scene, and the login that must still hold it.
type Ref struct {
	Scene int32
	ID    ID
}

// Key is what a browser's cookie says: the secret, and the scene to look in.
type Key struct {
	Scene  int32
	Secret Secret
}

// Ref is the place that the key opens.
func (k Key) Ref() Ref { return Ref{k.Scene, k.Secret.ID()} }

// Cookie is the key as a cookie value: base64url of the scene and the secret.
func (k Key) Cookie() string {
	b := binary.BigEndian.AppendUint32(nil, uint32(k.Scene))
	return base64.RawURLEncoding.EncodeToString(append(b, k.Secret[:]...))
}

// ParseKey reads what Cookie wrote; ok is false for anything else.
func ParseKey(s string) (k Key, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 4+len(k.Secret) {
		return Key{}, false
	}
	k.Scene = int32(binary.BigEndian.Uint32(b))
	copy(k.Secret[:], b[4:])
	return k, k.Scene > 0
}

// LogValue keeps the secret out of logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.Secret.ID().Short()) }

// Ticket is WeChat's QR code for a scene: the ticket that its events will carry, and
// the URL to draw.
type Ticket struct {
	Ticket, URL string
}

// Login is what the row says of a login.
type Login struct {
	Ref
	State State
	Ticket
	ExpiresIn time.Duration // how long State may last, by the database's clock
	Question  Question      // what a scanned one waits for; no code and no origin here: it is for the browser
}

// Watch is a login that somebody streams, and the state they were told last.
type Watch struct {
	Ref
	Seen State
}

// Scan is one WeChat user scanning one code.
type Scan struct {
	Scene  int32
	Ticket string
	OpenID string
	Push   []byte // digest of WeChat's push, whose repeats get the answer of the first; empty: none
}

// Session is the web session that a login becomes.
type Session struct {
	Hash     [32]byte // of the token in the browser's cookie
	Replaces [32]byte // of the token that the cookie held before; zero: none
	Browser  string   // its User-Agent; empty: unknown
	Place    string   // roughly where it is; empty: unknown
}

// Owner is an account that has proved to be itself, by the password of so many changes.
type Owner struct {
	ID              int64
	PasswordChanges int32
}

// Outcome is what came of a scan or of an answer, for the words sent to the phone.
type Outcome uint8

// The outcomes.
const (
	Stale       Outcome = iota // no login holds this scene with this ticket: an old code
	LoggedIn                   // the browser may complete
	MustBind                   // the browser asks for an account
	Used                       // somebody else was first
	ToConfirm                  // scanned, and it counts once it is confirmed
	Refused                    // the person doesn't mean it
	WrongNumber                // not the one that the page shows
	WrongThrice                // which ends the login
)

func outcomeNames() []string {
	return []string{"stale", "logged_in", "must_bind", "used", "to_confirm", "declined", "wrong_number", "wrong_thrice"}
}

// String is the outcome's name in logs and in the database.
func (o Outcome) String() string { return outcomeNames()[o] }

// ParseOutcome is the inverse of String; what is none is Stale.
func ParseOutcome(name string) Outcome {
	return Outcome(max(0, slices.Index(outcomeNames(), name)))
}
