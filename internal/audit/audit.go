// Package audit says what is kept of what happens: which kinds of events there are, and
// where they come from.
//
// What was done is written by the store itself, together with the deed. What was refused
// goes through a [Recorder].
package audit

import (
	"context"
	"net/netip"
	"time"
)

// Kind is what has happened.
type Kind string

// The kinds. Those up to Logout are of what was done.
const (
	Scan            Kind = "scan"             // of a code; the detail says what came of it, see login.Outcome
	Confirm         Kind = "confirm"          // a scan was confirmed
	Decline         Kind = "decline"          // or is not meant by the person who scanned
	WrongConfirm    Kind = "wrong_confirm"    // a wrong number or code; the third is the end
	Login           Kind = "login"            // a session has begun, by "scan", "bind" or "password"
	Bind            Kind = "bind"             // a WeChat user was tied to an account
	Unbind          Kind = "unbind"           // and no longer is
	Unfollow        Kind = "unfollow"         // a WeChat user who is tied to an account has left
	Signup          Kind = "signup"           // an account was made
	PasswordChanged Kind = "password_changed" // and has another password
	Revoke          Kind = "revoke"           // sessions were ended from elsewhere, so many times
	Logout          Kind = "logout"           // a session was ended by its browser
	SignInFailed    Kind = "sign_in_failed"   // a wrong password, or a name that nobody has, at "login", "bind" or "password"
	Limited         Kind = "limited"          // somebody did too much; the detail names the limit
	Forged          Kind = "forged"           // a callback that isn't WeChat's, or not for us; the detail is the answer's code
)

// Kinds are all kinds.
func Kinds() []Kind {
	return []Kind{
		Scan, Confirm, Decline, WrongConfirm, Login, Bind, Unbind, Unfollow, Signup, PasswordChanged, Revoke, Logout,
		SignInFailed, Limited, Forged,
	}
}

// Where is where something comes from. The zero value is unknown.
type Where struct {
	Addr    netip.Addr // of the browser
	Browser string     // its User-Agent, or which command it was
	Place   string     // roughly where that is, as a trusted proxy says
}

type whereKey struct{}

// With returns a context for all that comes from there.
func With(ctx context.Context, w Where) context.Context { return context.WithValue(ctx, whereKey{}, w) }

// From returns where what is done in this context comes from.
func From(ctx context.Context) Where {
	w, _ := ctx.Value(whereKey{}).(Where)
	return w
}

// Row is one of the log.
type Row struct {
	At        time.Time  `json:"at"`
	ID        int64      `json:"id"`
	Kind      Kind       `json:"kind"`
	Detail    string     `json:"detail,omitempty"`
	Login     string     `json:"login,omitempty"` // in hex
	AccountID int64      `json:"account_id,omitempty"`
	Account   string     `json:"account,omitempty"` // as it was called then
	Person    string     `json:"person,omitempty"`
	Address   netip.Addr `json:"address,omitzero"`
	Browser   string     `json:"browser,omitempty"`
	Place     string     `json:"place,omitempty"`
	Instance  string     `json:"instance"`
	Times     int32      `json:"times"` // how often it happened
}

// Filter is which rows are asked for. What is empty asks for all.
type Filter struct {
	Since, Until time.Time
	Kind         Kind
	Account      string // without regard to case
	Login        string // or how it begins, in hex
	Network      netip.Prefix
	Instance     string
	Person       string
	OpenID       string // of any Official Account that the database knows
	Most         int32  // rows, the newest of them
}

// Moment is one in the history of the log, as the store knows it: what was written by then
// can be told from what wasn't, in whatever order it became visible. Empty: before all.
type Moment string
