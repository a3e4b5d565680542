package stream

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"scanlogin/internal/login"
)

// The comments that keep a stream open (WHATWG HTML, 9.2.7: proxies drop silent ones).
const (
	heartbeat   = ":\n\n"
	unavailable = ": database unavailable\n\n"
)

// QR is the event of a waiting login: the code to scan as a data URI, and the whole
// seconds that it may still be scanned, rounded up.
func QR(l login.Login, image string) []byte {
	return event("qr", struct {
		URL       string `json:"url"`
		Image     string `json:"image"`
		Ticket    string `json:"ticket"`
		SceneID   int32  `json:"scene_id"`
		ExpiresIn int64  `json:"expires_in"`
	}{l.URL, image, l.Ticket.Ticket, l.Scene, seconds(l.ExpiresIn)})
}

// Success tells the page to complete the login. It ends the stream; its id comes back
// as Last-Event-ID where the browser reconnects by itself.
func Success() []byte {
	return append([]byte("id: success\n"), event("success", struct {
		Redirect string `json:"redirect"`
	}{"/user"})...)
}

// BindRequired tells the page to ask for an account, or for a new one where signup is on.
func BindRequired(signup bool) []byte {
	return event("bind-required", struct {
		Signup bool `json:"signup"`
	}{signup})
}

// Scanned tells the page to hide its code and what to do so that the scan counts: to show
// the number that the person has to answer with, or to ask for the code that the person
// was sent.
func Scanned(q login.Question) []byte {
	return event("scanned", struct {
		Confirm string `json:"confirm"`
		Number  string `json:"number,omitempty"`
	}{q.By.String(), q.Number})
}

// Declined tells the page that the person doesn't want this login. It ends the stream and
// carries an id as Success does.
func Declined() []byte {
	return append([]byte("id: declined\n"), event("declined", struct{}{})...)
}

// Expired tells the page to offer a new code. It ends the stream and carries an id as
// Success does.
func Expired() []byte {
	return append([]byte("id: expired\n"), event("expired", struct{}{})...)
}

// Unavailable tells the page what is in the way, pool_exhausted, wechat_unavailable or
// rate_limited, and when to try again, in whole seconds, rounded up. It ends the
// stream, and a browser that comes back by itself waits as long: see [WriteOnce].
func Unavailable(reason string, retryIn time.Duration) []byte {
	s := seconds(retryIn)
	return append(retry(time.Duration(s)*time.Second), event("unavailable", struct {
		Reason  string `json:"reason"`
		RetryIn int64  `json:"retry_in"`
	}{reason, s})...)
}

// event writes one event. JSON has no line breaks but the one that Encode ends with, so that
// it is one data line.
func event(name string, data any) []byte {
	var b bytes.Buffer
	b.WriteString("event: " + name + "\ndata: ")
	if err := json.NewEncoder(&b).Encode(data); err != nil {
		panic(err) // strings, integers and booleans only
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// retry sets the time after which the browser reconnects by itself.
func retry(d time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), d.Milliseconds(), 10), '\n')
}

// greeting is the retry line that every stream begins with, 1 to 4 s: who is cut off
// together doesn't come back together.
func greeting() []byte { return retry(between(time.Second, 4*time.Second)) }

// Reconnect is all that an instance has to say which sends browsers away: a retry line,
// anywhere in the window, but not at once.
func (h *Hub) Reconnect() []byte {
	return append(retry(between(h.config.Window/10, h.config.Window)), '\n')
}

func between(low, high time.Duration) time.Duration { return low + rand.N(high-low) }

func seconds(d time.Duration) int64 {
	return int64(max(0, d+time.Second-1) / time.Second)
}

// ended reports whether nothing follows this state.
func ended(s login.State) bool {
	return s == login.Authenticated || s.Ended()
}

// ends reports whether the event is one after which the stream ends.
func ends(event []byte) bool {
	return bytes.HasPrefix(event, []byte("id: ")) || bytes.Contains(event, []byte("event: unavailable\n"))
}
