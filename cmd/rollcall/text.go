package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// trimPrefix returns the text of err without the prefix that every error of the library has.
func trimPrefix(err error) string { return strings.TrimPrefix(err.Error(), "rollcall: ") }

// trimmed is an error whose text lacks that prefix.
type trimmed struct{ error }

func (t trimmed) Error() string { return trimPrefix(t.error) }
func (t trimmed) Unwrap() error { return t.error }

// newTable returns a writer that aligns what is written to it: cells end with a tab, rows with a newline.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// cell returns s as it is shown in a table: "-" if it is empty, and quoted if it could disturb the terminal or the columns.
func cell(s string) string {
	switch {
	case s == "":
		return "-"
	case strings.ContainsFunc(s, func(r rune) bool { return r == '\t' || !strconv.IsPrint(r) }):
		return strconv.Quote(s)
	}
	return s
}

// printable returns text on one line, with an escape such as \x1b in place of each character that could disturb the terminal.
func printable(text string) string {
	if strings.ContainsAny(text, "\n\t") { // such as the suggestions after an unknown command
		text = strings.Join(strings.Fields(text), " ")
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if character := text[:size]; r != utf8.RuneError && strconv.IsPrint(r) {
			b.WriteString(character)
		} else {
			quoted := strconv.Quote(character)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := direct(w).(*os.File)
	return ok && isDevice(f) && os.Getenv("TERM") != "dumb"
}

// isDevice reports whether f is a terminal or a similar device.
func isDevice(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// hasColour reports whether w takes colour: a terminal does, unless NO_COLOR is set (https://no-color.org).
func hasColour(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

// Escape sequences. All colours have the same number of bytes, so that they do not disturb the columns of a table.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	plain  = "\x1b[39m"
)

var statusColours = map[registry.Status]string{registry.Passing: green, registry.Warning: yellow, registry.Critical: red, registry.Maintenance: yellow}

// coloured returns text in colour if on is set.
func coloured(on bool, colour, text string) string {
	if !on {
		return text
	}
	return colour + text + plain
}
