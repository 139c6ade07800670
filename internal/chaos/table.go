package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// result is what a round showed.
type result struct {
	fault string
	took  time.Duration // from the end of the fault until everything was as it should be
	pairs int           // that the watches yielded
	calls int

	mu         sync.Mutex
	violations []string
	failures   []string // of calls
}

func (r *result) violate(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, fmt.Sprintf(format, a...))
}

// String returns the line of a round, and under it each violation and the first failures of calls.
func (r *result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: settled %.1f s after it, %d sets, %d calls, %d failed, %d violations",
		r.fault, r.took.Seconds(), r.pairs, r.calls, len(r.failures), len(r.violations))
	for _, v := range r.violations {
		b.WriteString("\n    violation: " + v)
	}
	const shown = 3
	for _, f := range r.failures[:min(shown, len(r.failures))] {
		b.WriteString("\n    failed: " + f)
	}
	return b.String()
}

// table is the rounds of a run.
type table struct {
	bed    string
	seed   uint64
	rounds []*result
}

func (t *table) add(r *result) { t.rounds = append(t.rounds, r) }

func (t *table) violations() (n int) {
	for _, r := range t.rounds {
		n += len(r.violations)
	}
	return n
}

// write writes a table in Markdown with a row for each fault.
func (t *table) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s, seed %d\n\n| fault | rounds | sets | calls | failed calls | violations | settled after, at most |\n|---|---|---|---|---|---|---|\n", t.bed, t.seed)
	rows, sum := map[string]*row{}, &row{}
	for _, r := range t.rounds {
		if rows[r.fault] == nil {
			rows[r.fault] = &row{}
		}
		rows[r.fault].add(r)
		sum.add(r)
	}
	for _, fault := range slices.Sorted(maps.Keys(rows)) {
		rows[fault].write(w, fault)
	}
	sum.write(w, "**all**")
}

type row struct {
	rounds, pairs, calls, failed, violations int
	took                                     time.Duration
}

func (s *row) add(r *result) {
	s.rounds++
	s.pairs += r.pairs
	s.calls += r.calls
	s.failed += len(r.failures)
	s.violations += len(r.violations)
	s.took = max(s.took, r.took)
}

func (s *row) write(w io.Writer, name string) {
	fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %d | %.1f s |\n", name, s.rounds, s.pairs, s.calls, s.failed, s.violations, s.took.Seconds())
}
