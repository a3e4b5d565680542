package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/limit"
	"scanlogin/internal/login"
)

// refusing is a limit.Store where all is used up for so long.
type refusing time.Duration

func (r refusing) Take(_ context.Context, counts []limit.Count) ([]time.Duration, error) {
	waits := make([]time.Duration, len(counts))
	for i := range waits {
		waits[i] = time.Duration(r)
	}
	return waits, nil
}

func (refusing) GiveBack(context.Context, []limit.Count) error { return nil }

// noAccounts is an account.Store that nobody may ask.
type noAccounts struct {
	account.Store
	t *testing.T
}

func (a noAccounts) UserByName(context.Context, string) (account.User, string, error) {
	a.t.Error("a refused request asked for an account")
	return account.User{}, "", account.ErrNoUser
}

func (a noAccounts) CreateUser(context.Context, string, string) (account.User, error) {
	a.t.Error("a refused request made an account")
	return account.User{}, account.ErrNameTaken
}

// scannedStore is a login.Store of which each login waits to be bound.
type scannedStore struct{ store }

func (scannedStore) Current(_ context.Context, ref login.Ref) (login.Login, error) {
	return login.Login{Ref: ref, State: login.BindRequired}, nil
}

func everything() limit.Rules {
	r := limit.Rate{Burst: 1, Per: time.Hour}
	return limit.Rules{Codes: r, CodesNetwork: r, CodesDay: r, Passwords: r, PasswordsAccount: r, PasswordsAddress: r, Signups: r, Scans: r}
}

// limited is a server where nobody may do anything, and everything else is a mistake.
func limited(t *testing.T, wait time.Duration, change ...func(*Config)) (*Server, http.Handler, func(*http.Request) *httptest.ResponseRecorder) {
	t.Helper()
	mistake := func(context.Context) error {
		t.Error("a refused request reached the logins")
		return login.ErrExhausted
	}
	s, h := newServerWith(t, store{scan: mistake, begin: mistake})
	for _, c := range change {
		c(&s.Config)
	}
	s.extractIP = s.ipExtractor()
	s.checks.build(fewAtWork, fewWaiting)
	s.Logins.Store = scannedStore{store{scan: mistake, begin: mistake}}
	s.Accounts.Store = noAccounts{t: t}
	s.Limits = &limit.Limiter{Store: refusing(wait), Rules: everything(), Logger: s.Logger}
	return s, h, func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
}

func TestARefusalIsToldInTheFormAskedForAndCostsNothing(t *testing.T) {
	s, _, do := limited(t, 61500*time.Millisecond, func(c *Config) { c.Signup = true })
	post := func(path, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("username=ann&password=correct-horse"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", accept)
		r.Header.Set("Accept-Language", "en")
		key := login.Key{Scene: 7, Secret: login.NewSecret()}
		r.AddCookie(&http.Cookie{Name: s.loginCookieName(), Value: key.Cookie()})
		return do(r)
	}
	const words = "Too many attempts. Please try again in a while."
	for _, tt := range []struct{ path, accept, kind, want string }{
		{"/login", "text/html", "text/html; charset=utf-8", words},
		{"/login", "application/json", "application/json; charset=utf-8", `{"error":"rate_limited","message":"` + words + `"}`},
		{"/user/bind", "", "application/json; charset=utf-8", `"status":false`},
		{"/user/bind", "application/json", "application/json; charset=utf-8", `"err":"` + words + `"`},
		{"/user/signup", "", "application/json; charset=utf-8", `"error":"rate_limited"`},
	} {
		w := post(tt.path, tt.accept)
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "62" ||
			w.Header().Get("Content-Type") != tt.kind || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s as %q: %d %v\n%.300s", tt.path, tt.accept, w.Code, w.Header(), w.Body)
		}
		if len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: cookies %v", tt.path, w.Result().Cookies())
		}
	}
	page := post("/login", "text/html").Body.String()
	if strings.Contains(page, "aria-invalid") {
		t.Error("what was typed is said to be wrong, which nobody has looked at")
	}
	if !strings.Contains(page, `value="ann"`) || strings.Contains(page, "correct-horse") {
		t.Error("the page should have what was typed, but the password")
	}

	w := do(opened(t.Context(), false))
	body := w.Body.String()
	if w.Code != http.StatusOK || !strings.Contains(body, "event: unavailable\ndata: {\"reason\":\"rate_limited\",\"retry_in\":6") {
		t.Errorf("the stream: %d %q", w.Code, body)
	}
	if w := do(scanned(t.Context())); w.Code != http.StatusOK || w.Body.String() != "success" {
		t.Errorf("the callback: %d %q", w.Code, w.Body)
	}
}

func TestTheOperatorHearsOfAProxyThatIsNotTrusted(t *testing.T) {
	for _, tt := range []struct {
		forwarded, trusted string
		told               int
	}{
		{"", "", 0},
		{"203.0.113.9", "", 1},
		{"203.0.113.9", "192.0.2.0/24", 0},
	} {
		s, _, log := newServer(t, "http://localhost:8080", func(c *Config) {
			if tt.trusted != "" {
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
			}
		})
		for range 3 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/login", nil)
			r.RemoteAddr = "192.0.2.1:4711"
			if tt.forwarded != "" {
				r.Header.Set("X-Forwarded-For", tt.forwarded)
			}
			if _, ok := s.refused(r, &limit.Refusal{Limit: "codes", Wait: time.Second}); !ok {
				t.Error("a refusal is none")
			}
		}
		if n := strings.Count(log.String(), "TRUSTED_PROXIES"); n != tt.told {
			t.Errorf("%+v: told %d times", tt, n)
		}
	}
}

// noting is a limit.Store that lets through and notes what came and went.
type noting struct{ taken, given int }

func (n *noting) Take(_ context.Context, counts []limit.Count) ([]time.Duration, error) {
	n.taken += len(counts)
	return make([]time.Duration, len(counts)), nil
}

func (n *noting) GiveBack(_ context.Context, counts []limit.Count) error {
	n.given += len(counts)
	return nil
}

// What was promised of a day's codes isn't spent by an outage, of WeChat or of the pool.
func TestACodeThatWasNotHadCostsNothingOfTheDay(t *testing.T) {
	for want, err := range map[int]error{1: login.ErrExhausted, 0: errors.New("no database")} {
		s, h := newServerWith(t, store{begin: func(context.Context) error { return err }})
		n := &noting{}
		s.Limits = &limit.Limiter{Store: n, Rules: everything(), Logger: s.Logger}
		s.checks.build(fewAtWork, fewWaiting)
		h.ServeHTTP(httptest.NewRecorder(), opened(t.Context(), false))
		if n.taken != 3 || n.given != want {
			t.Errorf("%v: %d were counted and %d given back, want 3 and %d", err, n.taken, n.given, want)
		}
	}
}

func TestAddressIsWhatATrustedProxySays(t *testing.T) {
	s, _, _ := newServer(t, "http://localhost:8080", func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	for _, tt := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:80", "198.51.100.9, 203.0.113.9", "203.0.113.9"},
		{"192.0.2.1:80", "2001:db8::1", "2001:db8::1"},
		{"192.0.2.1:80", "nonsense", "192.0.2.1"},
		{"192.0.2.1:80", "", "192.0.2.1"},
		{"203.0.113.9:80", "198.51.100.9", "203.0.113.9"},
		{"[2001:db8::1]:80", "198.51.100.9", "2001:db8::1"},
		{"@", "", "invalid IP"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = tt.remote
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := s.address(r).String(); got != tt.want {
			t.Errorf("%s for %q: %s, want %s", tt.remote, tt.forwarded, got, tt.want)
		}
	}
}
