package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// The figure of the chart, which has a part for each registry and a bar for each contender.
const chartedScenario, chartedFigure = "storm", "client CPU"

const (
	chartWidth = 18 * vg.Centimeter
	barHeight  = 0.7 * vg.Centimeter
	partMargin = 2 * vg.Centimeter // title and axis
	sideMargin = vg.Centimeter / 4
)

var (
	oursColor   = color.RGBA{R: 0x1f, G: 0x6f, B: 0xb5, A: 0xff}
	othersColor = color.RGBA{R: 0x9a, G: 0xa5, B: 0xb1, A: 0xff}
)

func (r *report) hasChart() bool {
	return slices.ContainsFunc(r.all, func(m *measured) bool { return m.scenario == chartedScenario })
}

// chart draws what a storm costs each contender, for each registry by itself: the two are not compared.
func (r *report) chart(file string) error {
	parts := map[string][]*measured{}
	var backends []string
	height := vg.Length(0)
	for _, m := range r.rows() {
		if m.scenario != chartedScenario || m.figure != chartedFigure || len(m.samples) == 0 {
			continue
		}
		if parts[m.backend] == nil {
			backends = append(backends, m.backend)
			height += partMargin
		}
		parts[m.backend] = append(parts[m.backend], m)
		height += barHeight
	}
	canvas, err := draw.NewFormattedCanvas(chartWidth, height, strings.TrimPrefix(filepath.Ext(file), "."))
	if err != nil {
		return fmt.Errorf("-chart: %w", err)
	}
	rest := draw.New(canvas)
	for _, backend := range backends {
		part, err := bars(parts[backend])
		if err != nil {
			return err
		}
		h := partMargin + barHeight*vg.Length(len(parts[backend]))
		part.Draw(draw.Crop(rest, sideMargin, -sideMargin, rest.Max.Y-rest.Min.Y-h, 0))
		rest = draw.Crop(rest, 0, 0, 0, -h)
	}
	return toFile(file, func(f *os.File) error {
		_, err := canvas.WriteTo(f)
		return err
	})
}

// bars is a plot of figures of one kind, the first at the top.
func bars(of []*measured) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, %s: %s, %s (less is better)", of[0].backend, of[0].what, of[0].figure, of[0].unit)
	p.X.Min = 0
	var names []string
	for i, m := range slices.Backward(of) {
		bar, err := plotter.NewBarChart(plotter.Values{m.median()}, barHeight*3/5)
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.LineStyle.Width, bar.Color = true, 0, othersColor
		if m.contender == "Rollcall" {
			bar.Color = oursColor
		}
		bar.XMin = float64(len(of) - 1 - i)
		p.Add(bar)
		p.X.Max = max(p.X.Max, m.median()*1.02)
		names = append(names, fmt.Sprintf("%s  %s", m.contender, short3(m.median())))
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.6, float64(len(of))-0.4
	return p, nil
}
