package docs

import (
	"regexp"
	"strings"
	"testing"
)

var (
	testName    = regexp.MustCompile("`((?:Test|Fuzz|Benchmark|Example)[A-Z]\\w+)`")
	declaration = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w+)\(`)
)

// TestPages_NameTestsThatExist checks each name of a test that is in backquotes, in any Markdown file.
func TestPages_NameTestsThatExist(t *testing.T) {
	declared := declaredTests(t)
	for _, p := range pages(t) {
		for _, name := range testName.FindAllStringSubmatch(p.text, -1) {
			if name[1] != "TestName" && !declared[name[1]] {
				t.Errorf("%s names %s, which is not in the tree", p.path, name[1])
			}
		}
		for _, paragraph := range strings.Split(p.text, "\n\n") {
			if strings.Count(paragraph, "`")%2 != 0 {
				t.Errorf("%s: a backquote is not closed in %q", p.path, paragraph)
			}
		}
	}
}

func TestSecurity_NamesItsTests(t *testing.T) {
	if named := testName.FindAllString(read(t, "SECURITY.md"), -1); len(named) < 40 {
		t.Errorf("SECURITY.md names %d tests, want one for each sentence of the threat model", len(named))
	}
}

// TestFacts_HaveThreeParts checks the form of the pages about Consul, etcd and gRPC: each fact says what the peer does, what Rollcall
// does, and which test proves it.
func TestFacts_HaveThreeParts(t *testing.T) {
	for _, path := range []string{"docs/consul.md", "docs/etcd.md", "docs/grpc.md"} {
		facts := strings.Split(read(t, path), "\n### ")[1:]
		if len(facts) < 15 {
			t.Errorf("%s has %d facts, want more: is their heading another now?", path, len(facts))
		}
		for _, fact := range facts {
			title, body, _ := strings.Cut(fact, "\n")
			var labels []string
			for _, m := range regexp.MustCompile(`(?m)^- \*\*(\w+):\*\*`).FindAllStringSubmatch(body, -1) {
				labels = append(labels, m[1])
			}
			if len(labels) != 3 || labels[1] != "Rollcall" || labels[2] != "Test" {
				t.Errorf("%s: %q has the parts %q, want the peer, Rollcall and Test", path, title, labels)
			}
			_, test, _ := strings.Cut(body, "**Test:**")
			if !testName.MatchString(test) && !strings.HasPrefix(test, " none; ") {
				t.Errorf("%s: %q names no test, and not why there is none", path, title)
			}
		}
	}
}

// declaredTests returns the names of all tests, fuzz tests, benchmarks and examples of the repository.
func declaredTests(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, path := range files(t, "_test.go") {
		for _, m := range declaration.FindAllStringSubmatch(read(t, path), -1) {
			all[m[1]] = true
		}
	}
	return all
}
