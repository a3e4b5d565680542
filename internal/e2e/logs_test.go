package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// logLine is a line as the JSON handler writes it.
type logLine map[string]any

// lines are what an instance has logged so far.
func (i *instance) lines() (all []logLine) {
	i.w.t.Helper()
	for text := range strings.Lines(i.log.String()) {
		var l logLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			i.w.t.Fatalf("instance %s logged %q: %v", i.name, text, err)
		}
		all = append(all, l)
	}
	return all
}

// storyOf is what an operator who looks for a login finds at both instances, sorted: who says
// it, what, and the attributes that tell one line from another.
func (w *world) storyOf(id string) (story []string) {
	for _, i := range []*instance{w.a, w.b} {
		for _, l := range i.lines() {
			if l["login"] != id || l["level"] != "INFO" {
				continue
			}
			words := []string{fmt.Sprint(i.name, ": ", l["msg"])}
			for _, name := range []string{"path", "status", "code", "outcome", "person", "state", "streams", "reason", "events", "by"} {
				if value, ok := l[name]; ok {
					words = append(words, fmt.Sprint(name, "=", value))
				}
			}
			story = append(story, strings.Join(words, " "))
		}
	}
	slices.Sort(story)
	return story
}

// wantStory waits for the last line and insists on all.
func (w *world) wantStory(id string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	var got []string
	if !within(patience, func() bool { got = w.storyOf(id); return len(got) >= len(want) }) || !slices.Equal(got, want) {
		w.t.Error(cmp.Diff(want, got))
	}
}

// waiting is the ID of the login that instance A has just begun to show.
func (w *world) waiting(scene int) (id string) {
	w.t.Helper()
	eventually(w.t, "the login is in the log", func() bool {
		for _, l := range w.a.lines() {
			if l["msg"] == "login waiting" && l["scene"] == float64(scene) {
				id, _ = l["login"].(string)
			}
		}
		return id != ""
	})
	return id
}

// One ID leads through the logs of both instances, from the claim to the session, and so does
// one name of the person. Nothing in them opens anything: see (*world).checkLog.
func TestOneIDLeadsThroughTheLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}, settings: settings{"CONFIRM": "reply", "LOG_FORMAT": "json", "SCENE_GRACE": "1s"}})
	w.account(t, "alice")
	who := w.person(true)
	w.tie(t, who, "alice")
	sum := sha256.Sum256([]byte(appID + " " + who.OpenID))
	person := hex.EncodeToString(sum[:8])

	b := newBrowser(t, w)
	s := b.events(w.a)
	code := s.code()
	w.scan(t, who, code.Ticket)
	number := s.number()
	w.say(t, who, number)
	s.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	id := w.waiting(code.SceneID)
	if len(id) != 8 || id == strings.Repeat("0", 8) {
		t.Errorf("a login is called %q", id)
	}
	w.wantStory(id,
		"A: login waiting code=made",
		"A: request path=/login/events status=200",
		"B: login scanned outcome=to_confirm person="+person,
		"A: login pushed state=scanned streams=1",
		"B: login answered outcome=logged_in person="+person,
		"A: login pushed state=authenticated streams=1",
		"A: stream ended reason=completed events=3",
		"B: login completed by=complete",
		"B: request path=/login/complete status=200",
	)

	// One that nobody scans, and one whose browser leaves.
	late := newBrowser(t, w).events(w.a)
	lateCode, lost := late.code(), newBrowser(t, w).events(w.a)
	lostCode := lost.code()
	w.sql(fmt.Sprint("UPDATE scanlogin.scene SET expires_at = now() WHERE id = ", lateCode.SceneID))
	late.expect("expired")
	lost.close()
	w.wantStory(w.waiting(lateCode.SceneID),
		"A: login waiting code=made",
		"A: request path=/login/events status=200",
		"A: login pushed state=expired streams=1",
		"A: stream ended reason=completed events=2",
	)
	w.wantStory(w.waiting(lostCode.SceneID),
		"A: login waiting code=made",
		"A: request path=/login/events status=200",
		"A: stream ended reason=hung_up events=1",
		"A: login left by a browser",
	)

	// What else may carry a secret.
	typed, wrong := newBrowser(t, w), "a password that isn't"
	w.keep(wrong)
	typed.post(w.a, "/login", form("username", "alice", "password", wrong)).want(t, http.StatusUnauthorized)
	typed.post(w.b, "/login", form("username", "alice", "password", password)).want(t, http.StatusSeeOther)
	w.push(b, w.a, w.pushXML(who.OpenID, "unsubscribe", "", "")).want(t, http.StatusOK)
	var token string
	w.connected(func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), "SELECT token FROM scanlogin.wechat_account").Scan(&token)
	})
	if len(token) < 8 {
		t.Errorf("an access token of %d characters", len(token))
	}
	w.keep(token)
	eventually(t, "the last line is there", func() bool {
		return slices.ContainsFunc(w.a.lines(), func(l logLine) bool {
			return l["msg"] == "a WeChat user has unfollowed" && l["person"] == person
		})
	})
	if secrets := slices.Collect(maps.Keys(w.secrets)); len(secrets) < 12 {
		t.Errorf("only %d secrets are looked for", len(secrets))
	}
}
