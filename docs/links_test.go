package docs

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestPages_LinksLeadSomewhere checks that each relative link of a Markdown file names a file or a folder of the repository and, after
// a '#', a heading of it. Links to other hosts are not followed.
func TestPages_LinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	headings := map[string][]string{}
	for _, p := range all {
		for _, h := range p.headings {
			headings[p.path] = append(headings[p.path], anchor(h))
		}
	}
	links := 0
	for _, p := range all {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			target := m[1]
			if strings.Contains(target, "://") {
				continue
			}
			links++
			file, fragment, hasFragment := strings.Cut(target, "#")
			to := p.path
			if file != "" {
				to = path.Join(path.Dir(p.path), file)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s: the link %s leads to no file", p.path, target)
			} else if hasFragment && !slices.Contains(headings[to], fragment) {
				t.Errorf("%s: the link %s leads to no heading; %s has %q", p.path, target, to, headings[to])
			}
		}
	}
	if links < 20 {
		t.Errorf("found %d relative links, want more", links)
	}
}

// anchor returns the name that GitHub gives a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func TestAnchor(t *testing.T) {
	for heading, want := range map[string]string{
		"A malicious or broken registry":   "a-malicious-or-broken-registry",
		"`ResetConnectBackoff` has a race": "resetconnectbackoff-has-a-race",
		"What is it, and for whom?":        "what-is-it-and-for-whom",
	} {
		if got := anchor(heading); got != want {
			t.Errorf("anchor(%q) = %q, want %q", heading, got, want)
		}
	}
}
