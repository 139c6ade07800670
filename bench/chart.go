package main

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// charted are the figures of the chart, one bar for each contender.
var charted = []struct{ scenario, figure, title string }{
	{"storm", "client CPU", "Storm: client CPU"},
}

// chart draws, for each registry, what a storm costs each contender.
func (r *report) chart(file string) error {
	p := plot.New()
	c := charted[0]
	p.Title.Text = c.title
	var bars plotter.Values
	var names []string
	unit := ""
	for _, m := range r.rows() {
		if m.scenario == c.scenario && m.figure == c.figure && len(m.samples) > 0 {
			bars = append(bars, m.median())
			names = append(names, m.backend+": "+m.contender)
			unit = m.unit
			p.Title.Text = c.title + ", " + m.what
		}
	}
	if len(bars) == 0 {
		return fmt.Errorf("-chart: nothing of the scenario %s was measured", c.scenario)
	}
	p.X.Label.Text = unit + " (less is better)"
	p.X.Min = 0
	for _, v := range bars {
		p.X.Max = math.Max(p.X.Max, v*1.05)
	}
	// The first one is to stand at the top.
	for i, j := 0, len(bars)-1; i < j; i, j = i+1, j-1 {
		bars[i], bars[j], names[i], names[j] = bars[j], bars[i], names[j], names[i]
	}
	b, err := plotter.NewBarChart(bars, vg.Points(14))
	if err != nil {
		return err
	}
	b.Horizontal = true
	b.LineStyle.Width = 0
	b.Color = color.RGBA{R: 0x3b, G: 0x6e, B: 0xa8, A: 0xff}
	p.Add(b)
	p.NominalY(names...)
	return p.Save(18*vg.Centimeter, vg.Length(1.5+0.8*float64(len(bars)))*vg.Centimeter, file)
}
