package main

import (
	"strings"
	"testing"
	"time"
)

func TestTable_HasARowForEachFault(t *testing.T) {
	table := &table{bed: "consul", seed: 7}
	table.add(&result{fault: "the leader pauses", took: 2 * time.Second, pairs: 3, calls: 100})
	table.add(&result{fault: "an entry is deleted", took: time.Second, pairs: 2, calls: 50})
	table.add(&result{fault: "the leader pauses", took: 1500 * time.Millisecond, pairs: 1, calls: 10, failures: []string{"x"}, violations: []string{"y"}})
	var b strings.Builder
	table.write(&b)
	want := `
consul, seed 7

| fault | rounds | sets | calls | failed calls | violations | settled after, at most |
|---|---|---|---|---|---|---|
| an entry is deleted | 1 | 2 | 50 | 0 | 0 | 1.0 s |
| the leader pauses | 2 | 4 | 110 | 1 | 1 | 2.0 s |
| **all** | 3 | 6 | 160 | 1 | 1 | 2.0 s |
`
	if b.String() != want {
		t.Errorf("got %s, want %s", b.String(), want)
	}
	if n := table.violations(); n != 1 {
		t.Errorf("%d violations", n)
	}
	if got := table.rounds[2].String(); !strings.Contains(got, "violation: y") || !strings.Contains(got, "failed: x") {
		t.Errorf("the line of a round does not name what was wrong: %s", got)
	}
}
