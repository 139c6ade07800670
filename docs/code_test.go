package docs

import (
	"strings"
	"testing"
)

// TestPages_GoBlocksAreInTheTree checks that the lines of each Go block are, in this order and apart from their indentation as a
// whole, part of a Go file of the repository, which compiles.
func TestPages_GoBlocksAreInTheTree(t *testing.T) {
	var sources []string
	for _, path := range files(t, ".go") {
		sources = append(sources, read(t, path))
	}
	blocks := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language != "go" {
				continue
			}
			blocks++
			if !inAny(sources, b.text) {
				t.Errorf("%s:%d: no Go file of the repository has these lines:\n%s", p.path, b.line, b.text)
			}
		}
	}
	if blocks == 0 {
		t.Error("there is no Go block at all")
	}
}

// inAny reports whether one of the sources has these lines, each indented by the same number of tabs.
func inAny(sources []string, lines string) bool {
	for range 4 {
		for _, source := range sources {
			if strings.Contains("\n"+source, "\n"+lines) {
				return true
			}
		}
		lines = "\t" + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n\t") + "\n"
		lines = strings.ReplaceAll(lines, "\n\t\n", "\n\n")
	}
	return false
}

func TestInAny(t *testing.T) {
	source := "func f() {\n\ta()\n\n\tif b {\n\t\tc()\n\t}\n}\n"
	for lines, want := range map[string]bool{
		"a()\n\nif b {\n\tc()\n}\n": true,
		"c()\n":                     true,
		"a()\nif b {\n":             false,
		"b {\n":                     false,
		"d()\n":                     false,
	} {
		if got := inAny([]string{source}, lines); got != want {
			t.Errorf("inAny(%q) = %v, want %v", lines, got, want)
		}
	}
}
