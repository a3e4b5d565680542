package wechatsim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func keyOf(mode Mode) string {
	if mode == Plain {
		return ""
	}
	return testKey
}

// world is a server and its account inside one bubble.
func world(t *testing.T, mode Mode) (*Server, *account) {
	t.Helper()
	a := newAccount(t, mode)
	s := newServer(t, Config{
		Mode: mode, EncodingAESKey: keyOf(mode), HTTP: through(a),
		CallbackURLs: []string{"http://one.test/wechat/callback", "http://two.test/wechat/callback?site=2"},
	})
	return s, a
}

func TestScanInEveryMode(t *testing.T) {
	for _, mode := range []Mode{Plain, Compatible, Safe} {
		t.Run(string(mode), func(t *testing.T) {
			a := newAccount(t, mode)
			callback := httptest.NewServer(a)
			defer callback.Close()
			s := newServer(t, Config{Mode: mode, EncodingAESKey: keyOf(mode), CallbackURL: callback.URL + "/wechat/callback"})
			code := newCode(t, s, 7, 180)
			ming, stranger := s.AddUser("xiaoming", true), s.AddUser("stranger", false)

			d, err := s.Scan(t.Context(), ming.OpenID, code.Ticket)
			if err != nil || d.Event != "SCAN" || d.Reply != "welcome 7" || d.Failed || d.Tries != 1 || !slices.Equal(d.Statuses, []int{200}) {
				t.Errorf("follower: %+v, %v", d, err)
			}
			d, err = s.Scan(t.Context(), stranger.OpenID, code.Ticket)
			if err != nil || d.Event != "subscribe" || d.Reply != "welcome qrscene_7" {
				t.Errorf("stranger: %+v, %v", d, err)
			}
			d, err = s.Scan(t.Context(), stranger.OpenID, code.Ticket)
			if err != nil || d.Event != "SCAN" {
				t.Errorf("stranger, now a follower: %+v, %v", d, err)
			}
			for _, p := range a.pushes() {
				if p.ToUserName != s.OriginalID() || p.MsgType != "event" || p.Ticket != code.Ticket {
					t.Errorf("pushed %+v", p)
				}
			}
			if got := s.Codes()[0].Scans; got != 3 {
				t.Errorf("%d scans counted", got)
			}
		})
	}
}

func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Safe)
		u := s.AddUser("xiaoming", false)
		ctx := t.Context()
		if _, err := s.Say(ctx, u.OpenID, "hi"); !errors.Is(err, ErrNotFollower) {
			t.Errorf("Say before Follow: %v", err)
		}
		if d, err := s.Follow(ctx, u.OpenID); err != nil || d.Reply != "welcome " {
			t.Errorf("Follow: %+v, %v", d, err)
		}
		if _, err := s.Follow(ctx, u.OpenID); !errors.Is(err, ErrFollower) {
			t.Errorf("Follow again: %v", err)
		}
		if _, err := s.Say(ctx, u.OpenID, "a ]]> b"); err != nil {
			t.Error(err)
		}
		if d, err := s.Unsubscribe(ctx, u.OpenID); err != nil || d.Reply != "" {
			t.Errorf("Unsubscribe: %+v, %v", d, err)
		}
		if _, err := s.Unsubscribe(ctx, u.OpenID); !errors.Is(err, ErrNotFollower) {
			t.Errorf("Unsubscribe again: %v", err)
		}
		var events []string
		for _, p := range a.pushes() {
			events = append(events, p.MsgType+" "+p.Event+p.Content+p.EventKey+p.Ticket)
		}
		if want := []string{"event subscribe", "text a ]]> b", "event unsubscribe"}; !slices.Equal(events, want) {
			t.Errorf("pushed %q, want %q", events, want)
		}
		lines, err := s.Messages(u.OpenID)
		var kinds []MessageKind
		for _, m := range lines {
			kinds = append(kinds, m.Kind)
		}
		if want := []MessageKind{Followed, Replied, Said, Replied, Unfollowed}; err != nil || !slices.Equal(kinds, want) {
			t.Errorf("conversation %v, want %v; %v", kinds, want, err)
		}
	})
}

func TestSlowCallbackIsAskedThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Safe)
		a.answer = func(_ http.ResponseWriter, r *http.Request, _ pushed, _ int) { <-r.Context().Done() }
		code, u := newCode(t, s, 7, 180), s.AddUser("xiaoming", true)
		began := time.Now()
		d, err := s.Scan(t.Context(), u.OpenID, code.Ticket)
		if took := time.Since(began); err != nil || took != 17*time.Second {
			t.Errorf("took %v, %v; want three times 5 s and twice 1 s", took, err)
		}
		if !d.Failed || d.Reply != failureNotice || d.Tries != 3 || !slices.Equal(d.Statuses, []int{0, 0, 0}) {
			t.Errorf("%+v", d)
		}
		got := a.pushes()
		if len(got) != 3 || got[0] != got[1] || got[1] != got[2] {
			t.Errorf("the tries differ: %+v", got)
		}
		if st := s.Stats(); st.Pushes != 1 || st.Tries != 3 || st.Failures != 1 || st.Replies != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestRetryMeetsTheOtherInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Safe)
		a.answer = func(w http.ResponseWriter, _ *http.Request, p pushed, try int) {
			if try == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			a.reply(w, p, "second time lucky")
		}
		code, u := newCode(t, s, 7, 180), s.AddUser("xiaoming", true)
		d, err := s.Scan(t.Context(), u.OpenID, code.Ticket)
		if err != nil || d.Reply != "second time lucky" || !slices.Equal(d.Statuses, []int{503, 200}) {
			t.Errorf("%+v, %v", d, err)
		}
		if want := []string{"one.test", "two.test"}; !slices.Equal(a.hosts, want) {
			t.Errorf("hosts %v, want %v", a.hosts, want)
		}
	})
}

func TestBadWeatherForPushes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		faults   Faults
		statuses []int
		arrived  int
	}{
		{"lost reply", Faults{LoseReplies: 1}, []int{0, 200}, 2},
		{"dropped twice", Faults{DropTries: 2}, []int{0, 0, 200}, 1},
		{"dropped for good", Faults{DropTries: 3}, []int{0, 0, 0}, 0},
		{"twice", Faults{Duplicates: 1}, []int{200}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := world(t, Safe)
				s.SetFaults(tt.faults)
				code, u := newCode(t, s, 7, 180), s.AddUser("xiaoming", true)
				d, err := s.Scan(t.Context(), u.OpenID, code.Ticket)
				if err != nil || !slices.Equal(d.Statuses, tt.statuses) || d.Failed != (tt.arrived == 0) {
					t.Errorf("%+v, %v", d, err)
				}
				got := a.pushes()
				if len(got) != tt.arrived {
					t.Fatalf("%d posts arrived, want %d", len(got), tt.arrived)
				}
				for _, p := range got {
					if p != got[0] {
						t.Errorf("a repeat differs: %+v", p)
					}
				}
				if (d.Again != nil) != (tt.faults.Duplicates > 0) {
					t.Errorf("second delivery: %+v", d.Again)
				}
				if left := s.Faults(); left.DropTries+left.LoseReplies+left.Duplicates != 0 {
					t.Errorf("faults left: %+v", left)
				}
			})
		})
	}
}

func TestPushesArriveLateAndOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := world(t, Safe)
		ming := s.AddUser("xiaoming", true)
		code := newCode(t, s, 7, 600)
		s.SetFaults(Faults{PushDelay: 10 * time.Second})
		took := map[time.Duration]bool{}
		for range 8 {
			began := time.Now()
			d, err := s.Scan(t.Context(), ming.OpenID, code.Ticket)
			if err != nil || !slices.Equal(d.Statuses, []int{200}) {
				t.Fatalf("%+v, %v", d, err)
			}
			late := time.Since(began)
			if late >= 10*time.Second {
				t.Errorf("%v late", late)
			}
			took[late] = true
		}
		if len(took) < 4 {
			t.Errorf("8 pushes were late by %v", took)
		}
	})
}

func TestFollowThatLosesItsScene(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Plain)
		s.SetFaults(Faults{LostScenes: 1})
		code := newCode(t, s, 7, 180)
		follower, stranger := s.AddUser("follower", true), s.AddUser("stranger", false)
		for _, u := range []User{follower, stranger} {
			if _, err := s.Scan(t.Context(), u.OpenID, code.Ticket); err != nil {
				t.Error(err)
			}
		}
		got := a.pushes()
		if got[0].EventKey != "7" || got[1].EventKey != "" || got[1].Ticket != "" {
			t.Errorf("pushed %+v", got)
		}
	})
}

func TestRepliesThatWeChatRefuses(t *testing.T) {
	text := func(to, from, kind, content string) string {
		return "<xml><ToUserName>" + to + "</ToUserName><FromUserName>" + from + "</FromUserName><CreateTime>1</CreateTime><MsgType>" +
			kind + "</MsgType><Content>" + content + "</Content></xml>"
	}
	us := originalID(testAppID)
	them := openID(testAppID, "xiaoming")
	for _, tt := range []struct {
		name  string
		mode  Mode
		reply func(*account) string
		fails bool
	}{
		{"success", Safe, func(*account) string { return "success" }, false},
		{"nothing", Safe, func(*account) string { return "" }, false},
		{"JSON", Plain, func(*account) string { return `{"ok":true}` }, true},
		{"page", Plain, func(*account) string { return "<html><body>hi</body></html>" }, true},
		{"good text", Plain, func(*account) string { return text(them, us, "text", "hi") }, false},
		{"not swapped", Plain, func(*account) string { return text(us, them, "text", "hi") }, true},
		{"empty text", Plain, func(*account) string { return text(them, us, "text", "") }, true},
		{"image", Plain, func(*account) string { return text(them, us, "image", "hi") }, true},
		{"open text in safe mode", Safe, func(*account) string { return text(them, us, "text", "hi") }, true},
		{"open text in compatible mode", Compatible, func(*account) string { return text(them, us, "text", "hi") }, false},
		{"encrypted", Safe, func(a *account) string { return a.encrypt(text(them, us, "text", "hi")) }, false},
		{"encrypted in plain mode", Plain, func(*account) string { return "<xml><Encrypt>abc</Encrypt></xml>" }, true},
		{"bad signature", Safe, func(a *account) string {
			return strings.Replace(a.encrypt(text(them, us, "text", "hi")), "<Nonce><![CDATA[n]]>", "<Nonce>m", 1)
		}, true},
		{"encrypted nonsense", Safe, func(a *account) string { return a.encrypt("hi") }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := world(t, tt.mode)
				a.answer = func(w http.ResponseWriter, _ *http.Request, _ pushed, _ int) { _, _ = io.WriteString(w, tt.reply(a)) }
				u := s.AddUser("xiaoming", true)
				d, err := s.Say(t.Context(), u.OpenID, "hello")
				if err != nil || d.Failed != tt.fails || d.Tries != 1 || (d.Problem != "") != tt.fails {
					t.Errorf("%+v, %v", d, err)
				}
				if tt.fails && d.Reply != failureNotice {
					t.Errorf("reply %q", d.Reply)
				}
			})
		})
	}
}

func TestScanErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Safe)
		code, u := newCode(t, s, 7, 60), s.AddUser("xiaoming", false)
		if _, err := s.Scan(t.Context(), "o-nobody", code.Ticket); !errors.Is(err, ErrUnknownUser) {
			t.Error(err)
		}
		if _, err := s.Scan(t.Context(), u.OpenID, "gQ"); !errors.Is(err, ErrUnknownCode) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if _, err := s.Scan(t.Context(), u.OpenID, code.Ticket); !errors.Is(err, ErrCodeExpired) {
			t.Error(err)
		}
		lines, _ := s.Messages(u.OpenID)
		if len(a.pushes()) != 0 || len(lines) != 1 || lines[0].Kind != Expired || s.Users()[0].Follower {
			t.Errorf("an expired code should only be shown as such: %v", lines)
		}
		if _, err := newServer(t, Config{}).Follow(t.Context(), u.OpenID); !errors.Is(err, ErrUnknownUser) {
			t.Error(err)
		}
	})
}

func TestNoCallback(t *testing.T) {
	s := newServer(t, Config{})
	if _, err := s.Follow(t.Context(), s.AddUser("xiaoming", false).OpenID); !errors.Is(err, ErrNoCallback) {
		t.Error(err)
	}
}

func TestCloseEndsPushesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := world(t, Safe)
		arrived := make(chan struct{}, 3)
		a.answer = func(_ http.ResponseWriter, r *http.Request, _ pushed, _ int) {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
		s.SetFaults(Faults{Duplicates: 1})
		u := s.AddUser("xiaoming", true)
		failed := make(chan error, 1)
		go func() {
			_, err := s.Say(context.Background(), u.OpenID, "hello")
			failed <- err
		}()
		<-arrived
		began := time.Now()
		s.Close()
		if err := <-failed; !errors.Is(err, ErrClosed) || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := s.Say(t.Context(), u.OpenID, "hello"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestPushOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := world(t, Safe)
		s.SetFaults(Faults{DropTries: 1})
		u := s.AddUser("xiaoming", true)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := s.Say(ctx, u.OpenID, "hello"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller got %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if lines, _ := s.Messages(u.OpenID); lines[len(lines)-1].Kind != Replied {
			t.Errorf("the push did not go on: %v", lines)
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	callback := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect))
	defer callback.Close()
	s := newServer(t, Config{CallbackURL: callback.URL, RetryGap: -1})
	d, err := s.Follow(t.Context(), s.AddUser("xiaoming", false).OpenID)
	if err != nil || !slices.Equal(d.Statuses, []int{307, 307, 307}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestLogNamesNobody(t *testing.T) {
	var log bytes.Buffer
	refused := httptest.NewServer(nil)
	refused.Close()
	s := newServer(t, Config{
		CallbackURL: refused.URL + "/wechat/callback", RetryGap: -1, EncodingAESKey: testKey,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	u, code := s.AddUser("xiaoming", true), newCode(t, s, 7, 60)
	d, err := s.Scan(t.Context(), u.OpenID, code.Ticket)
	if err != nil || !d.Failed || log.Len() == 0 {
		t.Fatalf("%+v, %v, %d bytes of log", d, err, log.Len())
	}
	for _, secret := range []string{u.OpenID, code.Ticket, "signature=", testToken} {
		if strings.Contains(log.String()+d.Problem, secret) {
			t.Errorf("the log or the problem holds %q", secret)
		}
	}
}

func TestBoundedConversations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := world(t, Plain)
		u := s.AddUser("xiaoming", true)
		for range keptMessages {
			if _, err := s.Say(t.Context(), u.OpenID, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		if lines, _ := s.Messages(u.OpenID); len(lines) != keptMessages {
			t.Errorf("%d lines kept", len(lines))
		}
	})
}

func TestAtOnce(t *testing.T) {
	callback := httptest.NewServer(newAccount(t, Safe))
	defer callback.Close()
	s := newServer(t, Config{EncodingAESKey: testKey, CallbackURL: callback.URL})
	code := newCode(t, s, 7, 180)
	done := make(chan error)
	for i := range 32 {
		go func() {
			u := s.AddUser(strings.Repeat("x", i%8+1), i%2 == 0)
			_, err := s.Scan(t.Context(), u.OpenID, code.Ticket)
			s.SetFaults(Faults{Duplicates: 1})
			_, _, _ = s.Stats(), s.Codes(), s.state()
			done <- err
		}()
	}
	for range 32 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.Stats().Pushes; got < 32 {
		t.Errorf("%d pushes", got)
	}
}

func TestNewRefuses(t *testing.T) {
	full := Config{AppID: testAppID, AppSecret: testSecret, Token: testToken}
	for name, change := range map[string]func(*Config){
		"no token":       func(c *Config) { c.Token = "" },
		"unknown mode":   func(c *Config) { c.Mode = "clear" },
		"no key":         func(c *Config) { c.Mode = Safe },
		"bad key":        func(c *Config) { c.EncodingAESKey = "short" },
		"bad callback":   func(c *Config) { c.CallbackURL = "/wechat/callback" },
		"second is bad ": func(c *Config) { c.CallbackURLs = []string{"http://a/", "b"} },
	} {
		cfg := full
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOpenIDs(t *testing.T) {
	a, b := newServer(t, Config{}), newServer(t, Config{})
	u := a.AddUser("小明", true)
	if len(u.OpenID) != 28 || u.OpenID[0] != 'o' || u != b.AddUser("小明", true) {
		t.Errorf("%+v", u)
	}
	if again := a.AddUser("小明", false); again != u || len(a.Users()) != 1 {
		t.Errorf("added twice: %+v", again)
	}
}
