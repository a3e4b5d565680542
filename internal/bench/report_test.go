package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadable(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.5: "0.5", 1.234: "1.23", 12.34: "12.3", 12: "12", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567",
		-1234: "-1,234", 999.4: "999", math.NaN(): "–", math.Inf(1): "–",
	} {
		if got := readable(v); got != want {
			t.Errorf("readable(%v) is %q, want %q", v, got, want)
		}
	}
}

func TestFigure(t *testing.T) {
	f := figure{"ms", []float64{3, 1, 2}}
	if got := f.String(); got != "2 ms (1–3)" {
		t.Error(got)
	}
	if got := (figure{Rounds: []float64{1, 2, 3, 4}}).median(); got != 2.5 {
		t.Error(got)
	}
	if got := (figure{}).String(); got != "–" {
		t.Error(got)
	}
	// The second round was a slow one for both: the ratio is that of the program.
	ratio := figure{Rounds: []float64{10, 30}}.over(figure{Rounds: []float64{5, 15}})
	if got := ratio.String(); got != "2× (2–2)" {
		t.Error(got)
	}
	if !atMost("", 2, ratio).Met || atMost("", 1.9, ratio).Met || !atLeast("", 2, ratio).Met || atLeast("", 2.1, ratio).Met {
		t.Error("a target is judged wrongly")
	}
	if atMost("", 1, figure{}).Met || atLeast("", 1, figure{}).Met {
		t.Error("what wasn't measured meets a target")
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "performance.md")
	r := result{
		Name:  "some",
		bench: bench{title: "Some", about: "About it."},
		Tables: []table{{Columns: []string{"of", "cost"}, Rows: []row{
			{"this", []figure{{"µs", []float64{1, 2, 3}}}}, {"that", []figure{{}}},
		}}},
		Targets: []target{{"cost", "<= 1 µs", "2 µs", false}},
		Charts:  []chart{{Name: "some-cost", Title: "Cost", Lines: []line{{"this", []point{{1, 1}, {10, 20}}}}}},
	}
	if err := os.WriteFile(page, []byte("before\n<!-- bench some -->\nold\n<!-- end of bench some -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // which changes nothing more
		if err := r.save(dir); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before\n<!-- bench some -->\n## Some\n\nAbout it.\n", "| this | 2 µs (1–3) |\n| that | – |\n", "| cost | <= 1 µs | 2 µs | **not met** |",
		"![Cost](bench/some-cost.svg)\n<!-- end of bench some -->\nafter\n",
	} {
		if strings.Count(string(text), want) != 1 {
			t.Errorf("%q is not once in\n%s", want, text)
		}
	}
	for _, name := range []string{"some.json", "some-cost.svg"} {
		if _, err := os.Stat(filepath.Join(dir, "bench", name)); err != nil {
			t.Error(err)
		}
	}
	read, err := load(dir, "some")
	read.bench = r.bench
	if err != nil || read.markdown() != r.markdown() {
		t.Errorf("what was saved reads otherwise: %v\n%s", err, read.markdown())
	}
	r.Name = "other"
	if err := r.save(dir); err == nil {
		t.Error("a page without a place for it was written")
	}
}

func TestChart(t *testing.T) {
	c := chart{Title: `a < b & "c"`, Lines: []line{{"flat", []point{{1, 5}, {100, 5.1}}}, {"none", nil}, {"zero", []point{{0, 0}, {5, 50}}}}}
	decoder := xml.NewDecoder(strings.NewReader(string(c.svg())))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(string(c.svg()), "NaN") || strings.Contains(string(chart{}.svg()), "NaN") {
		t.Error("a point is nowhere")
	}
	x := axis{from: 0, to: 100}
	x.include(1)
	x.include(10_000)
	if got := x.place(100); math.Abs(got-50) > 1e-9 {
		t.Errorf("the middle of a logarithmic axis is at %v", got)
	}
}

func TestChoose(t *testing.T) {
	all, err := choose(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.judged {
			t.Errorf("%s takes an hour and is run unasked", b.name)
		}
	}
	if _, err := choose([]string{"claims"}); !errors.Is(err, errUsage) {
		t.Errorf("%v for a bench that doesn't exist", err)
	}
	if one, err := choose([]string{"soak"}); err != nil || len(one) != 1 || !one[0].judged {
		t.Errorf("%v, %v", one, err)
	}
}
