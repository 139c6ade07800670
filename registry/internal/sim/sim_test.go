package sim

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("sim.seed", 1, "the first seed")
	seeds     = flag.Uint64("sim.seeds", 300, "how many seeds to run")
	runFor    = flag.Duration("sim.for", 0, "run seeds for this long, instead of a number of them")
	fresh     = flag.Bool("sim.fresh", false, "begin with a seed that depends on the time")
	file      = flag.String("sim.history", "", "run this history instead of seeds")
)

// TestRun_KeepsPromises runs the histories of some seeds, the same ones each time unless flags say otherwise.
func TestRun_KeepsPromises(t *testing.T) {
	if *file != "" {
		runFile(t, *file)
		return
	}
	seed, began := *firstSeed, time.Now()
	if *fresh {
		seed = uint64(began.UnixNano())
		t.Logf("the first seed is %d", seed)
	}
	n := uint64(0)
	for ; *runFor == 0 && n < *seeds || time.Since(began) < *runFor; n++ {
		if h := Generate(seed + n); Run(t, h, false).Failed() {
			report(t, h)
			break
		}
	}
	took := time.Since(began)
	t.Logf("%d histories in %v, %.0f a minute", n, took.Round(time.Millisecond), float64(n)/took.Minutes())
}

// TestRun_KeepsPromisesThatWereBroken runs the histories that have found bugs. Which goroutine goes first differs, so each runs several times.
func TestRun_KeepsPromisesThatWereBroken(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no histories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) { runFile(t, file) })
	}
}

// runFile runs the history of a file.
func runFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var h History
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	if failingRun(t, h, 20, false).Failed() {
		report(t, h)
	}
}

// failingRun runs a history until it fails, some times at most, and returns the last result.
func failingRun(t *testing.T, h History, most int, trace bool) (r Result) {
	for ; most > 0 && !r.Failed(); most-- {
		r = Run(t, h, trace)
	}
	return r
}

// report fails t with the shortest history that breaks a promise as h does.
func report(t *testing.T, h History) {
	t.Helper()
	short := Shrink(h, 400, func(h History) bool { return failingRun(t, h, 2, false).Failed() })
	r := failingRun(t, short, 50, true)
	text, err := json.Marshal(short)
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("seed %d breaks a promise. The steps that matter:\n\n%s\n%s\n\nWhat happened:\n\n%s\n\nThe history as a file, for -sim.history and for testdata/histories:\n\n%s",
		h.Seed, short, strings.Join(r.Violations, "\n"), strings.Join(r.Trace, "\n"), text)
}
