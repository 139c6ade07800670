package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// arguments has what a command needs besides the flag that is tested.
var arguments = map[string]string{
	"instances": "greeter", "watch": "greeter", "wait": "greeter", "inspect": "http://127.0.0.1:1/", "sd": "--listen 127.0.0.1:0",
	"register": "--service s --address :80",
}

// Each flag that takes a duration refuses what makes no sense, and names itself and the value.
func TestDurationFlags_RefuseWhatMakesNoSense(t *testing.T) {
	_, url := newStore(t)
	tested := 0
	for _, c := range (&app{}).command().Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "duration" {
				return
			}
			tested++
			values := []string{"-1s", "0", "soon"}
			if f.Name == "drain-delay" || f.Name == "stop-timeout" { // 0 means not to wait
				values = []string{"-1s", "soon"}
			}
			for _, value := range values {
				args := append([]string{"-r", url, c.Name()}, strings.Fields(arguments[c.Name()])...)
				args = append(args, "--"+f.Name+"="+value)
				if c.Name() == "register" {
					args = append(args, "--", "true")
				}
				wantError(t, rollcall(t, args...), exitUsage, `"--`+f.Name+`"`, `"`+value+`"`)
			}
		})
	}
	if tested < 10 {
		t.Errorf("%d flags take a duration, want 10", tested)
	}
}

// No flag takes a duration in another way.
func TestDurationFlags_AreOfOneKind(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ok := f.Value.(durationValue); f.Value.Type() == "duration" && !ok {
				t.Errorf("%s --%s takes a duration of any sign", c.Name(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check((&app{}).command())
}

// The help of each command fits a terminal, but for the examples of long words that cobra has for shells.
func TestHelp_FitsEightyColumns(t *testing.T) {
	for _, name := range append(registryCommands(), "config", "") {
		got := rollcall(t, append([]string{"help"}, strings.Fields(name)...)...)
		if got.code != exitFound || len(got.stdout) < 200 {
			t.Errorf("help %s: exit code %d, %q", name, got.code, got.stdout)
		}
		for line := range strings.Lines(got.stdout) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns+2 {
				t.Errorf("help %s: %d columns: %q", name, n, line)
			}
		}
	}
	if got := rollcall(t, "--version"); got.code != exitFound || !strings.HasPrefix(got.stdout, "rollcall version ") {
		t.Errorf("--version: exit code %d, %q", got.code, got.stdout)
	}
}
