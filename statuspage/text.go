package statuspage

import (
	"fmt"
	"strconv"
	"time"
)

// duration returns d with its two largest units, such as 45 s, 3 min or 2 h 5 min.
func duration(d time.Duration) string {
	d = max(d, 0)
	minutes, hours, days := int(d/time.Minute), int(d/time.Hour), int(d/(24*time.Hour))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d/time.Second))
	case hours == 0:
		return fmt.Sprintf("%d min", minutes)
	case days == 0:
		return units(hours, "h", minutes%60, "min")
	}
	return units(days, "d", hours%24, "h")
}

func units(a int, unitA string, b int, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// count returns "1 instance" or "2 instances".
func count[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(n) + " " + plural(noun)
}

func plural(noun string) string {
	switch noun {
	case "entry":
		return "entries"
	case "watch":
		return "watches"
	}
	return noun + "s"
}

func be[N int | uint64](n N) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func pass(n int) string {
	if n == 1 {
		return "passes"
	}
	return "pass"
}

// grouped returns n with commas, such as 10,000.
func grouped[N int | uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
