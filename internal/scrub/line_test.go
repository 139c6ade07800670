package scrub

import (
	"strings"
	"testing"
)

func TestLine_IsPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain text, ünïcode": "plain text, ünïcode", "a\n\tb": "a  b", "\x1b[31mred": `\x1b[31mred`, "bell\a": `bell\a`,
		"\u202eltr": `\u202eltr`, "bad\xff": "bad\ufffd", "it's": "it's", "nul\x00": `nul\x00`,
	} {
		if got := Line(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestLine_IsCut(t *testing.T) {
	for _, c := range []string{"x", "ü", "\n", "\x1b"} {
		got, cut := strings.CutSuffix(Line(strings.Repeat(c, 2*MaxLine)), "…")
		if !cut || len(got) > MaxLine || len(got) < MaxLine-1 || strings.Contains(got, "\ufffd") {
			t.Errorf("a long text of %q leaves %d bytes, and whether it says that it is cut is %v: %q", c, len(got), cut, got)
		}
	}
}
