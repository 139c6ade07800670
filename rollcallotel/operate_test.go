package rollcallotel

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// listingMeter lists the instruments that are created, each as its name and unit.
type listingMeter struct {
	noop.Meter
	all []string
}

func (m *listingMeter) list(name, unit, text string) {
	m.all = append(m.all, name+" "+unit)
	if text == "" {
		m.all = append(m.all, name+" has no description")
	}
}

func (m *listingMeter) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	c := metric.NewInt64CounterConfig(o...)
	m.list(name, c.Unit(), c.Description())
	return m.Meter.Int64Counter(name, o...)
}

func (m *listingMeter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	c := metric.NewFloat64HistogramConfig(o...)
	m.list(name, c.Unit(), c.Description())
	return m.Meter.Float64Histogram(name, o...)
}

func (m *listingMeter) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	c := metric.NewInt64ObservableCounterConfig(o...)
	m.list(name, c.Unit(), c.Description())
	return m.Meter.Int64ObservableCounter(name, o...)
}

func (m *listingMeter) Int64ObservableUpDownCounter(name string, o ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	c := metric.NewInt64ObservableUpDownCounterConfig(o...)
	m.list(name, c.Unit(), c.Description())
	return m.Meter.Int64ObservableUpDownCounter(name, o...)
}

func (m *listingMeter) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	c := metric.NewFloat64ObservableGaugeConfig(o...)
	m.list(name, c.Unit(), c.Description())
	return m.Meter.Float64ObservableGauge(name, o...)
}

// TestInstruments_AreInOperate compares the instruments with the table of metrics in docs/operate.md.
func TestInstruments_AreInOperate(t *testing.T) {
	m := &listingMeter{}
	if _, err := newInstruments(m); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) > 3 && strings.HasPrefix(cells[1], " `rollcall.") && len(cells) == 7 {
			rows = append(rows, strings.Trim(cells[1], " `")+" "+strings.TrimSpace(cells[2]))
		}
	}
	slices.Sort(m.all)
	slices.Sort(rows)
	if !slices.Equal(m.all, rows) {
		t.Errorf("the instruments are\n%s\nand docs/operate.md has\n%s", strings.Join(m.all, "\n"), strings.Join(rows, "\n"))
	}
}
