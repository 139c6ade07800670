package statuspage

import (
	"testing"
	"time"
)

func TestDuration_HasAtMostTwoUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:               "0 s",
		59*time.Second + 999999999: "59 s",
		time.Minute:                "1 min",
		119 * time.Minute:          "1 h 59 min",
		2 * time.Hour:              "2 h",
		24 * time.Hour:             "1 d",
		77 * time.Hour:             "3 d 5 h",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) is %q, want %q", d, got, want)
		}
	}
}

func TestCount_NamesNumberAndNoun(t *testing.T) {
	for n, want := range map[int]string{0: "0 entries", 1: "1 entry", 999: "999 entries", 1000: "1,000 entries", 1234567: "1,234,567 entries"} {
		if got := count(n, "entry"); got != want {
			t.Errorf("count(%d) is %q, want %q", n, got, want)
		}
	}
}
