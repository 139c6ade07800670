package scrub

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine bounds what an error quotes of an answer, which may be a whole page of a proxy.
const MaxLine = 300

// Line is a text of others on one line, of bounded length, and without what a terminal would obey.
func Line(text string) string {
	plain := true
	for i := 0; i < len(text) && plain; i++ {
		plain = ' ' <= text[i] && text[i] < utf8.RuneSelf && text[i] != 0x7f
	}
	if !plain {
		text = escaped(text, MaxLine)
	}
	if len(text) > MaxLine {
		text = strings.ToValidUTF8(text[:MaxLine], "") + "…"
	}
	return text
}

// escaped writes what cannot be printed as Go does in a string, and each space as " ". It stops after limit bytes.
func escaped(text string, limit int) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() > limit {
			break
		}
		switch {
		case unicode.IsSpace(r) && r != '\u2028' && r != '\u2029':
			b.WriteByte(' ')
		case r == utf8.RuneError || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}
