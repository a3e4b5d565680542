package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"scanlogin/internal/e2e/chromium"
	"scanlogin/internal/status"
)

func (w *world) status(t *testing.T) (r status.Report) {
	t.Helper()
	got := w.command(t, "", "status", "--json")
	if got.code != 0 {
		t.Fatalf("status: %+v", got)
	}
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stopped: true})
	w.a.settings["INSTANCE"], w.b.settings["INSTANCE"] = "first", "second"
	if r := w.command(t, "", "migrate", "up"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := w.command(t, "", "status"); r.code != 1 || !strings.Contains(r.stderr, "no instance") {
		t.Errorf("where nothing runs: %+v", r)
	}
	for _, i := range []*instance{w.a, w.b} {
		i.start()
		i.awaitReady()
	}
	code := newBrowser(t, w).events(w.a).code()
	w.scan(t, w.person(true), code.Ticket)
	eventually(t, "the first instance tells of its stream and of WeChat's push", func() bool {
		r := w.status(t)
		return len(r.Instances) == 2 && r.Instances[0].Name == "first" && r.Instances[0].Streams == 1 && r.Pool.Held == 1 &&
			(r.Instances[0].LastCallback != nil || r.Instances[1].LastCallback != nil)
	})
	if r := w.status(t); len(r.Accounts) != 1 || r.Accounts[0].CodesToday != 1 || r.Accounts[0].TokenEndsIn == 0 || r.Pool.Size != 500 {
		t.Errorf("%+v", r)
	}
	words := w.command(t, "", "status").stdout
	for _, part := range []string{"first", "second", "up", appID, "500"} {
		if !strings.Contains(words, part) {
			t.Errorf("%q is missing in\n%s", part, words)
		}
	}

	w.b.stop()
	if r := w.status(t); len(r.Instances) != 1 || r.Instances[0].State != status.Up {
		t.Errorf("after one has ended: %+v", r.Instances)
	}
	w.a.kill()
	w.connected(func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), "UPDATE scanlogin.instance SET seen_at = now() - interval '1 min'")
		return err
	})
	r := w.command(t, "", "status")
	if r.code != 1 || !strings.Contains(r.stdout, "silent for 1m") {
		t.Errorf("after one has died: %+v", r)
	}
}

// The operator's page tells what changes while it is open, also that the database is away.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	browser, stop, err := chromium.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w := newWorld(t, options{settings: settings{"INSTANCE": "<b>first</b>"}})
	page := window{ctx: browser, language: "en", width: 1200}.at(t, "http://"+w.a.ops+"/")
	page.awaitText("main", "<b>first</b>") // as text
	newBrowser(t, w).events(w.b).code()
	page.awaitText(".figure:nth-child(2)", "1 open streams")
	page.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	page.awaitFit("the operator's page on a phone")

	answer := newBrowser(t, w).do(http.MethodGet, "http://"+w.a.ops+"/status", content{})
	answer.want(t, http.StatusOK)
	w.a.stop() // though somebody watches
	page.expectError(0)
	page.await(`document.querySelector('main').hasAttribute('data-stale')`)
}
