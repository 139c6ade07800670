package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/internal/scrub"
)

// outcome is how a check went.
type outcome string

const (
	outcomePassed  outcome = "passed"
	outcomeWarning outcome = "warning"
	outcomeFailed  outcome = "failed"
	outcomeSkipped outcome = "skipped"
)

var outcomeSigns = map[outcome]struct{ sign, colour string }{
	outcomePassed:  {"✓", green},
	outcomeWarning: {"!", yellow},
	outcomeFailed:  {"✗", red},
	outcomeSkipped: {"-", plain},
}

// finding is what a check has found.
type finding struct {
	Check  string  `json:"check"`
	Result outcome `json:"result"`
	Fact   string  `json:"fact"`
	Hint   string  `json:"hint,omitempty"` // what to do, unless it is fine
	Link   string  `json:"link,omitempty"` // a heading of the documentation about it

	code    int    // the exit code of the program if the check failed
	blocked string // the check that failed, or what else happened, so that this one was not made
	left    bool   // the check has left something in the registry, or may have
}

func passed(format string, args ...any) finding {
	return finding{Result: outcomePassed, Fact: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) finding {
	return finding{Result: outcomeSkipped, Fact: fmt.Sprintf(format, args...)}
}

func warned(a advice, format string, args ...any) finding {
	return finding{Result: outcomeWarning, Fact: fmt.Sprintf(format, args...), Hint: a.text, Link: a.link}
}

func failed(a advice, format string, args ...any) finding {
	return finding{Result: outcomeFailed, Fact: fmt.Sprintf(format, args...), Hint: a.text, Link: a.link}
}

// reportWidth is how many columns a line of the table has at most, if its words allow.
const reportWidth = 80

// write writes the findings, without any secret.
func (d *doctor) write(out format) error {
	for i := range d.findings {
		f := &d.findings[i]
		f.Fact, f.Hint = d.printable(f.Fact), d.printable(f.Hint)
	}
	if out == formatJSON {
		for i := range d.findings {
			if f := &d.findings[i]; f.Link != "" {
				f.Link = docsURL + f.Link
			}
		}
		return writeJSON(d.a.stdout, d.findings)
	}
	return d.writeTable()
}

// printable returns text on one line, without secrets. Servers wrote parts of it.
func (d *doctor) printable(text string) string {
	if d.target != nil {
		text = scrub.Text(text, d.target.secrets...)
	}
	if text = strings.Join(strings.Fields(text), " "); text == "" {
		return ""
	}
	return cell(text)
}

// writeTable writes a line for each check, and below it what to do.
func (d *doctor) writeTable() error {
	width := 0
	for _, f := range d.findings {
		width = max(width, utf8.RuneCountInString(f.Check))
	}
	width = reportWidth - len("x ") - width - len("  ")
	colour := hasColour(d.a.stdout)
	t := newTable(d.a.stdout)
	links := false
	for _, f := range merged(d.findings) {
		lines := wrap(f.Fact, width)
		if f.Hint != "" {
			lines = append(lines, wrap("→ "+f.Hint, width)...)
			lines = append(lines, f.Link)
			links = true
		}
		sign := outcomeSigns[f.Result]
		fmt.Fprintf(t, "%s %s\t%s\n", coloured(colour, sign.colour, sign.sign), f.Check, lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(t, "%s \t%s\n", coloured(colour, plain, " "), line)
		}
	}
	if err := t.Flush(); err != nil || !links {
		return err
	}
	_, err := fmt.Fprintf(d.a.stdout, "\nThe links are below %s\n", docsURL)
	return err
}

// merged returns the findings with one line in place of all that were not made for the same reason.
func merged(all []finding) (out []finding) {
	at := map[string]int{}
	for _, f := range all {
		i, again := at[f.blocked]
		switch {
		case f.blocked == "":
			out = append(out, f)
		case again:
			out[i].Fact += ", " + f.Check
		default:
			at[f.blocked] = len(out)
			out = append(out, finding{Check: "…", Result: f.Result, Fact: f.Fact + ": " + f.Check})
		}
	}
	return out
}

// wrap breaks text between words into lines of at most width columns. It returns at least one line.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
