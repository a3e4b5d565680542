package wechatsim

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// send sends a text as the account, and returns the errcode.
func send(t *testing.T, s *Server, openid, text string) int {
	t.Helper()
	token, _, _ := stableToken(t, s, false)
	q := messageRequest{To: openid, Type: "text"}
	q.Text.Content = text
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	status, answer := call(t, s, http.MethodPost, "/cgi-bin/message/custom/send?access_token="+token, string(body))
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	return errcodeOf(answer)
}

// The account may write 5 times in the 48 h after a text, 3 times in the minute after the
// other acts, and what is allowed adds up.
func TestTheAccountMayWriteAfterSomethingTheUserDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := world(t, Safe)
		u := s.AddUser("xiaoming", true)
		may := func(what string, times, then int) {
			t.Helper()
			for n := range times {
				if code := send(t, s, u.OpenID, "hello"); code != 0 {
					t.Fatalf("%s, message %d: errcode %d", what, n+1, code)
				}
			}
			if code := send(t, s, u.OpenID, "hello"); code != then {
				t.Fatalf("%s, after %d messages: errcode %d, want %d", what, times, code, then)
			}
		}
		act := func(_ Delivery, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		may("a follower of long ago", 0, codeOutOfTime)
		act(s.Say(t.Context(), u.OpenID, "hi"))
		may("a text", 5, codeOutOfCount)
		act(s.Scan(t.Context(), u.OpenID, newCode(t, s, 7, 60).Ticket))
		may("a scan as well", 3, codeOutOfCount)
		act(s.Say(t.Context(), u.OpenID, "hi"))
		act(s.Scan(t.Context(), u.OpenID, newCode(t, s, 8, 60).Ticket))
		if code := send(t, s, u.OpenID, "from the scan's, which end first"); code != 0 {
			t.Fatal(code)
		}
		time.Sleep(actedWindow)
		may("a minute later", 5, codeOutOfCount)
		act(s.Say(t.Context(), u.OpenID, "hi"))
		time.Sleep(wroteWindow - time.Second)
		if code := send(t, s, u.OpenID, "in time"); code != 0 {
			t.Fatal(code)
		}
		time.Sleep(time.Second)
		may("48 h after the text", 0, codeOutOfTime)
		act(s.Scan(t.Context(), u.OpenID, newCode(t, s, 9, 60).Ticket))
		if err := s.CloseWindow(u.OpenID); err != nil {
			t.Fatal(err)
		}
		may("with the window closed", 0, codeOutOfTime)
		act(s.Unsubscribe(t.Context(), u.OpenID))
		may("no longer a follower", 0, codeOutOfTime)
		act(s.Follow(t.Context(), u.OpenID))
		may("following again", 3, codeOutOfCount)

		lines, err := s.Messages(u.OpenID)
		if err != nil || lines[len(lines)-1].Kind != Sent || lines[len(lines)-1].Text != "hello" {
			t.Errorf("the phone shows %+v, %v", lines[len(lines)-1], err)
		}
		if n := s.Stats().Messages; n != 18 {
			t.Errorf("%d messages counted", n)
		}
	})
}

func TestMessagesThatAreNone(t *testing.T) {
	s, _ := world(t, Safe)
	u := s.AddUser("xiaoming", false)
	if _, err := s.Follow(t.Context(), u.OpenID); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		openid, text string
		want         int
	}{
		{"nobody", "hello", codeOpenID},
		{u.OpenID, "", codeEmptyContent},
		{u.OpenID, strings.Repeat("x", maxMessage+1), codeContentSize},
		{u.OpenID, strings.Repeat("x", maxMessage), 0},
	} {
		if code := send(t, s, tt.openid, tt.text); code != tt.want {
			t.Errorf("%.10q to %s: errcode %d, want %d", tt.text, tt.openid, code, tt.want)
		}
	}
	token, _, _ := stableToken(t, s, false)
	for body, want := range map[string]int{`{"touser":"` + u.OpenID + `","msgtype":"image"}`: codeMessageType, `{`: codeDataFormat} {
		if _, answer := call(t, s, http.MethodPost, "/cgi-bin/message/custom/send?access_token="+token, body); errcodeOf(answer) != want {
			t.Errorf("%s: %v, want %d", body, answer, want)
		}
	}
	if _, answer := call(t, s, http.MethodPost, "/cgi-bin/message/custom/send", "{}"); errcodeOf(answer) != codeTokenMissing {
		t.Errorf("without a token: %v", answer)
	}
	s.SetFaults(Faults{API: map[string]APIFault{EndpointSend: {Code: codeBusy, Calls: 1}}})
	if code := send(t, s, u.OpenID, "hello"); code != codeBusy {
		t.Errorf("in bad weather: errcode %d", code)
	}
	if err := s.CloseWindow("nobody"); err == nil {
		t.Error("nobody's window was closed")
	}
}
