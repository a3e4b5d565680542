package limit

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// The limits by name, as they are told and counted.
const (
	codes            = "codes"
	codesNetwork     = "codes_network"
	codesDay         = "codes_day"
	passwords        = "passwords"
	passwordsAccount = "passwords_account"
	passwordsAddress = "passwords_address"
	signups          = "signups"
	scans            = "scans"
	tabs             = "tabs"
)

// Names are all limits.
func Names() []string {
	return []string{codes, codesNetwork, codesDay, passwords, passwordsAccount, passwordsAddress, signups, scans, tabs}
}

// Rules are how much is let through.
type Rules struct {
	Codes        Rate // new codes for one address
	CodesNetwork Rate // new codes for one network
	CodesDay     Rate // codes that one network was given

	Passwords        Rate // wrong passwords for one account, by one browser that is known there, or one network
	PasswordsAccount Rate // wrong passwords for one account, by all whom it doesn't know
	PasswordsAddress Rate // wrong passwords from one address
	Signups          Rate // new accounts from one address

	Scans Rate // by one phone
}

// Memory is how long something of the past may still count.
func (r Rules) Memory() time.Duration { return max(r.Passwords.Per, time.Minute) }

// Limiter tells who has to wait. A nil one lets everybody through.
type Limiter struct {
	Store  Store
	Secret [32]byte // of the digests; the same for all instances
	Rules  Rules
	// Refused, where it isn't nil, hears of each refusal.
	Refused func(ctx context.Context, r Refusal)
	Logger  *slog.Logger

	failing atomic.Bool // so that an outage is told once
}

// patience is how long somebody waits for an answer whom nothing keeps from going on
// without one.
const patience = time.Second

// Code counts a new code for this address; a [Refusal]. Where the store doesn't answer it
// lets them through: the pool is a bound of its own, and most often the same store.
func (l *Limiter) Code(ctx context.Context, from netip.Addr) error {
	if l == nil {
		return nil
	}
	return l.leniently(ctx, []ask{
		{limit: codes, rate: l.Rules.Codes, whom: about(address(from))},
		{limit: codesNetwork, rate: l.Rules.CodesNetwork, whom: about(network(from))},
		{limit: codesDay, rate: l.Rules.CodesDay, whom: about(network(from))},
	})
}

// NoCode takes back what Code counted of the day: there was none to give. That somebody
// asked still counts.
func (l *Limiter) NoCode(ctx context.Context, from netip.Addr) {
	if l == nil {
		return
	}
	l.giveBack(ctx, []ask{{limit: codesDay, rate: l.Rules.CodesDay, whom: about(network(from))}})
}

// Signup counts a new account from this address; a [Refusal].
func (l *Limiter) Signup(ctx context.Context, from netip.Addr) error {
	if l == nil {
		return nil
	}
	return l.leniently(ctx, []ask{{limit: signups, rate: l.Rules.Signups, whom: about(address(from))}})
}

// Scan counts a scan by this phone; a [Refusal].
func (l *Limiter) Scan(ctx context.Context, openid string) error {
	if l == nil {
		return nil
	}
	return l.leniently(ctx, []ask{{limit: scans, rate: l.Rules.Scans, whom: []string{openid}, openID: openid}})
}

// Tab notes that a login has as many streams as it may have. They are counted by whoever
// keeps them.
func (l *Limiter) Tab(ctx context.Context, wait time.Duration) error {
	return l.refuse(ctx, ask{limit: tabs}, wait)
}

// Try is a password that is about to be checked.
type Try struct {
	limiter *Limiter
	asks    []ask
}

// Password counts a try at an account before it is made, so that many at once are no way
// around it; a [Refusal], or the store's error: where nobody counts, nobody guesses. token
// is what [Limiter.Remember] gave this browser, if anything.
//
// Whoever doesn't know the account's password can use up what strangers may try at it, but
// not what a browser may that has signed in to it before.
func (l *Limiter) Password(ctx context.Context, name string, from netip.Addr, token string) (Try, error) {
	if l == nil {
		return Try{}, nil
	}
	tried, name := name, fold(name)
	t := Try{l, []ask{{limit: passwordsAddress, rate: l.Rules.PasswordsAddress, whom: about(address(from))}}}
	if browser, known := l.knows(name, token); known {
		t.asks = append(t.asks, ask{limit: passwords, rate: l.Rules.Passwords, whom: []string{"browser", browser}, account: tried})
	} else {
		t.asks = append(t.asks,
			ask{limit: passwords, rate: l.Rules.Passwords, whom: append(about(network(from)), name), account: tried},
			ask{limit: passwordsAccount, rate: l.Rules.PasswordsAccount, whom: []string{name}, account: tried})
	}
	return t, l.take(ctx, t.asks)
}

// Right takes the try back: the password was right.
func (t Try) Right(ctx context.Context) {
	if t.limiter != nil {
		t.limiter.giveBack(ctx, t.asks)
	}
}

// Remember returns a token for a browser that has signed in to this account: it is known
// there from now on. Empty: there is nothing to remember. (A device cookie, as in OWASP's
// "Slow Down Online Guessing Attacks with Device Cookies".)
func (l *Limiter) Remember(name string) string {
	if l == nil {
		return ""
	}
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails: crypto/rand
	signature := l.sign(fold(name), string(nonce))
	return base64.RawURLEncoding.EncodeToString(append(nonce, signature[:]...))
}

const nonceBytes = 16

// knows returns which browser a token of ours belongs to. Several texts may decode to one
// token, so the text is no name for it.
func (l *Limiter) knows(name, token string) (browser string, known bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != nonceBytes+len(Key{}) {
		return "", false
	}
	browser = string(b[:nonceBytes])
	want := l.sign(name, browser)
	return browser, subtle.ConstantTimeCompare(b[nonceBytes:], want[:]) == 1
}

func (l *Limiter) sign(name, nonce string) Key { return l.key("remembered", nonce, name) }

// ask is one limit that something counts for.
type ask struct {
	limit string
	rate  Rate
	whom  []string

	account, openID string // as in [Refusal]
}

// take counts all or none.
func (l *Limiter) take(ctx context.Context, asks []ask) error {
	asks, counts := l.counts(asks)
	if len(counts) == 0 {
		return nil
	}
	waits, err := l.Store.Take(ctx, counts)
	if err != nil {
		return fmt.Errorf("limit: counting: %w", err)
	}
	longest := 0
	for i := range waits {
		if waits[i] > waits[longest] {
			longest = i
		}
	}
	if waits[longest] > 0 {
		return l.refuse(ctx, asks[longest], waits[longest])
	}
	return nil
}

func (l *Limiter) refuse(ctx context.Context, a ask, wait time.Duration) error {
	r := Refusal{Limit: a.limit, Wait: wait, Account: a.account, OpenID: a.openID}
	if l != nil && l.Refused != nil {
		l.Refused(ctx, r)
	}
	return &r
}

// leniently is take for what may go on where nobody can count.
func (l *Limiter) leniently(ctx context.Context, asks []ask) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := l.take(ctx, asks)
	if err == nil || errors.Is(err, ErrRefused) {
		l.failing.Store(false)
		return err
	}
	if !errors.Is(err, context.Canceled) && !l.failing.Swap(true) {
		l.Logger.WarnContext(ctx, "codes, sign-ups and scans are not limited while this lasts", "err", err)
	}
	return nil
}

// giveBack is for the benefit of who comes next; they can do without.
func (l *Limiter) giveBack(ctx context.Context, asks []ask) {
	_, counts := l.counts(asks)
	if len(counts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := l.Store.GiveBack(ctx, counts); err != nil {
		l.Logger.DebugContext(ctx, "what was counted is not given back", "err", err)
	}
}

// counts leaves out what isn't limited.
func (l *Limiter) counts(asks []ask) (limited []ask, counts []Count) {
	for _, a := range asks {
		if a.rate.Limited() {
			limited, counts = append(limited, a), append(counts, Count{l.key(append([]string{a.limit}, a.whom...)...), a.rate})
		}
	}
	return limited, counts
}

// key is a digest of the parts; parts that are cut elsewhere have another.
func (l *Limiter) key(parts ...string) (k Key) {
	mac := hmac.New(sha256.New, l.Secret[:])
	for _, p := range parts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		mac.Write([]byte(p))
	}
	copy(k[:], mac.Sum(nil))
	return k
}

// address is who somebody is by their address: of IPv6 a /64, which is what one connection
// is given.
func address(a netip.Addr) netip.Prefix { return prefix(a, 32, 64) }

// network is with whom somebody shares their provider's or their company's network: there
// are more addresses where one came from.
func network(a netip.Addr) netip.Prefix { return prefix(a, 24, 48) }

// prefix of no address is the one that all share of whom we don't know any.
func prefix(a netip.Addr, v4, v6 int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := v6
	if a.Is4() {
		bits = v4
	}
	p, _ := a.Prefix(bits)
	return p
}

func about(p netip.Prefix) []string { return []string{p.String()} }

// fold makes one name of all under which an account is found: they are compared without
// case, by the database. Its own idea of that may be wider than Unicode's, so this one is.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == 'İ' || r == 'ı' {
			return 'i'
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return unicode.ToLower(least)
	}, strings.TrimSpace(name))
}
