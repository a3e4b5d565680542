package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
)

// ask scans the login's code where a scan has to be confirmed.
func (w *world) ask(l login.Login, openID string, by login.Confirm, secrets ...string) login.Outcome {
	w.t.Helper()
	o, _, err := w.logins.Ask(w.t.Context(), scanOf(l, openID), by, secrets, long)
	w.ok(err)
	return o
}

// answer is what a new message of the person leads to; an empty number is a refusal.
func (w *world) answer(openID, number string) login.Outcome {
	w.t.Helper()
	v, err := w.judge(openID, number, newPush())
	if errors.Is(err, login.ErrNotAsked) {
		return login.Stale
	}
	w.ok(err)
	return v.Outcome
}

func (w *world) judge(openID, number string, push []byte) (login.Verdict, error) {
	return w.logins.Answer(w.t.Context(), login.Answer{OpenID: openID, Push: push}, number, long)
}

func newPush() []byte {
	hash := newHash()
	return hash[:]
}

// typed is what a code leads to that is typed into the login's browser.
func (w *world) typed(ref login.Ref, code string) string {
	w.t.Helper()
	left, err := w.logins.ConfirmCode(w.t.Context(), ref, code, long)
	if errors.Is(err, login.ErrCode) {
		return fmt.Sprintf("wrong:%d", left)
	}
	if errors.Is(err, login.ErrNotAsked) {
		return "not_asked"
	}
	return errName(err)
}

func (w *world) confirmations() int {
	w.t.Helper()
	return get[int](w, "SELECT count(*) FROM scanlogin.confirmation")
}

func (w *world) wantState(l login.Login, want login.State) {
	w.t.Helper()
	if got := w.state(l.Ref); got != want {
		w.t.Errorf("the login is %v, want %v", got, want)
	}
}

func TestANumberConfirms(t *testing.T) {
	t.Parallel()
	for openID, want := range map[string]struct {
		outcome login.Outcome
		state   login.State
	}{"tied": {login.LoggedIn, login.Authenticated}, "new": {login.MustBind, login.BindRequired}} {
		t.Run(openID, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			ann := w.account("ann")
			w.tie("tied", ann)
			l := w.show()
			w.ok(w.logins.SetOrigin(t.Context(), l.Ref, login.Origin{Place: "Dali", Browser: "Firefox, Linux"}))
			if o := w.ask(l, openID, login.ConfirmReply, "42"); o != login.ToConfirm {
				t.Fatalf("the scan was told %v", o)
			}
			w.wantState(l, login.Scanned)
			for name, end := range map[string]error{"complete": w.complete(l.Ref), "bind": w.bind(l.Ref, ann)} {
				if !errors.Is(end, login.ErrNotReady) {
					t.Errorf("%s before the answer: %v", name, end)
				}
			}
			if o := w.answer("somebody else", "42"); o != login.Stale {
				t.Errorf("somebody else's answer: %v", o)
			}
			v, err := w.judge(openID, "42", newPush())
			if diff := cmp.Diff(login.Verdict{Outcome: want.outcome, Changed: []login.ID{l.ID}, Origin: login.Origin{Place: "Dali", Browser: "Firefox, Linux"}}, v); err != nil || diff != "" {
				t.Errorf("the answer: %v\n%s", err, diff)
			}
			w.wantState(l, want.state)
			if w.answer(openID, "42") != login.Stale || w.confirmations() != 0 {
				t.Error("asked once more after the answer")
			}
			end := w.complete(l.Ref)
			if openID == "new" {
				end = w.bind(l.Ref, ann)
			}
			if end != nil || w.sessions() != 1 {
				t.Errorf("the end: %v, %d sessions", end, w.sessions())
			}
		})
	}
}

func TestARefusalDeclinesAllThatThePersonIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	number, code, other, waiting := w.show(), w.show(), w.show(), w.show()
	w.ask(number, "ann", login.ConfirmReply, "42")
	w.ask(code, "ann", login.ConfirmCode, "123456")
	w.ask(other, "bob", login.ConfirmReply, "42")
	v, err := w.judge("ann", "", newPush())
	if err != nil || v.Outcome != login.Refused || len(v.Changed) != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	w.wantState(number, login.Declined)
	w.wantState(code, login.Declined)
	w.wantState(other, login.Scanned)
	w.wantState(waiting, login.Waiting)
	if _, err := w.logins.Join(t.Context(), number.Ref); !errors.Is(err, login.ErrEnded) {
		t.Errorf("joining a declined login: %v", err)
	}
	if err := w.complete(number.Ref); !errors.Is(err, login.ErrEnded) {
		t.Errorf("completing a declined login: %v", err)
	}
	if got := w.typed(code.Ref, "123456"); got != "ended" {
		t.Errorf("the code of a declined login: %s", got)
	}
	if o := w.ask(number, "ann", login.ConfirmReply, "43"); o != login.Stale {
		t.Errorf("scanning a declined login: %v", o)
	}
}

func TestThreeWrongNumbersEndIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	l := w.show()
	w.ask(l, "ann", login.ConfirmReply, "42")
	var told []login.Outcome
	for range 4 {
		told = append(told, w.answer("ann", "41"))
	}
	if want := []login.Outcome{login.WrongNumber, login.WrongNumber, login.WrongThrice, login.Stale}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	w.wantState(l, login.Declined)
	// The right one after two wrong ones is right.
	l = w.show()
	w.ask(l, "ann", login.ConfirmReply, "42")
	for i, number := range []string{"41", "43", "42"} {
		if o := w.answer("ann", number); (o == login.MustBind) != (i == 2) {
			t.Errorf("number %d was told %v", i+1, o)
		}
	}
}

// WeChat pushes a message up to three times, at once or one after the other.
func TestARepeatedAnswerCountsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 12)
	w.tie("ann", w.account("ann"))
	for _, number := range []string{"41", "42", ""} {
		for range 4 {
			l := w.show()
			w.ask(l, "ann", login.ConfirmReply, "42")
			push, outcomes := newPush(), make([]login.Outcome, 6)
			atOnce(len(outcomes)-1, func(i int) {
				v, err := w.judge("ann", number, push)
				if err != nil {
					t.Error(err)
				}
				outcomes[i] = v.Outcome
			})
			v, err := w.judge("ann", number, push)
			w.ok(err)
			outcomes[len(outcomes)-1] = v.Outcome
			want := map[string]login.Outcome{"41": login.WrongNumber, "42": login.LoggedIn, "": login.Refused}[number]
			if slices.ContainsFunc(outcomes, func(o login.Outcome) bool { return o != want }) {
				t.Errorf("%q was told %v, want %v each time", number, outcomes, want)
			}
			if wrong := get[int](w, "SELECT coalesce(sum(wrong), 0)::int FROM scanlogin.confirmation"); number == "41" && wrong != 1 {
				t.Errorf("it counts %d times", wrong)
			}
			w.answer("ann", "") // the end of it
		}
	}
}

func TestTriesAtOnceAreThree(t *testing.T) {
	t.Parallel()
	const tries = 12
	w := newWorld(t, 10)
	for n := range 5 {
		reply, code := w.show(), w.show()
		w.ask(reply, "ann", login.ConfirmReply, "42")
		w.ask(code, "bob", login.ConfirmCode, "123456")
		var wrong, last, gone atomic.Int32
		typed := make([]string, tries)
		atOnce(2*tries, func(i int) {
			if i < tries {
				typed[i] = w.typed(code.Ref, "654321")
				return
			}
			switch w.answer("ann", "41") {
			case login.WrongNumber:
				wrong.Add(1)
			case login.WrongThrice:
				last.Add(1)
			default:
				gone.Add(1)
			}
		})
		if wrong.Load() != 2 || last.Load() != 1 || gone.Load() != tries-3 {
			t.Errorf("run %d: %d wrong numbers, %d last ones, %d too late", n, wrong.Load(), last.Load(), gone.Load())
		}
		slices.Sort(typed)
		want := append(slices.Repeat([]string{"ended"}, tries-3), "wrong:0", "wrong:1", "wrong:2")
		if diff := cmp.Diff(want, typed); diff != "" {
			t.Errorf("run %d: codes typed (-want +got):\n%s", n, diff)
		}
		w.wantState(reply, login.Declined)
		w.wantState(code, login.Declined)
	}
}

// The number says which browser is meant.
func TestTwoBrowsersOfOnePersonHaveTwoNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	first, second, third := w.show(), w.show(), w.show()
	w.ask(first, "ann", login.ConfirmReply, "42", "43")
	w.ask(second, "ann", login.ConfirmReply, "42", "43")
	if o := w.answer("ann", "43"); o != login.MustBind {
		t.Errorf("the second one's number: %v", o)
	}
	w.wantState(first, login.Scanned)
	w.wantState(second, login.BindRequired)
	// With all numbers taken, the newest is meant.
	w.exec("UPDATE scanlogin.confirmation SET expires_at = expires_at - interval '1 min'")
	w.ask(third, "ann", login.ConfirmReply, "42")
	w.answer("ann", "42")
	w.wantState(first, login.Scanned)
	w.wantState(third, login.BindRequired)
	// A wrong one counts for all.
	fourth := w.show()
	w.answer("ann", "99")
	w.answer("ann", "99")
	w.ask(fourth, "ann", login.ConfirmReply, "44")
	if o := w.answer("ann", "99"); o != login.WrongNumber {
		t.Errorf("the third for one and the first for the other: %v", o)
	}
	w.wantState(first, login.Declined)
	w.wantState(fourth, login.Scanned)
}

func TestACodeIsOfOneBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	w.tie("ann", w.account("ann"))
	asked, other, reply, waiting := w.show(), w.show(), w.show(), w.show()
	w.ask(asked, "ann", login.ConfirmCode, "123456")
	w.ask(other, "bob", login.ConfirmCode, "654321")
	w.ask(reply, "cyd", login.ConfirmReply, "42")
	for _, c := range []struct {
		what string
		ref  login.Ref
		code string
		want string
	}{
		{"a browser that waits", waiting.Ref, "123456", "not_asked"},
		{"a number typed where it is to be answered with", reply.Ref, "42", "not_asked"},
		{"a login that nobody knows", login.Ref{Scene: asked.Scene, ID: newID()}, "123456", "ended"},
		{"the key of another scene", login.Ref{Scene: other.Scene, ID: asked.ID}, "123456", "ended"},
		{"the code of another browser", other.Ref, "123456", "wrong:2"},
		{"the right one", asked.Ref, "123456", "ok"},
		{"the right one again", asked.Ref, "123456", "not_asked"},
		{"the right one after a wrong one", other.Ref, "654321", "ok"},
	} {
		if got := w.typed(c.ref, c.code); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	w.wantState(asked, login.Authenticated)
	w.wantState(other, login.BindRequired)
	if o := w.answer("bob", "654321"); o != login.Stale {
		t.Errorf("a code sent in the chat: %v", o)
	}
	w.ok(w.complete(asked.Ref))
}

// A person who scans again, and a push that comes again, is asked the same.
func TestAScanAgainAsksTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.tie("ann", w.account("ann"))
	l := w.show()
	w.ok(w.logins.SetOrigin(t.Context(), l.Ref, login.Origin{Browser: "Firefox, Linux"}))
	scan := scanOf(l, "ann")
	scan.Push = newPush()
	ask := func(scan login.Scan) (login.Outcome, login.ID) {
		t.Helper()
		o, id, err := w.logins.Ask(t.Context(), scan, login.ConfirmCode, []string{"123456"}, long)
		w.ok(err)
		return o, id
	}
	for range 2 {
		if o, id := ask(scan); o != login.ToConfirm || id != l.ID {
			t.Errorf("told %v, for %v", o, id)
		}
		q, err := w.logins.QuestionTo(t.Context(), scan)
		if want := (login.Question{By: login.ConfirmCode, Code: "123456", Origin: login.Origin{Browser: "Firefox, Linux"}}); err != nil || q != want {
			t.Errorf("asked %+v, %v", q, err)
		}
	}
	if o, id := ask(scanOf(l, "bob")); o != login.Used || id != (login.ID{}) {
		t.Errorf("another person was told %v, for %v", o, id)
	}
	if _, err := w.logins.QuestionTo(t.Context(), scanOf(l, "bob")); !errors.Is(err, login.ErrEnded) {
		t.Errorf("another person is asked: %v", err)
	}
	if got := w.typed(l.Ref, "123456"); got != "ok" {
		t.Fatal(got)
	}
	if o, _ := ask(scan); o != login.LoggedIn {
		t.Errorf("after the confirm, told %v", o)
	}
	w.timeOut(l.Ref)
	if o, _ := ask(scan); o != login.Stale {
		t.Errorf("after the end, told %v", o)
	}
}

// Whatever instance a browser reaches says what it was told before; never a code.
func TestABrowserIsToldWhatItsLoginWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	reply, code := w.show(), w.show()
	w.ask(reply, "ann", login.ConfirmReply, "42")
	w.ask(code, "bob", login.ConfirmCode, "123456")
	for l, want := range map[login.Login]login.Question{
		reply: {By: login.ConfirmReply, Number: "42"},
		code:  {By: login.ConfirmCode},
	} {
		joined, err := w.logins.Join(t.Context(), l.Ref)
		if err != nil || joined.State != login.Scanned || joined.Question != want {
			t.Errorf("joined %+v, %v", joined, err)
		}
		looked, err := w.logins.Look(t.Context(), []login.Watch{{Ref: l.Ref, Seen: login.Waiting}})
		if err != nil || len(looked) != 1 || looked[0].State != login.Scanned || looked[0].Question != want {
			t.Errorf("looked at %+v, %v", looked, err)
		}
		if looked, err := w.logins.Look(t.Context(), []login.Watch{{Ref: l.Ref, Seen: login.Scanned}}); err != nil || len(looked) != 0 {
			t.Errorf("who knows is told %+v, %v", looked, err)
		}
	}
}

// The answer may come between the look at a login and the look at what it waits for.
func TestAnAnswerBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{"42": "bind_required", "": "ended"} {
		w := newWorld(t, 1)
		l := w.show()
		w.ask(l, "ann", login.ConfirmReply, "42")
		db := w.instance()
		logins := w.logins
		logins.DB = db
		db.BeforeEach(func(statement string, _ []any) {
			if strings.Contains(statement, "name: Questions ") {
				w.answer("ann", number)
			}
		})
		looked, err := logins.Look(t.Context(), []login.Watch{{Ref: l.Ref, Seen: login.Waiting}})
		if err != nil || len(looked) != 0 {
			t.Errorf("looked at %+v, %v", looked, err)
		}
		w.exec("UPDATE scanlogin.scene SET state = 'waiting', openid = NULL, expires_at = now() + interval '1 h'")
		w.ask(l, "ann", login.ConfirmReply, "42")
		joined, err := logins.Join(t.Context(), l.Ref)
		got := errName(err)
		if err == nil {
			got = joined.State.String()
		}
		if got != want {
			t.Errorf("after %q, joined: %s, want %s", number, got, want)
		}
	}
}

func TestAQuestionRunsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	c := w.newClock()
	reply, code := c.show(), c.show()
	for l, by := range map[login.Login]login.Confirm{reply: login.ConfirmReply, code: login.ConfirmCode} {
		_, _, err := c.logins.Ask(t.Context(), scanOf(l, "ann"), by, []string{"42"}, time.Minute)
		c.ok(err)
	}
	asked := func() bool {
		t.Helper()
		asked, err := c.logins.AwaitsAnswer(t.Context(), "ann")
		c.ok(err)
		return asked
	}
	c.ahead(50 * time.Second)
	if n, err := c.db.RemoveConfirmations(t.Context(), 10); err != nil || n != 0 || !asked() {
		t.Errorf("%d questions were removed in time (%v)", n, err)
	}
	c.ahead(61 * time.Second)
	if asked() || c.answer("ann", "42") != login.Stale || c.answer("ann", "") != login.Stale {
		t.Error("answered out of time")
	}
	if got := c.typed(code.Ref, "42"); got != "ended" {
		t.Errorf("a code out of time: %s", got)
	}
	c.wantState(reply, login.Expired)
	if _, err := c.logins.QuestionTo(t.Context(), scanOf(code, "ann")); !errors.Is(err, login.ErrEnded) {
		t.Errorf("asked out of time: %v", err)
	}
	if n, err := c.db.RemoveConfirmations(t.Context(), 10); err != nil || n != 2 {
		t.Errorf("%d questions were removed (%v)", n, err)
	}
}

// The fence: what is asked about a login says nothing about the scene's next holder.
func TestAnAnswerToAFormerHolderChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	former := w.show()
	w.ask(former, "ann", login.ConfirmReply, "42")
	w.timeOut(former.Ref) // its question lives on
	holder := w.show()
	w.ask(holder, "bob", login.ConfirmReply, "43")
	before := w.row(holder.Scene)
	for _, number := range []string{"42", "41", ""} {
		if o := w.answer("ann", number); o != login.Stale {
			t.Errorf("%q was told %v", number, o)
		}
	}
	if got := w.typed(former.Ref, "42"); got != "ended" {
		t.Errorf("typed: %s", got)
	}
	if diff := cmp.Diff(before, w.row(holder.Scene)); diff != "" {
		t.Errorf("the holder has changed:\n%s", diff)
	}
}

// Two messages, scans and browsers at once: nobody waits for ever.
func TestAnswersOfOnePersonAtOnceDoNotLockEachOther(t *testing.T) {
	t.Parallel()
	const browsers = 20
	w := newWorld(t, 4*browsers)
	for range 4 {
		var logins []login.Login
		for range browsers {
			logins = append(logins, w.show())
		}
		atOnce(2*browsers, func(i int) {
			l := logins[i%browsers]
			switch {
			case i < browsers:
				w.ask(l, "ann", login.ConfirmReply, fmt.Sprint(10+i))
			case i%3 == 0:
				w.answer("ann", "")
			case i%3 == 1:
				w.answer("ann", fmt.Sprint(10+i%browsers))
			default:
				if err := w.logins.Leave(t.Context(), []login.Ref{l.Ref, logins[0].Ref, logins[browsers-1].Ref}); err != nil {
					t.Error(err)
				}
			}
		})
		w.answer("ann", "")
		for _, l := range logins {
			if s := w.state(l.Ref); s == login.Scanned {
				t.Errorf("a login is still %v", s)
			}
		}
	}
}

// An index for each way to look, however many are asked.
func TestQuestionsAreFoundByAnIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.planForAny()
	w.exec(`INSERT INTO scanlogin.confirmation (login, scene, appid, openid, kind, secret, expires_at)
		SELECT gen_random_uuid(), n, $1, 'person ' || n, 'reply', '42', now() + interval '1 min' FROM generate_series(1, 5000) n`, appID)
	w.exec("ANALYZE scanlogin.confirmation")
	for name, run := range map[string]func(q *pgstore.Queries) error{
		"AwaitsAnswer": func(q *pgstore.Queries) error { _, err := q.AwaitsAnswer(t.Context(), appID, "ann"); return err },
		"Answer": func(q *pgstore.Queries) error {
			_, err := q.Answer(t.Context(), pgstore.AnswerParams{Appid: appID, Openid: "ann", Push: []byte("push")})
			return err
		},
		"Questions":           func(q *pgstore.Queries) error { _, err := q.Questions(t.Context(), []login.ID{newID()}); return err },
		"RemoveConfirmations": func(q *pgstore.Queries) error { _, err := q.RemoveConfirmations(t.Context(), 1000); return err },
	} {
		spy := &spy{}
		if err := run(pgstore.New(spy)); !errors.Is(err, errSpy) {
			t.Fatal(err)
		}
		if plan := w.plan(spy.statement, spy.args...); strings.Contains(plan, "Seq Scan on confirmation") {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
}
