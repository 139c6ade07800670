package main

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

const (
	diffContext = 3       // unchanged lines that are shown around a change
	maxCompared = 4 << 20 // pairs of lines that are compared; of longer texts, all changed lines are shown as replaced
)

// diffLine is a line of a difference.
type diffLine struct {
	sign byte // '+', '-' or ' '
	text string
}

// writeDiff writes what changes from one text to another, line by line. nil has no lines.
func writeDiff(w io.Writer, before, after []byte, colour bool) error {
	all := diff(linesOf(before), linesOf(after))
	out := bufio.NewWriter(w)
	hidden := false
	for i, l := range all {
		if !nearChange(all, i) {
			hidden = true
			continue
		}
		if hidden {
			out.WriteString("  …\n")
			hidden = false
		}
		text := string(l.sign) + " " + printableLine(l.text)
		switch l.sign {
		case '+':
			text = coloured(colour, green, text)
		case '-':
			text = coloured(colour, red, text)
		}
		out.WriteString(text + "\n")
	}
	if hidden {
		out.WriteString("  …\n")
	}
	return out.Flush()
}

// nearChange reports whether line i is shown.
func nearChange(all []diffLine, i int) bool {
	for _, l := range all[max(i-diffContext, 0):min(i+diffContext+1, len(all))] {
		if l.sign != ' ' {
			return true
		}
	}
	return false
}

// linesOf returns the lines of a text, which need not end with a newline.
func linesOf(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// diff returns the lines of both texts, by their longest common subsequence.
func diff(a, b []string) (all []diffLine) {
	var tail []diffLine
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		all, a, b = append(all, diffLine{' ', a[0]}), a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail, a, b = append(tail, diffLine{' ', a[len(a)-1]}), a[:len(a)-1], b[:len(b)-1]
	}
	all = append(all, diffMiddle(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		all = append(all, tail[i])
	}
	return all
}

func diffMiddle(a, b []string) (all []diffLine) {
	width := len(b) + 1
	common := []int32{} // the length of the longest common subsequence of a[i:] and b[j:], at i*width+j
	if len(a)*len(b) <= maxCompared {
		common = make([]int32, (len(a)+1)*width)
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					common[i*width+j] = common[(i+1)*width+j+1] + 1
				} else {
					common[i*width+j] = max(common[(i+1)*width+j], common[i*width+j+1])
				}
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && len(common) > 0 && a[i] == b[j]:
			all = append(all, diffLine{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || len(common) == 0 || common[(i+1)*width+j] >= common[i*width+j+1]):
			all = append(all, diffLine{'-', a[i]})
			i++
		default:
			all = append(all, diffLine{'+', b[j]})
			j++
		}
	}
	return all
}

// printableLine returns a line without what a terminal would obey. Tabs stay.
func printableLine(line string) string {
	line = strings.TrimSuffix(line, "\r")
	if !strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !strconv.IsPrint(r) }) {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		if r == '\t' || strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
