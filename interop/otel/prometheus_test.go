package otel_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	promclient "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/prometheus"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats/opentelemetry"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/rollcallotel"
	"github.com/rollcall-go/rollcall/rollcallotel/callotel"
)

// scrape returns what Prometheus reads from a program with all instruments of Rollcall. Each instrument has one value without attributes.
func scrape(t *testing.T, accept string) string {
	all := promclient.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(all))
	if err != nil {
		t.Fatal(err)
	}
	provider := measuringProvider{MeterProvider: metric.NewMeterProvider(metric.WithReader(exporter)), t: t}
	createAll(t, provider)
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", accept)
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(all, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Fatalf("the scrape failed with %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// createAll creates the instruments of a Registry, a Recorder and a channel.
func createAll(t *testing.T, provider measuringProvider) {
	reg := memory.New()
	t.Cleanup(func() { reg.Close() })
	stop, err := rollcallotel.Instrument(reg.Registry, rollcallotel.Config{MeterProvider: provider})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	recorder, err := callotel.New(callotel.Config{MeterProvider: provider})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { recorder.Close() })
	conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()),
		opentelemetry.DialOption(opentelemetry.Options{MetricsOptions: opentelemetry.MetricsOptions{MeterProvider: provider}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
}

// measuringProvider gives each instrument a value as soon as it is created, since the exporter leaves out instruments without one.
type measuringProvider struct {
	api.MeterProvider
	t *testing.T
}

func (p measuringProvider) Meter(name string, o ...api.MeterOption) api.Meter {
	return measuringMeter{p.MeterProvider.Meter(name, o...), p.t}
}

type measuringMeter struct {
	api.Meter
	t *testing.T
}

func (m measuringMeter) observe(o api.Observable, f api.Callback) {
	if _, err := m.RegisterCallback(f, o); err != nil {
		m.t.Error(err)
	}
}

func (m measuringMeter) Int64Counter(name string, o ...api.Int64CounterOption) (api.Int64Counter, error) {
	i, err := m.Meter.Int64Counter(name, o...)
	i.Add(context.Background(), 1)
	return i, err
}

func (m measuringMeter) Int64Gauge(name string, o ...api.Int64GaugeOption) (api.Int64Gauge, error) {
	i, err := m.Meter.Int64Gauge(name, o...)
	i.Record(context.Background(), 1)
	return i, err
}

func (m measuringMeter) Float64Histogram(name string, o ...api.Float64HistogramOption) (api.Float64Histogram, error) {
	i, err := m.Meter.Float64Histogram(name, o...)
	i.Record(context.Background(), 1)
	return i, err
}

func (m measuringMeter) Int64ObservableCounter(name string, o ...api.Int64ObservableCounterOption) (api.Int64ObservableCounter, error) {
	i, err := m.Meter.Int64ObservableCounter(name, o...)
	m.observe(i, func(_ context.Context, o api.Observer) error { o.ObserveInt64(i, 1); return nil })
	return i, err
}

func (m measuringMeter) Int64ObservableUpDownCounter(name string, o ...api.Int64ObservableUpDownCounterOption) (api.Int64ObservableUpDownCounter, error) {
	i, err := m.Meter.Int64ObservableUpDownCounter(name, o...)
	m.observe(i, func(_ context.Context, o api.Observer) error { o.ObserveInt64(i, 1); return nil })
	return i, err
}

func (m measuringMeter) Int64ObservableGauge(name string, o ...api.Int64ObservableGaugeOption) (api.Int64ObservableGauge, error) {
	i, err := m.Meter.Int64ObservableGauge(name, o...)
	m.observe(i, func(_ context.Context, o api.Observer) error { o.ObserveInt64(i, 1); return nil })
	return i, err
}

func (m measuringMeter) Float64ObservableGauge(name string, o ...api.Float64ObservableGaugeOption) (api.Float64ObservableGauge, error) {
	i, err := m.Meter.Float64ObservableGauge(name, o...)
	m.observe(i, func(_ context.Context, o api.Observer) error { o.ObserveFloat64(i, 1); return nil })
	return i, err
}

// The formats that a Prometheus server may ask for. The second is of version 3.
var formats = []string{
	"text/plain;version=0.0.4",
	"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3",
}

var sample = regexp.MustCompile(`(?m)^(rollcall_\w+){`)

// exported returns the names of the series of all instruments, without what a histogram adds to its name.
func exported(t *testing.T, format string) (names []string) {
	t.Helper()
	for _, m := range sample.FindAllStringSubmatch(scrape(t, format), -1) {
		names = append(names, withoutPart(m[1]))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// histogramPart matches what a histogram adds to its name. All histograms of Rollcall are in seconds.
var histogramPart = regexp.MustCompile(`_seconds_(bucket|sum|count)$`)

func withoutPart(name string) string { return histogramPart.ReplaceAllString(name, "_seconds") }

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExporter_NamesAsOperateSays compares the names with the rule in docs/operate.md: dots are underscores, seconds and total are suffixes.
func TestExporter_NamesAsOperateSays(t *testing.T) {
	var want []string
	row := regexp.MustCompile("(?m)^\\| `(rollcall\\.[a-z_.]+)` \\| ([a-z{}_]+) \\|")
	for _, m := range row.FindAllStringSubmatch(readDoc(t, "operate.md"), -1) {
		name := strings.ReplaceAll(m[1], ".", "_")
		if m[2] == "s" {
			name += "_seconds"
		}
		if name != "rollcall_zone_picks" { // only calls of the policy zone count there; a test in docs compares that row with its code
			want = append(want, name)
		}
	}
	slices.Sort(want)
	for _, format := range formats {
		got := exported(t, format)
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], "_total")
		}
		if !slices.Equal(got, want) {
			t.Errorf("the exporter writes\n%s\nand docs/operate.md has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestAlerts_UseWhatIsExported looks for misspelt series, labels and values in the alerts and their tests. promtool does not know them.
func TestAlerts_UseWhatIsExported(t *testing.T) {
	for _, file := range []string{"alerts.yml", "alerts_test.yml"} {
		text := readDoc(t, file)
		checkNames(t, file, text)
		checkLabels(t, file, text)
	}
}

func TestDashboard_UsesWhatIsExported(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal([]byte(readDoc(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	ids, rows, text := map[int]bool{}, 0, ""
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows++
			if !strings.HasSuffix(p.Title, "?") {
				t.Errorf("the row %q asks nothing", p.Title)
			}
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, lacks a title, a description or a query", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q has the data source %q, which other Grafanas do not have", p.Title, target.Datasource.UID)
			}
			text += target.Expr + "\n"
		}
	}
	if rows < 5 {
		t.Errorf("there are %d rows", rows)
	}
	checkNames(t, "dashboard.json", text)
	checkLabels(t, "dashboard.json", text)
	for _, name := range exported(t, formats[0]) {
		if !strings.Contains(text, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// dashboard has the parts of a dashboard of Grafana that the test checks.
type dashboard struct {
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Targets                  []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	}
}

func checkNames(t *testing.T, file, text string) {
	t.Helper()
	known, found := exported(t, formats[0]), 0
	text = regexp.MustCompile(`\{[^{}]*\}|`+groups.String()).ReplaceAllString(text, "") // labels, and parts of texts
	for _, name := range regexp.MustCompile(`\brollcall_\w+`).FindAllString(text, -1) {
		found++
		if !slices.Contains(known, withoutPart(name)) {
			t.Errorf("%s has %s, which is not exported", file, name)
		}
	}
	if found < 15 {
		t.Errorf("%s has %d series, want more", file, found)
	}
}

var (
	matcher = regexp.MustCompile(`(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"`)
	groups  = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
)

// checkLabels compares the labels with the attributes in docs/operate.md, and the values too if there are few.
func checkLabels(t *testing.T, file, text string) {
	t.Helper()
	values := attributes(t)
	for _, m := range matcher.FindAllStringSubmatch(text, -1) {
		label, value := m[1], m[3]
		of, ok := values[label]
		switch {
		case slices.Contains([]string{"job", "instance", "le"}, label):
		case !ok:
			t.Errorf("%s has the label %s, which is no attribute", file, label)
		case !strings.HasPrefix(label, "rollcall_") || strings.HasPrefix(label, "rollcall_registry") || strings.HasPrefix(label, "rollcall_instance"):
		default:
			for one := range strings.SplitSeq(value, "|") {
				if !strings.Contains(of, "`"+one+"`") {
					t.Errorf("%s has %s=%q, which docs/operate.md does not have", file, label, one)
				}
			}
		}
	}
	for _, m := range groups.FindAllStringSubmatch(text, -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			if _, ok := values[label]; !ok && !slices.Contains([]string{"job", "instance", "le"}, label) {
				t.Errorf("%s groups by %s, which is no attribute", file, label)
			}
		}
	}
}

// attributes returns the attributes in docs/operate.md as labels, each with the text about its values.
func attributes(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([^|]+) \\|$")
	for _, m := range row.FindAllStringSubmatch(readDoc(t, "operate.md"), -1) {
		all[strings.ReplaceAll(m[1], ".", "_")] = m[2]
	}
	if len(all) < 10 {
		t.Errorf("docs/operate.md has %d attributes, want more", len(all))
	}
	return all
}
