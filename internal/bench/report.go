package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// result is what a bench has found, as its JSON file says it.
type result struct {
	Name    string   `json:"name"`
	Machine machine  `json:"machine"`
	Tables  []table  `json:"tables"`
	Targets []target `json:"targets,omitempty"`
	Charts  []chart  `json:"charts,omitempty"`

	bench bench
}

// table has a column of names, and figures.
type table struct {
	Title   string   `json:"title,omitempty"`
	Columns []string `json:"columns"` // the first is that of the names
	Rows    []row    `json:"rows"`
}

type row struct {
	Name  string   `json:"name"`
	Cells []figure `json:"cells"`
}

// figure is one thing, measured once a round. Without rounds it wasn't measured.
type figure struct {
	Unit   string    `json:"unit,omitempty"`
	Rounds []float64 `json:"rounds"`
}

// target is one that was set beside what was reached.
type target struct {
	What    string `json:"what"`
	Target  string `json:"target"`
	Reached string `json:"reached"`
	Met     bool   `json:"met"`
}

// atMost is a target that the figure's median mustn't exceed.
func atMost(what string, most float64, f figure) target {
	return target{what, "<= " + readable(most) + unit(f.Unit), f.String(), f.median() <= most}
}

// atLeast is a target that the figure's median has to reach.
func atLeast(what string, least float64, f figure) target {
	return target{what, ">= " + readable(least) + unit(f.Unit), f.String(), f.median() >= least}
}

// add notes the value of one more round.
func (f *figure) add(v float64) { f.Rounds = append(f.Rounds, v) }

// over is the ratio round by round, so that the machine's mood of a round hits both.
func (f figure) over(floor figure) figure {
	r := figure{Unit: "×"}
	for i := range min(len(f.Rounds), len(floor.Rounds)) {
		if floor.Rounds[i] != 0 {
			r.add(f.Rounds[i] / floor.Rounds[i])
		}
	}
	return r
}

func (f figure) median() float64 {
	if len(f.Rounds) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(f.Rounds))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// String is the median, with the least and the most where there were several rounds.
func (f figure) String() string {
	switch len(f.Rounds) {
	case 0:
		return "–"
	case 1:
		return readable(f.Rounds[0]) + unit(f.Unit)
	}
	return fmt.Sprintf("%s%s (%s–%s)", readable(f.median()), unit(f.Unit), readable(slices.Min(f.Rounds)), readable(slices.Max(f.Rounds)))
}

func unit(u string) string {
	if u == "" || u == "×" || u == "%" {
		return u
	}
	return " " + u
}

// readable shows three digits that mean something, and thousands apart.
func readable(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case a >= 1000:
		digits := strconv.FormatFloat(v, 'f', 0, 64)
		for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		return digits
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return trimZeros(strconv.FormatFloat(v, 'f', 1, 64))
	default:
		return trimZeros(strconv.FormatFloat(v, 'f', 2, 64))
	}
}

func trimZeros(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// markdown is the section of docs/performance.md, without its pictures' files.
func (r result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n`make %s`, on %s.\n", r.bench.title, strings.TrimSpace(r.bench.about), r.bench.target(), r.Machine)
	for _, t := range r.Tables {
		t.write(&b)
	}
	if len(r.Targets) > 0 {
		b.WriteString("\n| target | | reached | |\n| --- | --- | --- | --- |\n")
		for _, t := range r.Targets {
			met := "met"
			if !t.Met {
				met = "**not met**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", t.What, t.Target, t.Reached, met)
		}
	}
	for _, c := range r.Charts {
		fmt.Fprintf(&b, "\n![%s](%s)\n", c.Title, c.path())
	}
	return b.String()
}

func (t table) write(b *strings.Builder) {
	if t.Title != "" {
		fmt.Fprintf(b, "\n%s:\n", t.Title)
	}
	fmt.Fprintf(b, "\n| %s |\n| ---%s |\n", strings.Join(t.Columns, " | "), strings.Repeat(" | ---:", len(t.Columns)-1))
	for _, r := range t.Rows {
		fmt.Fprintf(b, "| %s |", r.Name)
		for _, c := range r.Cells {
			fmt.Fprintf(b, " %s |", c)
		}
		b.WriteString("\n")
	}
}

// save puts the section into performance.md, between its marks, and writes the rest beside
// it.
func (r result) save(docs string) error {
	if err := os.MkdirAll(filepath.Join(docs, picturesDir), 0o755); err != nil {
		return err
	}
	figures, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, picturesDir, r.Name+".json"), append(figures, '\n'), 0o644); err != nil {
		return err
	}
	for _, c := range r.Charts {
		if err := os.WriteFile(filepath.Join(docs, c.path()), c.svg(), 0o644); err != nil {
			return err
		}
	}
	path := filepath.Join(docs, "performance.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if page, err = between(page, r.Name, r.markdown()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, page, 0o644)
}

// load reads what save has written.
func load(docs, name string) (r result, err error) {
	text, err := os.ReadFile(filepath.Join(docs, picturesDir, name+".json"))
	if err != nil {
		return result{}, err
	}
	return r, json.Unmarshal(text, &r)
}

// between puts text between the marks of that name.
func between(page []byte, name, text string) ([]byte, error) {
	begin, end := []byte("<!-- bench "+name+" -->\n"), []byte("<!-- end of bench "+name+" -->\n")
	before, rest, ok := bytes.Cut(page, begin)
	_, after, ok2 := bytes.Cut(rest, end)
	if !ok || !ok2 {
		return nil, errors.New("the marks of bench " + name + " are missing")
	}
	return slices.Concat(before, begin, []byte(text), end, after), nil
}
