package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module writes files to a folder, by their paths, and returns it.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// problems checks a module with one package, a, whose files have these texts after the package clause.
func problems(t *testing.T, code, test string) []string {
	t.Helper()
	root := module(t, map[string]string{"a/a.go": "// Package a is a test.\npackage a\n" + code, "a/a_test.go": "package a\nfunc Example() {}\n" + test})
	found, err := checkModule(root)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCheckModule_NamesWhatHasNoDocComment(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		want []string
	}{
		"function":                  {"func F() {}", []string{"a: F has no doc comment"}},
		"documented function":       {"// F does nothing.\nfunc F() {}", nil},
		"unexported function":       {"func f() {}", nil},
		"type":                      {"type T int", []string{"a: T has no doc comment"}},
		"method":                    {"// T is one.\ntype T int\nfunc (T) M() {}", []string{"a: T.M has no doc comment"}},
		"method of unexported type": {"type t int\nfunc (t) M() {}", nil},
		"field":                     {"// T is one.\ntype T struct {\n\tA int\n\n\tB int // B is one\n}", []string{"a: T.A has no doc comment"}},
		"field in the line after a documented one": {"// T is one.\ntype T struct {\n\t// A and B are two.\n\tA int\n\tB int\n}", nil},
		"interface":                  {"// I is one.\ntype I interface{ M() }", []string{"a: I.M has no doc comment"}},
		"constant":                   {"const C = 1", []string{"a: C has no doc comment"}},
		"constants with one comment": {"// These are two.\nconst (\n\tC = 1\n\tD = 2\n)", nil},
		"variable":                   {"var V int", []string{"a: V has no doc comment"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, c.code, ""); !slices.Equal(got, c.want) {
				t.Errorf("problems = %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckModule_NamesWhatHasNoExample(t *testing.T) {
	const config = "// Config is one.\ntype Config struct {\n\t// A is one.\n\tA int\n}\n// Validate is one.\nfunc (Config) Validate() {}\n"
	for name, c := range map[string]struct {
		code, test string
		want       []string
	}{
		"constructor":               {"// NewT is one.\nfunc NewT() {}", "", []string{"a: NewT has no example"}},
		"constructor with example":  {"// NewT is one.\nfunc NewT() {}", "func ExampleNewT() {}", nil},
		"other function":            {"// Newest is one.\nfunc Newest() {}", "", nil},
		"struct with methods":       {config, "", []string{"a: Config has no example"}},
		"struct with example":       {config, "func ExampleConfig() {}", nil},
		"struct, method with one":   {config, "func ExampleConfig_Validate() {}", nil},
		"struct, constructor's one": {config + "// NewConfig is one.\nfunc NewConfig() *Config { return nil }", "func ExampleNewConfig() {}", nil},
		"error":                     {strings.ReplaceAll(config, "Config", "ConfigError"), "", nil},
		"struct, encoders alone":    {strings.ReplaceAll(config, "Validate", "MarshalJSON"), "", nil},
		"struct without methods":    {"// T is one.\ntype T struct {\n\t// A is one.\n\tA int\n}", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, c.code, c.test); !slices.Equal(got, c.want) {
				t.Errorf("problems = %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckModule_LooksAtWhatCanBeImported(t *testing.T) {
	const bad = "package x\n"
	root := module(t, map[string]string{
		"go.mod": "module x\n", "x.go": bad, "y/x.go": bad,
		"internal/x.go": bad, "y/internal/z/x.go": bad, "examples/x.go": bad, "testdata/x.go": bad, ".git/x.go": bad,
		"v/x.go":       "// Package x is a test.\npackage x\n\n// V is one.\nvar V int\n",
		"other/go.mod": "module other\n", "other/x.go": bad, "cmd/x.go": "package main\n",
	})
	got, err := checkModule(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		".: the package has no doc comment", ".: the package has no example",
		"y: the package has no doc comment", "y: the package has no example",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems = %q, want %q", got, want)
	}
}

func TestCheckModule_ReportsAFileThatDoesNotParse(t *testing.T) {
	if _, err := checkModule(module(t, map[string]string{"x.go": "package"})); err == nil {
		t.Error("no error for a file that is no Go")
	}
}
