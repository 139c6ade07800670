package docs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unchecked are commands that no test of this repository can run, with the reason.
var unchecked = map[string]string{
	"go get github.com/rollcall-go/rollcall": "it needs a published version",
	".ci/release check v0.1.0":               "it needs a clean tree, and compiles goreleaser for minutes",
}

// TestPages_CommandsExist checks each line of a shell block, and each text in backquotes that begins like a command:
//
//   - .ci/run has it, so it is run; or
//   - it is a make target that exists; or
//   - it is a go command whose packages, tests and benchmarks exist.
func TestPages_CommandsExist(t *testing.T) {
	c := checker{ci: read(t, ".ci/run"), makefile: read(t, "Makefile"), declared: declaredTests(t)}
	commands := 0
	for _, p := range pages(t) {
		for _, command := range commandsOf(p) {
			commands++
			if err := c.check(command); err != nil {
				t.Errorf("%s: %s: %v", p.path, command, err)
			}
		}
	}
	if commands < 20 {
		t.Errorf("found %d commands, want more", commands)
	}
}

var quoted = regexp.MustCompile("`((?:go (?:run|test|tool|vet)|make|cd) [^`\n]*(?:\n[^`\n]*)?)`")

// commandsOf returns all commands of a page, without comments.
func commandsOf(p page) (all []string) {
	for _, b := range p.blocks {
		if b.language != "sh" {
			continue
		}
		for line := range strings.Lines(b.text) {
			all = append(all, line)
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(p.text, -1) {
		all = append(all, strings.ReplaceAll(m[1], "\n", " "))
	}
	for i, command := range all {
		command, _, _ = strings.Cut(command, " #")
		all[i] = strings.TrimSpace(command)
	}
	return slices.DeleteFunc(all, func(command string) bool { return command == "" })
}

type checker struct {
	ci, makefile string
	declared     map[string]bool
}

func (c checker) check(command string) error {
	if unchecked[command] != "" || regexp.MustCompile(`(?m)(^|")`+regexp.QuoteMeta(command)+`("|$)`).MatchString(c.ci) {
		return nil
	}
	dir := "."
	if rest, ok := strings.CutPrefix(command, "cd "); ok {
		dir, command, ok = strings.Cut(rest, " && ")
		if !ok {
			return fmt.Errorf("nothing follows cd")
		}
	}
	words := strings.Fields(command)
	switch {
	case words[0] == "make" && len(words) == 2:
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(words[1]) + `:`).MatchString(c.makefile) {
			return fmt.Errorf("the Makefile has no such target")
		}
		return nil
	case words[0] == "go" && len(words) > 2 && slices.Contains([]string{"run", "test", "vet"}, words[1]):
		return c.checkGo(dir, words[2:])
	case words[0] == "go" && len(words) > 2 && words[1] == "tool":
		return exists(dir, strings.TrimPrefix(words[2], "-modfile="))
	}
	return fmt.Errorf(".ci/run does not run it, and it is neither a make target nor a go command")
}

// checkGo checks the packages, and the names of tests and benchmarks, of go run, go test and go vet.
func (c checker) checkGo(dir string, words []string) error {
	for i, word := range words {
		switch {
		case i > 0 && slices.Contains([]string{"-run", "-bench", "-fuzz"}, words[i-1]):
			name := strings.Trim(word, "'^$")
			if name != "" && name != "TestName" && !c.isDeclared(name) {
				return fmt.Errorf("there is no test %s", name)
			}
		case word == "." || strings.HasPrefix(word, "./"):
			if err := exists(dir, strings.TrimSuffix(word, "/...")); err != nil {
				return err
			}
		}
	}
	return nil
}

// isDeclared reports whether a test or benchmark has this name, or contains it.
func (c checker) isDeclared(name string) bool {
	for declared := range c.declared {
		if strings.Contains(declared, name) {
			return true
		}
	}
	return false
}

func exists(dir, name string) error {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(path.Join(dir, name))))
	return err
}

func TestChecker_RefusesWhatDoesNotExist(t *testing.T) {
	c := checker{ci: `readme_command "echo hello"`, makefile: "test: ## all\n", declared: map[string]bool{"BenchmarkPick": true}}
	for command, want := range map[string]bool{
		"echo hello":                           true,
		"make test":                            true,
		"go run ./examples/quickstart":         true,
		"go test -run '^$' -bench Pick ./docs": true,
		"cd bench && go run . -only storm":     true,
		"go tool -modfile=tools/lint/go.mod x": true,
		"make tests":                           false,
		"go run ./examples/nothing":            false,
		"go test -run TestNothing ./docs":      false,
		"rm -r .":                              false,
		"cd bench":                             false,
		"go mod":                               false,
	} {
		if err := c.check(command); (err == nil) != want {
			t.Errorf("check(%q) = %v, want success: %v", command, err, want)
		}
	}
}
