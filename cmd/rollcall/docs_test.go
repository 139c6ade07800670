package main

import (
	"os"
	"strings"
	"testing"
)

// Each command of the tool has a row in docs/command.md.
func TestCommand_IsInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := (&app{}).command().Commands()
	if len(commands) < 6 {
		t.Errorf("%d commands, want more", len(commands))
	}
	for _, c := range commands {
		if row := "| `rollcall " + c.Name(); !strings.Contains(string(page), row) {
			t.Errorf("docs/command.md has no row that begins with %q", row)
		}
	}
}
