// Package hostile measures how much memory a process needs that gets hostile answers.
package hostile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// mostMemory is what the whole process may need, with the fake server, which is in it too.
	mostMemory = 512 << 20
	// hostileTests are the tests that have servers answer as no Consul and no etcd would.
	hostileTests = "Watch.*Hostile|Bounds|Endless|LargeEntries|Register_Hostile|Lease_Hostile"
	// testTimeout is for a machine under heavy load: an idle one needs one or two minutes.
	testTimeout = 15 * time.Minute
)

// A process that gets all hostile answers one after another neither panics nor needs more than 512 MiB. The tests of each backend run in
// a process without the race detector, which needs several times as much memory, and without a memory limit of Go's own.
func TestMemory_IsBoundedUnderHostileAnswers(t *testing.T) {
	for _, backend := range []struct {
		name  string
		tests int // that pass at least: a test that was renamed must not go missing
	}{{"consul", 60}, {"etcd", 50}} {
		t.Run(backend.name, func(t *testing.T) {
			t.Parallel()
			passed := 0
			var most int64
			for _, binary := range buildTests(t, backend.name) {
				n, memory := measure(t, binary, filepath.Join("..", "..", backend.name))
				passed, most = passed+n, max(most, memory)
			}
			t.Logf("%d tests passed, with %d MiB at the most", passed, most>>20)
			if passed < backend.tests {
				t.Errorf("%d tests passed, want at least %d", passed, backend.tests)
			}
			// Only Linux shows the memory of another process, in /proc. The tests themselves run everywhere.
			if runtime.GOOS == "linux" && most == 0 || most >= mostMemory {
				t.Errorf("the process needed %d MiB, want less than %d", most>>20, mostMemory>>20)
			}
		})
	}
}

// buildTests builds the test binaries of a backend's packages.
func buildTests(t *testing.T, backend string) []string {
	t.Helper()
	dir := t.TempDir() + string(filepath.Separator)
	build := exec.Command("go", "test", "-race=false", "-c", "-o", dir, "../../"+backend+"/...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	binaries, err := filepath.Glob(dir + "*.test")
	if err != nil || len(binaries) == 0 {
		t.Fatalf("there are no tests of %s: %v", backend, err)
	}
	return binaries
}

// measure runs the hostile tests of a binary in a folder. It returns how many passed, and the most memory that the process had.
func measure(t *testing.T, binary, dir string) (passed int, most int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.run", hostileTests, "-test.parallel=1", "-test.v")
	run.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GOMEMLIMIT=") && !strings.HasPrefix(v, "GOGC=") {
			run.Env = append(run.Env, v)
		}
	}
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(binary), err, out.Bytes())
			}
			return strings.Count(out.String(), "--- PASS: "), most
		case <-tick.C:
			most = max(most, peak(run.Process.Pid))
		}
	}
}

// peak returns the most resident memory that a process has had so far, and 0 if it has ended.
func peak(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}
