package account

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheOwnerIsToldWhatWasDone(t *testing.T) {
	service, store := newService()
	alice, err := service.Create(t.Context(), "alice", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	store.users[alice.ID].ties = []Identity{{}}
	if _, _, err := service.ChangePassword(t.Context(), signIn(t, service, alice), "correct horse", "battery staple"); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Unbind(t.Context(), alice.ID); err != nil {
		t.Fatal(err)
	}
	if err := service.SetPassword(t.Context(), "alice", "horse battery"); err != nil {
		t.Fatal(err)
	}
	notices, err := service.Notices(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	var told []NoticeKind
	var ids []int64
	for _, n := range notices {
		told, ids = append(told, n.Kind), append(ids, n.ID)
	}
	if want := []NoticeKind{NoticePasswordChanged, NoticeUnbound, NoticePasswordChanged}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	for _, want := range []int{2, 0} {
		if n, err := service.SeenNotices(t.Context(), alice.ID, ids[:2]); n != want || err != nil {
			t.Errorf("%d seen, want %d (%v)", n, want, err)
		}
	}
}

// desk is a [NoticeStore] that hands out what lies on it, and keeps what comes back.
type desk struct {
	mu          sync.Mutex
	untold      []Untold
	told, left  []int64
	broken      error
	claims      int
	settleFails error
}

func (d *desk) ClaimNotices(_ context.Context, most int, _ time.Duration) ([]Untold, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims++
	n := min(most, len(d.untold))
	taken := d.untold[:n]
	d.untold = d.untold[n:]
	return taken, d.broken
}

func (d *desk) EndNotice(_ context.Context, u Untold) error { return d.settle(&d.told, u) }

func (d *desk) LeaveNotice(_ context.Context, u Untold) error { return d.settle(&d.left, u) }

func (d *desk) settle(where *[]int64, u Untold) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	*where = append(*where, u.ID)
	return d.settleFails
}

func (d *desk) put(untold ...Untold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.untold = append(d.untold, untold...)
}

func untold(id int64, kind NoticeKind, phones ...string) Untold {
	return Untold{Notice: Notice{ID: id, Kind: kind}, OpenIDs: phones}
}

// telling runs a Teller in a bubble until the test is over.
func telling(t *testing.T, d *desk, send func(ctx context.Context, openID, text string) error) (_ *Teller, log *strings.Builder, stop func()) {
	t.Helper()
	log = &strings.Builder{}
	words := func(n Notice) string { return strings.TrimPrefix(string(n.Kind), "unknown") }
	teller := NewTeller(d, words, send, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		teller.Run(ctx)
		close(done)
	}()
	return teller, log, func() {
		cancel()
		<-done
	}
}

func TestATellerTellsEveryPhoneOrLeavesItToThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		var mu sync.Mutex
		var sent []string
		teller, log, stop := telling(t, d, func(_ context.Context, openID, text string) error {
			if openID == "closed" {
				return errors.New("errcode 45015")
			}
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, openID+" "+text)
			return nil
		})
		d.put(untold(1, NoticeBound, "new", "old"), untold(2, NoticeUnbound, "closed", "open"), untold(3, "unknown", "new"))
		for id := range int64(20) {
			d.put(untold(100+id, NoticePasswordChanged, "many"))
		}
		began := time.Now()
		teller.Wake()
		teller.Wake()
		synctest.Wait()
		if time.Since(began) != 0 {
			t.Error("a teller that is woken waits")
		}
		slices.Sort(d.left)
		slices.Sort(d.told)
		if len(d.told) != 21 || d.told[0] != 1 || !slices.Equal(d.left, []int64{2, 3}) {
			t.Errorf("told %v, left to the page %v", d.told, d.left)
		}
		slices.Sort(sent)
		sent = slices.Compact(sent)
		if want := []string{"many password_changed", "new bound", "old bound", "open unbound"}; !slices.Equal(sent, want) {
			t.Errorf("sent %q", sent)
		}
		if !strings.Contains(log.String(), "45015") || strings.Contains(log.String(), "closed") {
			t.Errorf("the log says %s", log)
		}

		// Nobody says so when it comes from a shell.
		d.put(untold(200, NoticeUnbound, "shell"))
		time.Sleep(2 * tellInterval)
		synctest.Wait()
		if len(d.told) != 22 {
			t.Error("what nobody has woken it for isn't told")
		}
		stop()
	})
}

// hang is a WeChat that doesn't answer.
func hang(ctx context.Context, _, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestATellerDoesNotWaitForWeChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		d.put(untold(1, NoticeBound, "one", "two"))
		_, _, stop := telling(t, d, hang)
		time.Sleep(tellDeadline)
		synctest.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		if !slices.Equal(d.left, []int64{1}) || len(d.told) != 0 {
			t.Errorf("at its deadline %v are left to the page, %v are told", d.left, d.told)
		}
		stop()
	})
}

func TestATellerThatStopsLeavesItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		d.put(untold(1, NoticeBound, "one"))
		_, _, stop := telling(t, d, hang)
		synctest.Wait() // it is sending
		stop()
		if len(d.told)+len(d.left) != 0 {
			t.Errorf("told %v, left %v", d.told, d.left)
		}
	})
}

func TestATellerToldOfAnOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{broken: errors.New("no database")}
		_, log, stop := telling(t, d, func(context.Context, string, string) error { return nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		d.mu.Lock()
		if d.broken, d.settleFails = nil, errors.New("gone again"); d.claims < 5 {
			t.Errorf("%d tries in a minute", d.claims)
		}
		d.mu.Unlock()
		d.put(untold(1, NoticeBound, "one"))
		time.Sleep(2 * tellInterval)
		synctest.Wait()
		stop()
		if n := strings.Count(log.String(), "no database"); n != 1 || !strings.Contains(log.String(), "gone again") {
			t.Errorf("the log says %s", log)
		}
	})
}
