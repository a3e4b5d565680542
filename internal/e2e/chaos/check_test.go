package main

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// at is a moment of a journal, in seconds.
func at(seconds float64) int64 { return int64(seconds * 1e6) }

func begin() entry {
	return entry{Kind: kindRun, Seed: 1, Timing: &timing{
		TTL: 30 * time.Second, Grace: 10 * time.Second, Rest: 2 * time.Second, BindTTL: time.Minute, Exit: 10 * time.Second,
	}}
}

// shows is a browser that is given a code.
func shows(browser int, ticket string, scene int, when float64) []entry {
	return []entry{
		{At: at(when - 0.1), Kind: kindOpen, Browser: browser, Tab: 1},
		{At: at(when), Kind: kindQR, Browser: browser, Tab: 1, Ticket: ticket, Scene: scene, ExpiresIn: 30, Asked: at(when - 0.1)},
	}
}

// scans is a push that takes a tenth of a second.
func scans(push int, who, ticket string, when float64, reply string) []entry {
	e := entry{At: at(when), Kind: kindScanStart, Scan: push, Person: who, Ticket: ticket}
	done := e
	done.At, done.Kind, done.Asked, done.Acknowledged, done.Reply = at(when+0.1), kindScan, e.At, reply != "", reply
	done.Statuses = []int{200}
	if !done.Acknowledged {
		done.Statuses = []int{0, 503, 0}
	}
	return []entry{e, done}
}

func hears(browser int, ticket, event string, when float64) entry {
	return entry{At: at(when), Kind: kindEvent, Browser: browser, Tab: 1, Name: event, Ticket: ticket}
}

func completes(browser int, ticket, user string, when float64) []entry {
	return []entry{
		{At: at(when), Kind: kindComplete, Browser: browser, Tab: 1, Ticket: ticket, Asked: at(when - 0.1), Status: 200, From: "A", Set: true},
		{At: at(when + 0.1), Kind: kindSession, Browser: browser, Tab: 1, Ticket: ticket, Status: 200, From: "B", User: user},
	}
}

// fine is somebody who logs in, so that the run shows something.
func fine() []entry {
	return slices.Concat(
		shows(1, "fine", 1, 1), scans(1, "alice", "fine", 2, "logged_in"),
		[]entry{hears(1, "fine", "success", 2.2)}, completes(1, "fine", "alice", 2.5),
		[]entry{{At: at(2.7), Kind: kindDone, Browser: 1}},
	)
}

// story is a journal of what is given besides, in the order of time.
func story(parts ...[]entry) []entry {
	all := slices.Concat(parts...)
	slices.SortStableFunc(all, func(a, b entry) int { return int(a.At - b.At) })
	return slices.Concat([]entry{begin()}, all, []entry{{At: at(100), Kind: kindEnd}})
}

func one(e entry) []entry { return []entry{e} }

func TestCheckerJudges(t *testing.T) {
	t.Parallel()
	shows2 := shows(2, "t", 2, 10)
	lost := func(when float64) entry { return entry{At: at(when), Kind: kindLost, Browser: 2, Tab: 1} }
	leaves := func(when float64, detail string) entry {
		return entry{At: at(when), Kind: kindLeave, Browser: 2, Detail: detail}
	}
	answered := func(when float64, kind, from string, status int) entry {
		return entry{At: at(when), Kind: kind, Browser: 2, Tab: 1, Ticket: "t", Asked: at(when - 0.1), From: from, Status: status}
	}
	breaks := func(from, to float64) []entry {
		return []entry{
			{At: at(from), Kind: kindFault, Fault: 1, Name: faultStop, Phase: "start"},
			{At: at(to), Kind: kindFault, Fault: 1, Name: faultStop, Phase: "end"},
		}
	}
	for name, test := range map[string]struct {
		journal []entry
		want    []string
	}{
		"a login": {story(fine()), nil},
		"nothing": {nil, []string{badTooQuiet}},
		"no end":  {story(fine())[:8], []string{badTooQuiet}},
		"fewer faults than planned": {
			slices.Concat(one(entry{Kind: kindRun, Planned: 2, Timing: begin().Timing}), fine(), one(entry{At: at(9), Kind: kindEnd})),
			[]string{badTooQuiet},
		},

		"acknowledged, and nothing heard": {story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in")), []string{badLost}},
		"acknowledged, and the code expired": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "must_bind"), one(hears(2, "t", "expired", 40))),
			[]string{badLost},
		},
		"acknowledged to a browser that was closed for good": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(leaves(12.2, "gone"))), nil,
		},
		"acknowledged to a browser that came back": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(leaves(11, "back")),
				one(entry{At: at(14), Kind: kindBack, Browser: 2}), one(hears(2, "t", "success", 15)), completes(2, "t", "bob", 16)), nil,
		},
		"given up by WeChat, and nothing heard": {story(fine(), shows2, scans(2, "bob", "t", 12, "")), nil},
		"late, but heard":                       {story(fine(), shows2, scans(2, "bob", "t", 12, "must_bind"), one(hears(2, "t", "bind-required", 50))), nil},

		"logged in as nobody who scanned": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)), completes(2, "t", "mallory", 14)),
			[]string{badOther},
		},
		"logged in as the one who was told that the code is used": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), scans(3, "carol", "t", 12.01, "used"),
				one(hears(2, "t", "success", 13)), completes(2, "t", "carol", 14)),
			[]string{badOther},
		},
		"logged in as the one who was told that the code has expired": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "expired"), one(hears(2, "t", "success", 13)), completes(2, "t", "bob", 14)),
			[]string{badOther},
		},
		"two people were told that they are in": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), scans(3, "carol", "t", 12.05, "logged_in"),
				one(hears(2, "t", "success", 13)), completes(2, "t", "bob", 14)),
			[]string{badOther},
		},
		"logged in by a push that was stored but never answered": {
			story(fine(), shows2, scans(2, "bob", "t", 12, ""), one(hears(2, "t", "success", 13)), completes(2, "t", "bob", 14)), nil,
		},
		"logged in by a scan of another browser's code": {
			story(fine(), shows2, shows(3, "u", 3, 10), scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)),
				completes(2, "t", "bob", 14), one(hears(3, "u", "success", 14)), completes(3, "u", "bob", 15)),
			[]string{badOther},
		},

		"two sessions of one login": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)),
				completes(2, "t", "bob", 14), completes(2, "t", "bob", 14.05)),
			[]string{badTwice},
		},
		"a second tab that has the session already": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)),
				completes(2, "t", "bob", 14), one(answered(15, kindComplete, "B", 200))), nil,
		},
		"success, and then an end": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)), one(answered(15, kindComplete, "B", 410))),
			[]string{badSuccess},
		},
		"an answer that got lost, and then an end": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)),
				one(answered(14, kindComplete, "", 0)), one(answered(15, kindComplete, "B", 410))), nil,
		},
		"a session that is none": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)),
				completes(2, "t", "bob", 14)[:1], one(answered(15, kindSession, "B", 401))),
			[]string{badSession},
		},

		"a ticket in two browsers":       {story(fine(), shows2, shows(3, "t", 2, 20)), []string{badHeld}},
		"a scene in two browsers":        {story(fine(), shows2, shows(3, "u", 2, 20)), []string{badHeld}},
		"a scene that comes back to one": {story(fine(), shows2, shows(3, "u", 2, 45), one(shows(2, "t", 2, 46)[1])), []string{badHeld}},
		"a scene after its time":         {story(fine(), shows2, shows(3, "u", 2, 45)), nil},
		"a scene after its login's end": {
			story(fine(), shows2, scans(2, "bob", "t", 12, "logged_in"), one(hears(2, "t", "success", 13)), completes(2, "t", "bob", 14), shows(3, "u", 2, 17)), nil,
		},
		"a scene of a browser that left":                 {story(fine(), shows2, one(leaves(12, "gone")), shows(3, "u", 2, 23)), nil},
		"a scene within its grace":                       {story(fine(), shows2, one(lost(12)), shows(3, "u", 2, 15)), []string{badHeld}},
		"a scene after its grace":                        {story(fine(), shows2, one(lost(12)), shows(3, "u", 2, 23)), nil},
		"a code that ended early":                        {story(fine(), shows2, one(hears(2, "t", "expired", 20))), []string{badEarly}},
		"a code that ended in time":                      {story(fine(), shows2, one(hears(2, "t", "expired", 39.9))), nil},
		"a code that ended while its browser was away":   {story(fine(), shows2, one(lost(12)), one(hears(2, "t", "expired", 30))), nil},
		"a code that ended though its browser came back": {story(fine(), shows2, one(lost(12)), one(shows(2, "t", 2, 14)[1]), one(hears(2, "t", "expired", 30))), []string{badEarly}},

		"an old picture that is believed": {
			story(fine(), shows2, one(hears(2, "t", "expired", 40)), scans(2, "bob", "t", 41, "logged_in")),
			[]string{badStale, badLost},
		},
		"an old picture that is believed after the login's completion": {
			story(fine(), scans(2, "bob", "fine", 5, "logged_in")), []string{badStale, badOther},
		},
		"an old picture that is refused":                   {story(fine(), scans(2, "bob", "fine", 5, "used"), scans(3, "carol", "fine", 9, "expired")), nil},
		"the owner once more":                              {story(fine(), scans(2, "alice", "fine", 5, "logged_in")), nil},
		"the owner, answered only after the login is over": {story(fine(), shows2, scans(2, "bob", "t", 12, ""), one(hears(2, "t", "success", 13)), completes(2, "t", "bob", 14), scans(3, "bob", "t", 15, "logged_in")), nil},

		"killed":                     {story(fine(), one(entry{At: at(3), Kind: kindExit, Name: "A", Detail: faultKill, Code: -1})), nil},
		"stopped":                    {story(fine(), one(entry{At: at(3), Kind: kindExit, Name: "A", Detail: faultTerm, Took: at(2)})), nil},
		"stopped with an error":      {story(fine(), one(entry{At: at(3), Kind: kindExit, Name: "A", Detail: faultTerm, Code: 1, Took: at(2)})), []string{badExit}},
		"stopped too late":           {story(fine(), one(entry{At: at(13), Kind: kindExit, Name: "A", Detail: faultDeploy, Took: at(10.1)})), []string{badExit}},
		"broke down":                 {story(fine(), one(entry{At: at(3), Kind: kindExit, Name: "A", Detail: "itself", Code: 2})), []string{badExit}},
		"could not start":            {story(fine(), one(entry{At: at(3), Kind: kindExit, Name: "A", Detail: "itself", Code: 1})), []string{badExit}},
		"could not start in a fault": {story(fine(), breaks(2, 6), one(entry{At: at(3), Kind: kindExit, Name: "A", Detail: "itself", Code: 1})), nil},

		"the balancer's 503":             {story(fine(), shows2, one(answered(15, kindAnswer, "", 503))), nil},
		"an instance's 503 for a stream": {story(fine(), shows2, breaks(10, 20), one(answered(15, kindAnswer, "A", 503))), []string{badAnswer}},
		"an end that wasn't asked for":   {story(fine(), shows2, one(answered(15, kindAnswer, "A", 204))), []string{badAnswer}},
		"a 500 in calm times":            {story(fine(), shows2, one(answered(15, kindComplete, "A", 500))), []string{badAnswer}},
		"a 500 in a fault":               {story(fine(), shows2, breaks(10, 20), one(answered(15, kindComplete, "A", 500))), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, v := range check(test.journal).violations {
				if len(v.lines) == 0 && v.kind != badTooQuiet {
					t.Errorf("%s: no lines that show it", v.kind)
				}
				got = append(got, v.kind)
			}
			slices.Sort(got)
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDelaysBelongToFaultsOrToCalm(t *testing.T) {
	t.Parallel()
	fault := []entry{
		{At: at(20), Kind: kindFault, Fault: 1, Name: faultKill, Phase: "start"},
		{At: at(22), Kind: kindFault, Fault: 1, Name: faultKill, Phase: "end"},
	}
	calm := slices.Concat(shows(2, "calm", 2, 10), scans(2, "bob", "calm", 12, "logged_in"), one(hears(2, "calm", "success", 12.3)))
	during := slices.Concat(shows(3, "during", 3, 10), scans(3, "carol", "during", 19.5, "logged_in"), one(hears(3, "during", "success", 20.5)))
	after := slices.Concat(shows(4, "after", 4, 10), one(entry{At: at(21), Kind: kindLost, Browser: 4, Tab: 1}),
		scans(4, "dave", "after", 23, "logged_in"), one(hears(4, "after", "success", 25.5)))
	closed := slices.Concat(shows(5, "closed", 5, 10), one(entry{At: at(30), Kind: kindLeave, Browser: 5, Detail: "back"}),
		scans(5, "erin", "closed", 31, "logged_in"), one(entry{At: at(33), Kind: kindBack, Browser: 5}), one(hears(5, "closed", "success", 33.1)))
	got := check(story(fine(), fault, calm, during, after, closed)).latencies
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	want := latencies{
		classOutside: {[]time.Duration{second(0.1), second(0.2)}, []time.Duration{second(0.2), second(0.3)}},
		classInside:  {[]time.Duration{second(0.9), second(2.4)}, []time.Duration{second(1), second(2.5)}},
		classAway:    {[]time.Duration{second(2)}, []time.Duration{second(2.1)}},
	}
	for _, d := range got { // the journal's logins are looked at in any order
		slices.Sort(d.fromAnswer)
		slices.Sort(d.fromScan)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(delays{}), cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < time.Millisecond })); diff != "" {
		t.Error(diff)
	}
}

func TestJournalSurvivesItsFile(t *testing.T) {
	t.Parallel()
	want := story(fine())
	var file bytes.Buffer
	if err := writeJournal(&file, want); err != nil {
		t.Fatal(err)
	}
	got, err := readJournal(&file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := readJournal(bytes.NewBufferString("{}\n{")); err == nil {
		t.Error("half a line was read")
	}
}
