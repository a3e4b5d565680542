package limit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// memory is a [Store] in memory that counts to a burst and no further.
type memory struct {
	used map[Key]int32
	err  error
}

func (m *memory) Take(_ context.Context, counts []Count) ([]time.Duration, error) {
	waits := make([]time.Duration, len(counts))
	if m.err != nil {
		return nil, m.err
	}
	full := false
	for i, c := range counts {
		if m.used[c.Key] >= c.Rate.Burst {
			waits[i], full = c.Rate.Step(), true
		}
	}
	for _, c := range counts {
		if !full {
			m.used[c.Key]++
		}
	}
	return waits, nil
}

func (m *memory) GiveBack(_ context.Context, counts []Count) error {
	for _, c := range counts {
		if m.used[c.Key]--; c.Rate.Growing {
			delete(m.used, c.Key)
		}
	}
	return m.err
}

func newLimiter(rules Rules) (*Limiter, *memory, *bytes.Buffer) {
	var log bytes.Buffer
	m := &memory{used: map[Key]int32{}}
	return &Limiter{Store: m, Rules: rules, Logger: slog.New(slog.NewTextHandler(&log, nil))}, m, &log
}

func of(burst int32) Rate { return Rate{Burst: burst, Per: time.Hour} }

func by(err error) string {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Limit
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

var (
	home  = netip.MustParseAddr("192.0.2.7")
	next  = netip.MustParseAddr("192.0.2.8")    // in its network
	away  = netip.MustParseAddr("198.51.100.7") // in another
	wrong = "wrong"
)

func TestAddressesAndNetworks(t *testing.T) {
	for _, tt := range []struct{ addr, address, network string }{
		{"192.0.2.7", "192.0.2.7/32", "192.0.2.0/24"},
		{"::ffff:192.0.2.7", "192.0.2.7/32", "192.0.2.0/24"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"fe80::1%eth0", "fe80::/64", "fe80::/48"},
	} {
		a := netip.MustParseAddr(tt.addr)
		if got := address(a).String() + " " + network(a).String(); got != tt.address+" "+tt.network {
			t.Errorf("%s: %s, want %s %s", tt.addr, got, tt.address, tt.network)
		}
	}
	if address(netip.Addr{}) != network(netip.Addr{}) { // and no panic
		t.Error("no address is in some network")
	}
}

func TestCodesAreCountedForAddressNetworkAndDay(t *testing.T) {
	for limit, rules := range map[string]Rules{
		codes:        {Codes: of(2), CodesNetwork: of(9), CodesDay: of(9)},
		codesNetwork: {Codes: of(9), CodesNetwork: of(2), CodesDay: of(9)},
		codesDay:     {Codes: of(9), CodesNetwork: of(9), CodesDay: of(2)},
	} {
		l, _, _ := newLimiter(rules)
		var heard string
		l.Refused = func(_ context.Context, r Refusal) { heard += r.Limit }
		for range 2 {
			if err := l.Code(t.Context(), home); err != nil {
				t.Errorf("%s: %v", limit, err)
			}
		}
		if err := l.Code(t.Context(), home); by(err) != limit || heard != limit || !errors.Is(err, ErrRefused) {
			t.Errorf("%s: refused by %q, heard of %q", limit, by(err), heard)
		}
		if err := l.Code(t.Context(), next); (err == nil) != (limit == codes) {
			t.Errorf("%s: somebody in the network: %v", limit, err)
		}
		if err := l.Code(t.Context(), away); err != nil {
			t.Errorf("%s: somebody else: %v", limit, err)
		}
		l.NoCode(t.Context(), home)
		if err := l.Code(t.Context(), home); (err == nil) != (limit == codesDay) {
			t.Errorf("%s: after a code that couldn't be made: %v", limit, err)
		}
	}
}

func TestNothingIsLimitedWhereAllIsOff(t *testing.T) {
	l, m, _ := newLimiter(Rules{})
	for _, l := range []*Limiter{l, nil} {
		for range 100 {
			try, err := l.Password(t.Context(), "ann", home, "")
			if err := errors.Join(err, l.Code(t.Context(), home), l.Signup(t.Context(), home), l.Scan(t.Context(), "o1")); err != nil {
				t.Fatal(err)
			}
			try.Right(t.Context())
			l.NoCode(t.Context(), home)
		}
	}
	if len(m.used) != 0 {
		t.Errorf("%d keys are counted", len(m.used))
	}
	if token := (*Limiter)(nil).Remember("ann"); token != "" {
		t.Errorf("without limits a browser is given %q", token)
	}
}

func passwordRules() Rules {
	pair := of(3)
	pair.Growing = true
	return Rules{Passwords: pair, PasswordsAccount: of(6), PasswordsAddress: of(9)}
}

// try is a password that is wrong unless it is right.
func try(t *testing.T, l *Limiter, name string, from netip.Addr, token, password string) string {
	t.Helper()
	guess, err := l.Password(t.Context(), name, from, token)
	if err == nil && password != wrong {
		guess.Right(t.Context())
	}
	return by(err)
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: refused by %q, want %q", what, got, want)
	}
}

func TestWrongPasswordsAreCountedAndRightOnesAreNot(t *testing.T) {
	l, _, _ := newLimiter(passwordRules())
	for range 50 {
		want(t, "a right one", try(t, l, "ann", home, "", "right"), "")
	}
	for range 2 {
		want(t, "a wrong one", try(t, l, "ann", home, "", wrong), "")
	}
	want(t, "a right one after it", try(t, l, "ann", home, "", "right"), "")
	for range 3 { // all of the pair's tries are there again
		want(t, "a wrong one", try(t, l, " ANN ", next, "", wrong), "")
	}
	want(t, "one too many", try(t, l, "Ann", home, "", "right"), passwords)
	want(t, "from elsewhere", try(t, l, "ann", away, "", wrong), "")
	want(t, "the account's last", try(t, l, "ann", away, "", "right"), passwordsAccount)
	for _, name := range []string{"bob", "cem", "dan", "eva", "fay", "gil"} {
		want(t, "another account", try(t, l, name, home, "", wrong), "")
	}
	want(t, "one too many from there", try(t, l, "hal", home, "", wrong), "")
	want(t, "one too many from there", try(t, l, "ian", home, "", wrong), passwordsAddress)
}

func TestABrowserThatIsKnownIsNoStranger(t *testing.T) {
	l, _, _ := newLimiter(passwordRules())
	token := l.Remember("Ann")
	for _, from := range []netip.Addr{home, home, home, away, away, away} {
		want(t, "a stranger", try(t, l, "ann", from, "", wrong), "")
	}
	want(t, "a stranger", try(t, l, "ann", away, "", wrong), passwords)
	want(t, "the owner", try(t, l, "ann", home, token, "right"), "")
	for name, forged := range map[string]string{
		"somebody else's":  l.Remember("bob"),
		"cut":              token[:40],
		"of another cut":   base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", 32))),
		"no base64":        "!",
		"of another place": func() string { l := &Limiter{Secret: [32]byte{1}}; return l.Remember("ann") }(),
	} {
		want(t, name, try(t, l, "ann", home, forged, wrong), passwords)
	}
	for range 2 {
		want(t, "a thief of the browser", try(t, l, "ann", away, token, wrong), "")
	}
	// Other texts of the same token don't make another browser of it.
	want(t, "a thief", try(t, l, "ann", away, token[:20]+"\n"+token[20:], wrong), "")
	want(t, "a thief", try(t, l, "ann", away, token+"\r\n", wrong), passwords)
}

// Under whatever spelling the database finds an account, its tries are the same.
func TestNoSpellingOfANameHasTriesOfItsOwn(t *testing.T) {
	for _, names := range [][]string{
		{"ivan", "IVAN", "İvan", " iVan\t"},
		{"kelvin", "KELVIN", "\u212Aelvin"},
		{"straße", "STRAẞE"},
		{"σίσυφος", "ΣΊΣΥΦΟΣ"},
		{"小红"},
	} {
		for _, n := range names {
			if fold(n) != fold(names[0]) {
				t.Errorf("%q is %q, %q is %q", n, fold(n), names[0], fold(names[0]))
			}
		}
	}
	if fold("ann") == fold("anna") {
		t.Error("ann is anna")
	}
}

// Where nobody can count, people go on and guessers don't.
func TestALimiterThatFailsLetsInButNotGuess(t *testing.T) {
	rules := passwordRules()
	rules.Codes, rules.Signups, rules.Scans = of(1), of(1), of(1)
	l, m, log := newLimiter(rules)
	m.err = errors.New("no database")
	for range 3 {
		if err := errors.Join(l.Code(t.Context(), home), l.Signup(t.Context(), home), l.Scan(t.Context(), "o1")); err != nil {
			t.Error(err)
		}
		if _, err := l.Password(t.Context(), "ann", home, ""); !errors.Is(err, m.err) {
			t.Errorf("a password: %v", err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("the outage is told %d times:\n%s", n, log)
	}
	m.err = nil
	for i, refused := range []string{"", signups} {
		want(t, "after the outage", by(l.Signup(t.Context(), home)), refused)
		want(t, "after the outage", by(l.Scan(t.Context(), "o1")), []string{"", scans}[i])
	}
}

func TestKeysNameNobody(t *testing.T) {
	l, m, _ := newLimiter(Rules{Scans: of(1)})
	other, n, _ := newLimiter(Rules{Scans: of(1)})
	other.Secret[0] = 1
	_ = l.Scan(t.Context(), "o1")
	_ = other.Scan(t.Context(), "o1")
	for k := range m.used {
		if n.used[k] != 0 {
			t.Error("the key doesn't depend on the secret")
		}
	}
	if l.key("ab", "c") == l.key("a", "bc") || l.key("a", "b") == l.key("a", "b", "") {
		t.Error("what is cut elsewhere has the same key")
	}
}

func TestStricterIsStrictInBoth(t *testing.T) {
	minute := func(n int32) Rate { return Rate{Burst: n, Per: time.Minute} }
	for _, tt := range []struct{ a, b, want Rate }{
		{minute(60), Rate{}, minute(60)},
		{Rate{}, minute(60), minute(60)},
		{Rate{}, Rate{}, Rate{}},
		{minute(60), minute(30), minute(30)},
		{minute(60), Rate{Burst: 20, Per: 10 * time.Second}, Rate{Burst: 20, Per: 20 * time.Second}},
		{Rate{Burst: 500, Per: 6 * time.Minute}, Rate{Burst: 300, Per: 5 * time.Minute}, Rate{Burst: 300, Per: 5 * time.Minute}},
	} {
		if got := tt.a.Stricter(tt.b); got != tt.want {
			t.Errorf("%v and %v: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
