package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestReport_Markdown(t *testing.T) {
	r := &report{Head: []string{"command: x"}}
	add := func(name string, v ...float64) {
		for _, v := range v {
			r.add(key{"storm", "consul", "3 on and off", "client CPU", name}, "s", v)
		}
	}
	add("go-kit sd/consul", 3, 1)
	add("Rollcall", 0.5, 0.2, 0.1)
	add("bare loop", 2, 9, 1)
	r.text(key{"storm", "consul", "3 on and off", "client CPU", "grpc-consul-resolver"}, "never")
	for name, v := range map[string]float64{"round_robin": 8, "rollcall_round_robin": 10} {
		r.add(key{"picks", "", "in turn, 3 endpoints", "a pick", name}, "ns", v)
	}
	r.add(key{"picks", "", "own zone first, 3 endpoints", "a pick", "rollcall_zone"}, "ns", 12)
	var b bytes.Buffer
	r.markdown(&b)
	for _, line := range []string{
		"- command: x\n",
		"| storm | consul | 3 on and off | client CPU | bare loop: 2 s (1 to 9) | 0.200 s (0.100 to 0.500), **0.10** |" +
			" go-kit sd/consul: 2 s (1 to 3), **1.00**<br>grpc-consul-resolver: never |\n",
		"| picks |  | in turn, 3 endpoints | a pick | round_robin: 8 ns | rollcall_round_robin: 10 ns, **1.25** |  |\n",
		"| picks |  | own zone first, 3 endpoints | a pick |  | rollcall_zone: 12 ns |  |\n",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("%q is missing in\n%s", line, &b)
		}
	}
	b.Reset()
	var out struct{ Rows []struct{ Samples []float64 } }
	if err := r.json(&b); err != nil || json.Unmarshal(b.Bytes(), &out) != nil || len(out.Rows) != 7 || len(out.Rows[1].Samples) != 3 {
		t.Errorf("%v, %s", err, &b)
	}
	for _, kind := range []string{"svg", "png"} {
		file := filepath.Join(t.TempDir(), "chart."+kind)
		if err := r.chart(file); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(file); err != nil || len(text) < 1000 {
			t.Errorf("%s: %d bytes, %v", file, len(text), err)
		}
	}
}

// TestReport_AcceptsFiguresAtOnce is of a loss, which all the processes report when they are over it.
func TestReport_AcceptsFiguresAtOnce(t *testing.T) {
	r := &report{}
	var waiting sync.WaitGroup
	for i := range 100 {
		waiting.Go(func() {
			k := key{"loss", "etcd", "restarted wiped", "correct again after", fmt.Sprint(i % 2)}
			r.add(k, "s", 1)
			r.text(k, "never")
		})
	}
	waiting.Wait()
	if len(r.all) != 2 {
		t.Errorf("%d figures", len(r.all))
	}
	for _, m := range r.all {
		if len(m.samples) != 50 || len(m.texts) != 50 {
			t.Errorf("%d samples and %d texts of %s", len(m.samples), len(m.texts), m.contender)
		}
	}
}

func TestPick_ReadsLine(t *testing.T) {
	b := &bench{report: &report{}}
	for _, line := range []string{
		"BenchmarkPick/100/rollcall_zone/spills-2         	 1000	         9.25 ns/op	       0 B/op	       3 allocs/op",
		"BenchmarkPick/100/rollcall_zone/spills#01-2      	 1000	         9.5 ns/op	       0 B/op	       3 allocs/op",
	} {
		if !b.pick(line) {
			t.Fatalf("not understood: %q", line)
		}
	}
	for figure, want := range map[string][]float64{"a pick": {9.25, 9.5}, "allocations": {3, 3}} {
		m := b.report.of(key{"picks", "", "own zone first, 100 endpoints", figure, "rollcall_zone/spills"})
		if !slices.Equal(m.samples, want) {
			t.Errorf("%s: %v, want %v", figure, m.samples, want)
		}
	}
	for _, line := range []string{"PASS", "goos: linux", "BenchmarkPick/x"} {
		if b.pick(line) {
			t.Errorf("%q is no figure", line)
		}
	}
}
