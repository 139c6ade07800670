package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// likes groups the policies whose picks do the same kind of work. The first of a group is gRPC's, and the others are compared with it. It
// is "" if gRPC has none. Policies of different groups are not compared: a policy without weights is always quicker than a weighted one.
var likes = []struct {
	kind     string
	policies []string
}{
	{"in turn", []string{"round_robin", "random_subsetting_experimental", "rollcall_round_robin"}},
	{"own zone first", []string{"", "rollcall_zone", "rollcall_zone/spills"}}, // gRPC does this only with xDS
	{"by weight", []string{"weighted_round_robin", "rollcall_weighted", "rollcall_weighted/far_apart"}},
	{"by load", []string{"least_request_experimental", "rollcall_p2c"}},
	{"by hash", []string{"ring_hash_experimental"}},
	{"the first", []string{"pick_first"}},
}

// likesOf returns the kind of work of a policy, and the policy that it is compared with.
func likesOf(policy string) (kind, floor string) {
	for _, l := range likes {
		if slices.Contains(l.policies, policy) {
			return l.kind, l.policies[0]
		}
	}
	return "otherwise", policy
}

// picks runs the benchmark of all balancing policies, ours and grpc-go's, in grpcx/internal/picks.
func (b *bench) picks() error {
	root, err := root()
	if err != nil {
		return err
	}
	for round := range b.Rounds {
		b.say("picks, round %d of %d", round+1, b.Rounds)
		c := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkPick$", "-benchmem", "-benchtime", b.PickTime,
			"-turns", strconv.Itoa(b.PickTurns))
		c.Dir = filepath.Join(root, "grpcx", "internal", "picks") // a module of its own
		text, err := c.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w\n%s", c, err, text)
		}
		n := 0
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			if b.pick(lines.Text()) {
				n++
			}
		}
		if n == 0 {
			return fmt.Errorf("%v: no figure in what it prints:\n%s", c, text)
		}
	}
	return nil
}

// pick reads a line such as
//
//	BenchmarkPick/3/round_robin#07-2   100   7.1 ns/op   0 B/op   0 allocs/op
//
// in which #07 is the number of the turn. The first turn has no number.
func (b *bench) pick(line string) bool {
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return false
	}
	name, ok := strings.CutPrefix(fields[0], "BenchmarkPick/")
	if !ok {
		return false
	}
	if dash := strings.LastIndex(name, "-"); dash > 0 {
		name = name[:dash]
	}
	name, _, _ = strings.Cut(name, "#")
	endpoints, policy, _ := strings.Cut(name, "/")
	kind, _ := likesOf(policy)
	what := kind + ", " + endpoints + " endpoints"
	for i := 3; i < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i-1], 64)
		if err != nil {
			return false
		}
		switch fields[i] {
		case "ns/op":
			b.report.add(key{"picks", "", what, "a pick", policy}, "ns", v)
		case "allocs/op":
			b.report.add(key{"picks", "", what, "allocations", policy}, "", v)
		}
	}
	return true
}
