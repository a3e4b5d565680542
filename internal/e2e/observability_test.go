package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const observability = "../../docs/observability"

// prometheus is a real one that scrapes both instances.
type prometheus struct {
	t    testing.TB
	addr string
}

func (w *world) prometheus(t testing.TB, rules string, args ...string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [%s]\n"+
		"scrape_configs:\n- job_name: scanlogin\n  static_configs: [{targets: [%q, %q]}]\n", rules, w.a.ops, w.b.ops)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t, freeAddr(t)}
	cmd := exec.Command(tool(t, "prometheus"), append([]string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + p.addr, "--log.level=warn",
	}, args...)...)
	var log output
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &log, &log, dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log("prometheus said:\n" + log.String())
		}
	})
	return p
}

// get asks the HTTP API; ok is false while it can't be reached.
func (p *prometheus) get(path string, into any) (ok bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable { // it starts
		return false
	}
	if resp.StatusCode != http.StatusOK {
		p.t.Errorf("%s: status %d: %s", path, resp.StatusCode, body)
		return false
	}
	if err := json.Unmarshal(body, into); err != nil {
		p.t.Fatal(err)
	}
	return true
}

// query is how many series an expression has now.
func (p *prometheus) query(expr string) int {
	p.t.Helper()
	var answer struct {
		Data struct {
			Result []any `json:"result"`
		} `json:"data"`
	}
	p.get("/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &answer)
	return len(answer.Data.Result)
}

// panel is one of the dashboard's, or a rule.
type panel struct{ title, expr string }

func dashboard(t testing.TB) (panels []panel) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(observability, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			panels = append(panels, panel{p.Title, target.Expr})
		}
	}
	return panels
}

// Every expression of the dashboard and of the alerts is asked of a real Prometheus that
// scrapes two real instances: it has to be understood, the dashboard's have to have an
// answer, and every metric has to be there.
func TestDashboardAndAlertsOnARunningInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}, settings: settings{"CODES_READY_MAX": "5", "CODES_READY_MIN": "5"}})
	rules, err := filepath.Abs(filepath.Join(observability, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	p := w.prometheus(t, rules)
	who := w.boundPerson(t, "alice")
	logIn := func() {
		b := newBrowser(t, w)
		s := b.events(w.a)
		w.scan(t, who, s.code().Ticket)
		s.expect("success")
		b.post(w.b, "/login/complete", jsonBody()).want(t, http.StatusOK)
	}
	eventually(t, "Prometheus has seen logins come", func() bool {
		logIn()
		return p.query(`rate(scanlogin_scan_to_push_seconds_count[1m]) > 0`) > 0 && p.query(`rate(scanlogin_callbacks_total[1m]) > 0`) > 0
	})
	_, there := w.a.scrape()
	panels := dashboard(t)
	if len(panels) < 30 {
		t.Fatalf("%d panels", len(panels))
	}
	for _, panel := range panels {
		expr := strings.ReplaceAll(panel.expr, "$__rate_interval", "1m")
		w.wantMetrics(t, there, panel)
		eventually(t, panel.title+" has something to show: "+expr, func() bool { return p.query(expr) > 0 })
	}
	var alerts struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Query, Health, LastError string
					Annotations                    map[string]string
				} `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	eventually(t, "the alerts are evaluated", func() bool {
		return p.get("/api/v1/rules", &alerts) && len(alerts.Data.Groups) > 0 && alerts.Data.Groups[0].Rules[0].Health != "unknown"
	})
	for _, r := range alerts.Data.Groups[0].Rules {
		if r.Health != "ok" {
			t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
		}
		w.wantMetrics(t, there, panel{r.Name, r.Query})
		wantRunbook(t, r.Name, r.Annotations["runbook"])
	}
	if n := p.query(`ALERTS{severity="critical"}`); n != 0 {
		t.Errorf("%d critical alerts about two instances that are well", n)
	}
}

// wantMetrics insists that an instance has what an expression names.
func (w *world) wantMetrics(t testing.TB, there series, p panel) {
	t.Helper()
	names := map[string]bool{}
	for name := range there {
		name, _, _ = strings.Cut(name, "{")
		names[name] = true
	}
	found := regexp.MustCompile(`\b(scanlogin|go|process)_[a-z0-9_]+`).FindAllString(p.expr, -1)
	if len(found) == 0 {
		t.Errorf("%s asks for nothing of ours: %s", p.title, p.expr)
	}
	for _, name := range found {
		if !names[name] {
			t.Errorf("%s asks for %s, which isn't there", p.title, name)
		}
	}
}

// wantRunbook insists on a section of the page that an alert points at.
func wantRunbook(t testing.TB, alert, runbook string) {
	t.Helper()
	path, anchor, _ := strings.Cut(runbook, "#")
	page, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil || anchor != strings.ToLower(alert) || !strings.Contains(string(page), "\n### "+alert+"\n") {
		t.Errorf("%s: no section for %s (%v)", alert, runbook, err)
	}
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(tool(t, "promtool"), args...)
		cmd.Dir = observability
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	// An alert that nothing tests could not fire.
	rules, err := os.ReadFile(filepath.Join(observability, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(observability, "alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(string(tests), "- alertname: "+alert[1]+"\n") {
			t.Errorf("nothing makes %s fire", alert[1])
		}
	}
}

// Prometheus with native histograms takes them instead of the classic ones.
func TestNativeHistograms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{pushTo: []int{1}})
	w.boundPerson(t, "alice")
	p := w.prometheus(t, "", "--enable-feature=native-histograms")
	for _, name := range []string{"scanlogin_scan_to_push_seconds", "scanlogin_notify_lag_seconds", "scanlogin_login_step_seconds", "scanlogin_wechat_call_seconds"} {
		eventually(t, name+" is native", func() bool { return p.query("histogram_count("+name+") > 0") > 0 })
	}
}
