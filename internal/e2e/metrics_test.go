package e2e

import (
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// series are the samples of an instance's metrics, by name and labels.
type series map[string]float64

func (i *instance) scrape() (text string, all series) {
	i.w.t.Helper()
	text = newBrowser(i.w.t, i.w).do(http.MethodGet, "http://"+i.ops+"/metrics", content{}).want(i.w.t, http.StatusOK).body
	all = series{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		space := strings.LastIndexByte(line, ' ')
		n, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			i.w.t.Fatalf("%s: %v", line, err)
		}
		all[line[:space]] = n
	}
	return text, all
}

// counted is what both instances have counted together.
func (w *world) counted() series {
	_, sum := w.a.scrape()
	_, b := w.b.scrape()
	for name, n := range b {
		sum[name] += n
	}
	return sum
}

// since is what has moved since then, of the metrics that this test is about.
func (s series) since(before series) series {
	moved := series{}
	for name, n := range s {
		metric, _, _ := strings.Cut(name, "{")
		switch metric {
		case "scanlogin_claims_total", "scanlogin_callbacks_total", "scanlogin_logins_total", "scanlogin_scans_repeated_total",
			"scanlogin_scan_to_push_seconds_count", "scanlogin_wechat_calls_total", "scanlogin_sessions_ended_total",
			"scanlogin_streams_opened_total", "scanlogin_sweep_hits_total", "scanlogin_rate_limited_total", "scanlogin_login_step_seconds_count":
			if n != before[name] {
				moved[name] = n - before[name]
			}
		}
	}
	return moved
}

// ours are the names of what we count. Go's own may come and go.
func (s series) ours() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(name string) bool { return !strings.HasPrefix(name, "scanlogin_") })
}

// WeChat pushes to B, and the pages are on A: what is counted is the sum.
func TestMetricsCountWhatHappens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}})
	ming := w.boundPerson(t, "alice")
	w.account(t, "bob")
	var before series
	eventually(t, "what came before is counted", func() bool {
		before = w.counted()
		return before[`scanlogin_scan_to_push_seconds_count`] == 1
	})
	names := before.ours()

	b := newBrowser(t, w)
	s := b.events(w.a)
	code := s.code()
	w.scan(t, ming, code.Ticket)
	s.expect("success")
	b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	scene := strconv.Itoa(code.SceneID)
	w.push(b, w.b, w.pushXML(ming.OpenID, "SCAN", scene, code.Ticket)).want(t, http.StatusOK) // again
	hong := w.person(true)
	w.push(b, w.a, w.pushXML(hong.OpenID, "SCAN", scene, code.Ticket)).want(t, http.StatusOK)     // used
	w.push(b, w.a, w.pushXML(hong.OpenID, "SCAN", scene, "an old ticket")).want(t, http.StatusOK) // stale
	forged := signed(time.Now())
	forged.Set("signature", strings.Repeat("0", 40))
	w.pushWith(b, w.a, forged, w.pushXML(hong.OpenID, "SCAN", scene, code.Ticket)).want(t, http.StatusForbidden)
	w.pushWith(b, w.b, signed(time.Now().Add(-time.Hour)), w.pushXML(hong.OpenID, "SCAN", scene, code.Ticket)).want(t, http.StatusForbidden)
	w.push(b, w.b, "hello").want(t, http.StatusBadRequest)
	follow := w.pushXML(hong.OpenID, "subscribe", "", "")
	w.push(b, w.a, follow).want(t, http.StatusOK)
	w.push(b, w.b, follow).want(t, http.StatusOK) // which WeChat repeats
	w.push(b, w.a, w.pushXML(ming.OpenID, "nobody_knows_this_one", "", "")).want(t, http.StatusOK)
	b.post(w.a, "/logout", form()).want(t, http.StatusSeeOther)

	first := newBrowser(t, w)
	s = first.events(w.a)
	w.scan(t, hong, s.code().Ticket)
	s.expect("bind-required")
	first.post(w.a, "/user/bind", form("username", "bob", "password", "not it")).want(t, http.StatusForbidden)
	first.post(w.a, "/user/bind", form("username", "bob", "password", password)).want(t, http.StatusOK)
	s.expect("success")
	typed := newBrowser(t, w)
	typed.post(w.b, "/login", form("username", "bob", "password", "not it")).want(t, http.StatusUnauthorized)
	typed.post(w.b, "/login", form("username", "bob", "password", password)).want(t, http.StatusSeeOther)
	// Somebody unfollows, which ends the two sessions that there are.
	w.push(b, w.b, w.pushXML(hong.OpenID, "unsubscribe", "", "")).want(t, http.StatusOK)
	s = newBrowser(t, w).events(w.a)
	w.sql("UPDATE scanlogin.scene SET expires_at = now() WHERE state = 'waiting' AND id = " + strconv.Itoa(s.code().SceneID))
	s.expect("expired")

	want := series{
		`scanlogin_claims_total{code="made",outcome="got"}`:                    3,
		`scanlogin_wechat_calls_total{endpoint="create",errcode="0"}`:          3,
		`scanlogin_wechat_calls_total{endpoint="send",errcode="0"}`:            1, // of the bind
		`scanlogin_streams_opened_total`:                                       3,
		`scanlogin_callbacks_total{kind="scan",verdict="logged_in"}`:           2,
		`scanlogin_callbacks_total{kind="scan",verdict="must_bind"}`:           1,
		`scanlogin_callbacks_total{kind="scan",verdict="used"}`:                1,
		`scanlogin_callbacks_total{kind="scan",verdict="stale"}`:               1,
		`scanlogin_callbacks_total{kind="unread",verdict="bad_signature"}`:     1,
		`scanlogin_callbacks_total{kind="unread",verdict="outside_window"}`:    1,
		`scanlogin_callbacks_total{kind="unread",verdict="malformed"}`:         1,
		`scanlogin_callbacks_total{kind="subscribe",verdict="acknowledged"}`:   1,
		`scanlogin_callbacks_total{kind="subscribe",verdict="duplicate"}`:      1,
		`scanlogin_callbacks_total{kind="unsubscribe",verdict="acknowledged"}`: 1,
		`scanlogin_callbacks_total{kind="other",verdict="acknowledged"}`:       1,
		`scanlogin_scans_repeated_total`:                                       1,
		`scanlogin_scan_to_push_seconds_count`:                                 2,
		`scanlogin_logins_total{outcome="completed"}`:                          1,
		`scanlogin_logins_total{outcome="bound"}`:                              1,
		`scanlogin_logins_total{outcome="password"}`:                           1,
		`scanlogin_logins_total{outcome="refused"}`:                            2,
		`scanlogin_logins_total{outcome="expired"}`:                            1,
		`scanlogin_sessions_ended_total{by="logout"}`:                          1,
		`scanlogin_sessions_ended_total{by="unfollowed"}`:                      2,
		`scanlogin_login_step_seconds_count{step="claim"}`:                     3,
		`scanlogin_login_step_seconds_count{step="scan"}`:                      5,
		`scanlogin_login_step_seconds_count{step="complete"}`:                  1,
		`scanlogin_login_step_seconds_count{step="bind"}`:                      1,
	}
	var now series
	eventually(t, "the last event is counted, and the phone told", func() bool { // what came before is by then
		now = w.counted()
		happened := now.since(before)
		return happened[`scanlogin_logins_total{outcome="expired"}`] == 1 && happened[`scanlogin_wechat_calls_total{endpoint="send",errcode="0"}`] == 1
	})
	if diff := cmp.Diff(want, now.since(before)); diff != "" {
		t.Error(diff)
	}
	// No label comes from outside, and no series begins with the first event.
	if diff := cmp.Diff(names, now.ours()); diff != "" {
		t.Error(diff)
	}
}

func TestMetricsOfWhatIsShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: settings{"SCENE_POOL": "40", "CODES_READY_MAX": "5", "CODES_READY_MIN": "5"}})
	want := series{
		`scanlogin_pool_scenes{state="free"}`: 38, `scanlogin_pool_scenes{state="held"}`: 2, `scanlogin_pool_scenes{state="resting"}`: 0,
		`scanlogin_codes_ready`: 5, `scanlogin_codes_budget`: 100_000, `scanlogin_codes_blocked_seconds`: 0,
	}
	eventually(t, "codes lie ready", func() bool {
		_, all := w.a.scrape()
		return all["scanlogin_codes_ready"] == 5
	})
	newBrowser(t, w).events(w.a).code()
	newBrowser(t, w).events(w.b).code()
	for _, i := range []*instance{w.a, w.b} {
		eventually(t, "the numbers of instance "+i.name, func() bool {
			_, all := i.scrape()
			for name, n := range want {
				if all[name] != n {
					return false
				}
			}
			made, left := all["scanlogin_codes_made_today"], all["scanlogin_wechat_token_left_seconds"]
			return made >= 7 && left > 60 && left < 7200 && all["scanlogin_db_connections_max"] == 16 && all["scanlogin_listening"] == 1
		})
		if _, all := i.scrape(); all["scanlogin_notify_lag_seconds_count"] == 0 || all["scanlogin_listens_total"] != 1 {
			t.Errorf("%v proofs of life, %v times listening", all["scanlogin_notify_lag_seconds_count"], all["scanlogin_listens_total"])
		}
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	text, _ := w.a.scrape()
	check := exec.Command(tool(t, "promtool"), "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if said, err := check.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, said)
	}
}

// tool is a program that `make test` has installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: make setup installs it", err)
	}
	return path
}
