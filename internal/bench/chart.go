package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
)

// picturesDir is where figures and pictures are, in the folder of performance.md.
const picturesDir = "bench"

// chart is a picture of cost against work: lines over logarithmic axes, where what grows
// with the work is a straight one.
type chart struct {
	Name  string `json:"name"` // of its file
	Title string `json:"title"`
	X     string `json:"x"`
	Y     string `json:"y"`
	Lines []line `json:"lines"`
}

type line struct {
	Name   string  `json:"name"`
	Points []point `json:"points"`
}

type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

func (c chart) path() string { return picturesDir + "/" + c.Name + ".svg" }

// Of the picture, in pixels.
const (
	chartWidth, chartHeight = 640, 360
	plotLeft, plotRight     = 70, 470
	plotTop, plotBottom     = 40, 310
)

// svg draws it, readable on light and on dark pages alike.
func (c chart) svg() []byte {
	x, y := axis{from: plotLeft, to: plotRight}, axis{from: plotBottom, to: plotTop}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			x.include(p.X)
			y.include(p.Y)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", chartWidth, chartHeight)
	text(&b, 12, 20, "start", "#222", c.Title)
	for _, v := range x.ticks() {
		at := x.place(v)
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#e4e4e4"/>`+"\n", at, plotTop, plotBottom)
		text(&b, at, plotBottom+18, "middle", "#555", readable(v))
	}
	for _, v := range y.ticks() {
		at := y.place(v)
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#e4e4e4"/>`+"\n", plotLeft, at, plotRight)
		text(&b, plotLeft-8, at+4, "end", "#555", readable(v))
	}
	text(&b, (plotLeft+plotRight)/2, chartHeight-12, "middle", "#222", c.X)
	text(&b, plotLeft-8, plotTop-8, "start", "#222", c.Y)
	for i, l := range c.Lines {
		colour := colours()[i%len(colours())]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
		for _, p := range l.Points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x.place(p.X), y.place(p.Y))
		}
		b.WriteString(`"/>` + "\n")
		for _, p := range l.Points {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.place(p.X), y.place(p.Y), colour)
		}
		at := float64(plotTop + 8 + 20*i)
		fmt.Fprintf(&b, `<rect x="%d" y="%.0f" width="12" height="4" fill="%s"/>`+"\n", plotRight+16, at-6, colour)
		text(&b, plotRight+34, at, "start", "#222", l.Name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// colours can be told apart by those who see fewer.
func colours() []string {
	return []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}
}

func text(b *bytes.Buffer, x, y float64, anchor, colour, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(s))
}

// axis is logarithmic. Values of 0 and below have no place on it.
type axis struct {
	from, to  float64 // pixels
	low, high float64 // values
}

func (a *axis) include(v float64) {
	if !(v > 0) {
		return
	}
	if a.low == 0 {
		a.low, a.high = v, v
	}
	a.low, a.high = min(a.low, v), max(a.high, v)
}

// place is where a value is; a range that is hardly one is widened, so that noise doesn't
// look like a slope.
func (a *axis) place(v float64) float64 {
	low, high := a.bounds()
	return a.from + (a.to-a.from)*math.Log(max(v, low)/low)/math.Log(high/low)
}

func (a *axis) bounds() (low, high float64) {
	if a.low == 0 {
		return 1, 10
	}
	if a.high/a.low >= 4 {
		return a.low, a.high
	}
	middle := math.Sqrt(a.low * a.high)
	return middle / 2, middle * 2
}

// ticks are round values.
func (a *axis) ticks() (all []float64) {
	low, high := a.bounds()
	for e := math.Floor(math.Log10(low)); e <= math.Log10(high); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= low*0.999 && v <= high*1.001 {
				all = append(all, v)
			}
		}
	}
	if len(all) <= 9 {
		return all
	}
	return slices.DeleteFunc(all, func(v float64) bool {
		e := math.Log10(v)
		return math.Abs(e-math.Round(e)) > 1e-9
	})
}
