package docs

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependabot_NamesEveryModule compares the folders that Dependabot watches with the modules of the repository.
func TestDependabot_NamesEveryModule(t *testing.T) {
	var modules, watched []string
	for _, file := range files(t, "go.mod") {
		modules = append(modules, path.Join("/", path.Dir(file)))
	}
	for _, m := range regexp.MustCompile(`(?m)^ +- (/\S*)$`).FindAllStringSubmatch(read(t, ".github/dependabot.yml"), -1) {
		watched = append(watched, m[1])
	}
	slices.Sort(modules)
	slices.Sort(watched)
	if !slices.Equal(watched, modules) {
		t.Errorf(".github/dependabot.yml names\n%q, and the modules are\n%q", watched, modules)
	}
}

// TestWorkflows_AreRestricted checks that an action is pinned by the hash of its commit, and that a workflow begins with the right to
// read only.
func TestWorkflows_AreRestricted(t *testing.T) {
	workflows, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*.yml"))
	if err != nil || len(workflows) < 3 {
		t.Fatalf("found the workflows %q, %v, want at least 3", workflows, err)
	}
	pinned := regexp.MustCompile(`^[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, file := range workflows {
		name := path.Join(".github/workflows", filepath.Base(file))
		text := read(t, name)
		if !strings.Contains(text, "\npermissions:\n  contents: read\n\n") {
			t.Errorf("%s does not begin with the right to read only", name)
		}
		for _, m := range regexp.MustCompile(`uses: (.*)`).FindAllStringSubmatch(text, -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %q is not pinned by a hash, with the version in a comment", name, m[1])
			}
		}
	}
}
