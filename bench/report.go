package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// key names a figure of a contender.
type key struct{ scenario, backend, what, figure, contender string }

// measured has all samples of a figure.
type measured struct {
	key
	unit    string
	samples []float64
	texts   []string // instead of a figure, such as "never"
}

// report has the figures in the order in which they were first reported.
type report struct {
	Head []string

	mu  sync.Mutex // contenders that run at the same time report at the same time
	all []*measured
}

// of requires that mu is locked.
func (r *report) of(k key) *measured {
	for _, m := range r.all {
		if m.key == k {
			return m
		}
	}
	m := &measured{key: k}
	r.all = append(r.all, m)
	return m
}

func (r *report) add(k key, unit string, v float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.of(k)
	m.unit = unit
	m.samples = append(m.samples, v)
}

func (r *report) text(k key, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.of(k)
	m.texts = append(m.texts, text)
}

// median is the middle of the samples. There is at least one.
func (m *measured) median() float64 {
	s := slices.Sorted(slices.Values(m.samples))
	if n := len(s); n%2 == 1 {
		return s[n/2]
	} else {
		return (s[n/2-1] + s[n/2]) / 2
	}
}

// floorOf is the contender that the others are compared with.
func floorOf(k key) string {
	switch k.scenario {
	case "picks":
		_, floor := likesOf(k.contender)
		return floor
	case "http":
		return staticList
	case "calls":
		if k.what == "three servers" && k.figure != "failed calls" {
			return staticList
		}
	}
	for _, c := range contender.Of(k.backend) {
		if c.Floor {
			return c.Name
		}
	}
	return ""
}

// kind is what contenders are compared in.
func (m *measured) kind() key {
	k := m.key
	k.contender = ""
	if k.scenario == "picks" {
		_, k.contender = likesOf(m.contender)
	}
	return k
}

// rank is the column of m: the floor, ours, or the others.
func (m *measured) rank() int {
	switch {
	case m.contender == floorOf(m.key):
		return 0
	case m.contender == "Rollcall" || strings.HasPrefix(m.contender, "rollcall_"):
		return 1
	}
	return 2
}

// rows returns the figures in rows: figures of the same kind side by side, the floor first, then ours, then the others.
func (r *report) rows() []*measured {
	kinds := map[key]int{}
	for _, m := range r.all {
		if _, ok := kinds[m.kind()]; !ok {
			kinds[m.kind()] = len(kinds)
		}
	}
	rows := slices.Clone(r.all)
	slices.SortStableFunc(rows, func(a, b *measured) int {
		return cmp.Or(kinds[a.kind()]-kinds[b.kind()], a.rank()-b.rank())
	})
	return rows
}

// figures of one row, as text.
func (r *report) figures(m *measured) (middle, spread, ratio string) {
	unit := ""
	if m.unit != "" {
		unit = " " + m.unit
	}
	if len(m.texts) > 0 {
		times := ""
		if n := len(m.texts) + len(m.samples); n > 1 {
			times = fmt.Sprintf(" (%d of %d)", len(m.texts), n)
		}
		return m.texts[0] + times, "", ""
	}
	middle = short3(m.median()) + unit
	if len(m.samples) > 1 {
		spread = short3(slices.Min(m.samples)) + " to " + short3(slices.Max(m.samples))
	}
	floor := m.key
	floor.contender = floorOf(m.key)
	for _, f := range r.all {
		if f.key == floor && f != m && len(f.samples) > 0 && f.median() != 0 {
			ratio = fmt.Sprintf("%.2f", m.median()/f.median())
		}
	}
	return middle, spread, ratio
}

// short3 is v with three digits that count.
func short3(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e6, a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// markdown writes the head and one table: a row for each figure, with all contenders in it.
func (r *report) markdown(w io.Writer) {
	for _, line := range r.Head {
		fmt.Fprintf(w, "- %s\n", line)
	}
	fmt.Fprint(w, "\n| scenario | registry | case | figure | floor | Rollcall | the others |\n|---|---|---|---|---|---|---|\n")
	rows := r.rows()
	for len(rows) > 0 {
		k := rows[0].kind()
		n := slices.IndexFunc(rows, func(m *measured) bool { return m.kind() != k })
		if n < 0 {
			n = len(rows)
		}
		cells := make([][]string, 3)
		for _, m := range rows[:n] {
			cells[m.rank()] = append(cells[m.rank()], r.cell(m))
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |", k.scenario, k.backend, k.what, k.figure)
		for _, c := range cells {
			fmt.Fprintf(w, " %s |", strings.Join(c, "<br>"))
		}
		fmt.Fprintln(w)
		rows = rows[n:]
	}
}

// cell returns the text of m in the table.
func (r *report) cell(m *measured) string {
	middle, spread, ratio := r.figures(m)
	text := middle
	if spread != "" {
		text += " (" + spread + ")"
	}
	if ratio != "" {
		text += ", **" + ratio + "**"
	}
	if m.contender == "Rollcall" {
		return text
	}
	return m.contender + ": " + text
}

// json writes the same for machines, with every sample.
func (r *report) json(w io.Writer) error {
	type row struct {
		Scenario  string    `json:"scenario"`
		Registry  string    `json:"registry,omitempty"`
		Case      string    `json:"case"`
		Figure    string    `json:"figure"`
		Contender string    `json:"contender"`
		Unit      string    `json:"unit,omitempty"`
		Samples   []float64 `json:"samples"`
		Instead   []string  `json:"instead,omitempty"` // the texts instead of figures
	}
	out := struct {
		Head []string `json:"head"`
		Rows []row    `json:"rows"`
	}{Head: r.Head}
	for _, m := range r.rows() {
		out.Rows = append(out.Rows, row{m.scenario, m.backend, m.what, m.figure, m.contender, m.unit, m.samples, m.texts})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}
