package stream

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"scanlogin/internal/login"
)

func TestEventsAreTheContracts(t *testing.T) {
	l := waiting(7)
	l.URL = "http://weixin.qq.com/q/a?b\n"
	l.ExpiresIn = 179*time.Second + time.Millisecond
	for _, tt := range []struct{ name, got, want string }{
		{
			"qr", string(QR(l, "data:image/png;base64,AA==")),
			"event: qr\ndata: {\"url\":\"http://weixin.qq.com/q/a?b\\n\",\"image\":\"data:image/png;base64,AA==\",\"ticket\":\"ticket\",\"scene_id\":7,\"expires_in\":180}\n\n",
		},
		{"success", string(Success()), "id: success\nevent: success\ndata: {\"redirect\":\"/user\"}\n\n"},
		{"bind-required", string(BindRequired(false)), "event: bind-required\ndata: {\"signup\":false}\n\n"},
		{"bind-required, signup", string(BindRequired(true)), "event: bind-required\ndata: {\"signup\":true}\n\n"},
		{
			"scanned, a number to answer with", string(Scanned(login.Question{By: login.ConfirmReply, Number: "42"})),
			"event: scanned\ndata: {\"confirm\":\"reply\",\"number\":\"42\"}\n\n",
		},
		{
			"scanned, a code to type", string(Scanned(login.Question{By: login.ConfirmCode, Code: "123456"})),
			"event: scanned\ndata: {\"confirm\":\"code\"}\n\n",
		},
		{"declined", string(Declined()), "id: declined\nevent: declined\ndata: {}\n\n"},
		{"expired", string(Expired()), "id: expired\nevent: expired\ndata: {}\n\n"},
		{
			"unavailable", string(Unavailable("pool_exhausted", 4500*time.Millisecond)),
			"retry: 5000\nevent: unavailable\ndata: {\"reason\":\"pool_exhausted\",\"retry_in\":5}\n\n",
		},
	} {
		if tt.got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, tt.got, tt.want)
		}
	}
}

func TestSecondsLeftAreNeverNegative(t *testing.T) {
	for d, want := range map[time.Duration]int64{-time.Hour: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %d, want %d", d, got, want)
		}
	}
}

func TestOnlyLastEventsEndAStream(t *testing.T) {
	for _, e := range [][]byte{Success(), Declined(), Expired(), Unavailable("rate_limited", time.Second)} {
		if !ends(e) {
			t.Errorf("%q does not end the stream", e)
		}
	}
	for _, e := range [][]byte{QR(login.Login{Ticket: login.Ticket{URL: "id: event: unavailable\n"}}, "id: "), BindRequired(true), Scanned(login.Question{By: login.ConfirmCode}), nil} {
		if ends(e) {
			t.Errorf("%q ends the stream", e)
		}
	}
}

// One instance of many dies, or stops: what it leaves to the others must not arrive in
// one second. Each moment is drawn evenly, so of 50,000 about n/seconds come in each;
// the bound is more than ten standard deviations away.
func TestFiftyThousandBrowsersDoNotComeBackTogether(t *testing.T) {
	const browsers = 50_000
	for _, tt := range []struct {
		name  string
		retry func() []byte
		least time.Duration
		most  int // in any one second
	}{
		{"cut off", greeting, time.Second, browsers * 36 / 100},
		{"sent away over 5 s", NewHub(Config{}).Reconnect, 500 * time.Millisecond, browsers * 25 / 100},
		{"sent away over 20 s", NewHub(Config{Window: 20 * time.Second}).Reconnect, 2 * time.Second, browsers * 7 / 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			perSecond := map[int]int{}
			for range browsers {
				line, _, _ := strings.Cut(string(tt.retry()), "\n")
				ms, err := strconv.Atoi(strings.TrimPrefix(line, "retry: "))
				if err != nil || time.Duration(ms)*time.Millisecond < tt.least {
					t.Fatalf("%q", line)
				}
				perSecond[ms/1000]++
			}
			for second, n := range perSecond {
				if n > tt.most {
					t.Errorf("%d of %d browsers come back in second %d", n, browsers, second)
				}
			}
		})
	}
}
