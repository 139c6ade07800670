package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// The page and the results are committed together.
func TestPage_HasTheResults(t *testing.T) {
	r, err := load("results.json")
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(filepath.Join(root, pageFile))
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != string(page(r)) {
		t.Errorf("%s differs from the results: go run ./internal/compat -render", pageFile)
	}
}

func TestPage_ShowsEachStatus(t *testing.T) {
	areas := plans[etcdProgram][0].areas
	text := string(page(results{"etcd-3.5.21": {Date: "2026-01-02", Go: "go1", Platform: "p", Outcomes: map[string]outcome{
		areas[0].title: {Status: statusPassed, Tests: 7},
		areas[1].title: {Status: statusPassedAlone, Tests: 8, Reason: "TestA: a_test.go:1: late"},
		areas[2].title: {Status: statusFailed, Reason: "TestB: b_test.go:2: got `1`"},
	}}}))
	for _, want := range []string{
		"| " + areas[0].title + " | not tested | ✓ 7 | not tested | not tested |\n",
		"| " + areas[1].title + " | not tested | ✓ 8, alone | not tested | not tested |\n",
		"| " + areas[2].title + " | not tested | **fails** | not tested | not tested |\n",
		"| measured | | 2026-01-02, go1, p | | |\n",
		"- 3.5.21, " + areas[1].title + ": passed alone. `` TestA: a_test.go:1: late ``\n",
		"- 3.5.21, " + areas[2].title + ": failed. `` TestB: b_test.go:2: got `1` ``\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

// A test that is renamed must not go missing.
func TestPlans_NameTestsThatExist(t *testing.T) {
	declaration := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for program, all := range plans {
		titles := map[string]bool{}
		for _, p := range all {
			declared := map[string]bool{}
			for _, folder := range p.packages {
				files, err := filepath.Glob(filepath.Join(root, strings.TrimSuffix(folder, "/..."), "*_test.go"))
				if err != nil || len(files) == 0 {
					t.Fatalf("%s has no tests: %v", folder, err)
				}
				for _, file := range files {
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range declaration.FindAllStringSubmatch(string(text), -1) {
						declared[m[1]] = true
					}
				}
			}
			for _, a := range p.areas {
				if titles[a.title] {
					t.Errorf("%s has two areas %q", program, a.title)
				}
				titles[a.title] = true
				for _, name := range a.tests {
					if !declared[name] {
						t.Errorf("%s: %v has no %s", a.title, p.packages, name)
					}
				}
			}
		}
	}
}

func TestParse_CountsAndExplains(t *testing.T) {
	all, err := parse(strings.NewReader(`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB/two","Output":"=== RUN\n"}
{"Action":"output","Package":"p","Test":"TestB/two","Output":"    b_test.go:3: got 1\n"}
{"Action":"fail","Package":"p","Test":"TestB/two"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tests []string
		want  outcome
	}{
		"passed": {[]string{"TestA"}, outcome{Status: statusPassed, Tests: 2}},
		"failed": {[]string{"TestA", "TestB"}, outcome{Status: statusFailed, Tests: 2, Reason: "TestB: two: b_test.go:3: got 1"}},
		"all":    {nil, outcome{Status: statusFailed, Tests: 2, Reason: "TestB: two: b_test.go:3: got 1"}},
	} {
		if got, err := all.outcome(area{tests: c.tests}); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
	if _, err := all.outcome(area{tests: []string{"TestC"}}); err == nil {
		t.Error("a test that did not run is no error")
	}
}

// A package that does not build, or whose TestMain fails, has no test that failed.
func TestParse_APackageFails(t *testing.T) {
	all, err := parse(strings.NewReader(`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []area{{}, {tests: []string{"TestA"}}} {
		if got, err := all.outcome(a); err != nil || got.Status != statusFailed || got.Reason != "package p: the package failed" {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
