package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind_LooksAtCommentsStringsIdentifiersAndMarkdown(t *testing.T) {
	root := repository(t, map[string]string{
		"a/a.go":          "package a\n\n// nobody knows.\nvar beginHold = \"whoever asks\"\n",
		"a/testdata/x.go": "package x // nobody",
		"README.md":       "fine\nwhere it fails\n",
	})
	places, err := find(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range places {
		got = append(got, p.folder+" "+p.rule)
	}
	want := ". where, a nobody, a hold, a whoever"
	if strings.Join(got, ", ") != want {
		t.Errorf("found %s, want %s", strings.Join(got, ", "), want)
	}
	if places[0].line != 2 || places[1].line != 3 || places[2].line != 4 {
		t.Errorf("the lines are wrong: %+v", places)
	}
}

func TestRun_FailsIfACountRises(t *testing.T) {
	root := repository(t, map[string]string{"a/a.go": "package a\n\n// nobody\n"})
	baseline := filepath.Join(t.TempDir(), "baseline.txt")
	if err := run(root, baseline, "", false); err == nil || !strings.Contains(err.Error(), "-update") {
		t.Errorf("without a baseline it says %v", err)
	}
	if err := run(root, baseline, "", true); err != nil {
		t.Fatal(err)
	}
	if err := run(root, baseline, "", false); err != nil {
		t.Errorf("with the counts of today it says %v", err)
	}
	os.WriteFile(filepath.Join(root, "a/b.go"), []byte("package a\n\n// nobody, whoever\n"), 0o644)
	err := run(root, baseline, "", false)
	for _, want := range []string{`a: "nobody" 2 times, 1 before`, `a: "whoever" 1 times, 0 before`, "a/b.go:3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %s", err, want)
		}
	}
	os.Remove(filepath.Join(root, "a/b.go"))
	os.Remove(filepath.Join(root, "a/a.go"))
	if err := run(root, baseline, "", false); err != nil {
		t.Errorf("with less it says %v", err)
	}
}
