package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const runbook = "https://github.com/rollcall-go/rollcall/blob/main/docs/operate.md#"

// TestAlerts_HaveRunbookAndTest compares the alerts with the headings of operate.md under "Alerts", and with the alerts that are tested.
func TestAlerts_HaveRunbookAndTest(t *testing.T) {
	rules, tests := read(t, "docs/alerts.yml"), read(t, "docs/alerts_test.yml")
	_, section, _ := strings.Cut(read(t, "docs/operate.md"), "\n## Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var headings []string
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(section, -1) {
		headings = append(headings, m[1])
	}
	var alerts []string
	for text := range strings.SplitSeq(rules, "- alert: ") {
		if strings.HasPrefix(text, "#") {
			continue // what comes before the first alert
		}
		name, rule, _ := strings.Cut(text, "\n")
		alerts = append(alerts, name)
		for _, part := range []string{"\n          severity: ", "\n          summary: ", "\n          runbook_url: " + runbook + strings.ToLower(name) + "\n"} {
			if !strings.Contains(rule, part) {
				t.Errorf("alert %s has no line %q", name, strings.TrimSpace(part))
			}
		}
		if !strings.Contains(tests, "alertname: "+name+"\n        exp_alerts:\n") || !strings.Contains(tests, "alertname: "+name+"\n        exp_alerts: []\n") {
			t.Errorf("docs/alerts_test.yml does not test that %s fires, or that it does not", name)
		}
	}
	if len(alerts) < 10 || !slices.Equal(alerts, headings) {
		t.Errorf("docs/alerts.yml has the alerts\n%q\nand docs/operate.md has\n%q", alerts, headings)
	}
}

// TestDashboard_RowsAreInOperate compares the rows of the dashboard with the table in operate.md.
func TestDashboard_RowsAreInOperate(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/operate.md"), "\n## Dashboard\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var want []string
	for _, m := range regexp.MustCompile(`"type": "row",\s+"title": "([^"]+)"`).FindAllStringSubmatch(read(t, "docs/dashboard.json"), -1) {
		want = append(want, m[1])
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+\?) \|`).FindAllStringSubmatch(section, -1) {
		got = append(got, m[1])
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("docs/operate.md has the rows %q, want %q", got, want)
	}
}
