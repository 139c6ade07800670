package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// A runner runs go test.
type runner struct {
	env   []string
	flags []string
}

// test runs the tests of p, and sets the outcome of each of its areas by title.
func (r runner) test(ctx context.Context, p plan, outcomes map[string]outcome) error {
	var names []string
	for _, a := range p.areas {
		names = append(names, a.tests...)
	}
	first, err := r.run(ctx, p.packages, names)
	if err != nil {
		return err
	}
	for _, a := range p.areas {
		o, err := first.outcome(a)
		if err == nil && o.Status == statusFailed {
			fmt.Printf("run again alone: %s: %s\n", a.title, o.Reason)
			o, err = r.again(ctx, p.packages, a, o)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s %d\n", a.title, o.Status, o.Tests)
		outcomes[a.title] = o
	}
	return nil
}

// again runs the tests of an area alone. A test that waits for a server of a busy machine can fail for that reason only.
func (r runner) again(ctx context.Context, packages []string, a area, first outcome) (outcome, error) {
	second, err := r.run(ctx, packages, a.tests)
	if err != nil {
		return outcome{}, err
	}
	o, err := second.outcome(a)
	if err == nil && o.Status == statusPassed {
		o.Status, o.Reason = statusPassedAlone, first.Reason
	}
	return o, err
}

// run runs the named tests, or all if there is no name.
func (r runner) run(ctx context.Context, packages, names []string) (tests, error) {
	args := append([]string{"test", "-json", "-count=1", "-parallel=4", "-timeout=30m"}, r.flags...)
	if len(names) > 0 {
		args = append(args, "-run=^("+strings.Join(names, "|")+")$")
	}
	c := exec.CommandContext(ctx, "go", append(args, packages...)...)
	c.Env, c.Stderr = r.env, os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	all, err := parse(out)
	var exit *exec.ExitError
	if wait := c.Wait(); wait != nil && (!errors.As(wait, &exit) || len(all) == 0) { // a test that failed is an outcome
		return nil, errors.Join(err, wait)
	}
	return all, err
}

// packageFailed begins the name of an entry for a package that failed although none of its tests did. It counts for each area of the package.
const packageFailed = "package "

// tests are the top-level tests of a run, by name. Tests of several packages that have one name are one test.
type tests map[string]*ran

// A ran is a test that ran.
type ran struct {
	failed bool
	passed int      // with its subtests
	output []string // of the test and its subtests, as long as none of them fails
	reason string   // the last error of the test that failed
}

// An event is a line of go test -json.
type event struct{ Action, Package, Test, Output string }

// parse reads what go test -json prints.
func parse(r io.Reader) (tests, error) {
	all := tests{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("go test printed %q: %w", lines.Text(), err)
		}
		name, sub, _ := strings.Cut(e.Test, "/")
		switch {
		case e.Action == "fail" && name == "" && !all.failed(): // a package that does not build, or whose TestMain fails
			all[packageFailed+e.Package] = &ran{failed: true, reason: "the package failed"}
		case name != "":
			if all[name] == nil {
				all[name] = &ran{}
			}
			all[name].add(e, sub)
		}
	}
	return all, lines.Err()
}

func (all tests) failed() bool {
	for _, t := range all {
		if t.failed {
			return true
		}
	}
	return false
}

func (t *ran) add(e event, sub string) {
	switch e.Action {
	case "output":
		t.output = append(t.output, e.Output)
	case "pass":
		t.passed++
	case "fail":
		t.failed = true
		if t.reason == "" {
			t.reason = lastError(t.output)
			if sub != "" {
				t.reason = sub + ": " + t.reason
			}
		}
	}
}

var place = regexp.MustCompile(`^\w+\.go:\d+: `)

// lastError returns the last line that a test reported with the place of the report, such as "lease_test.go:12: got 1". Lines before
// it may be a log of what went well.
func lastError(output []string) string {
	for _, line := range slices.Backward(output) {
		if line = strings.TrimSpace(line); place.MatchString(line) || strings.HasPrefix(line, "panic:") {
			return line
		}
	}
	return "no error was printed"
}

// outcome is what the tests of an area say together.
func (all tests) outcome(a area) (outcome, error) {
	names := slices.Clone(a.tests)
	for name := range all {
		if len(a.tests) == 0 || strings.HasPrefix(name, packageFailed) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	o := outcome{Status: statusPassed}
	var reasons []string
	for _, name := range names {
		t := all[name]
		if t == nil {
			return outcome{}, fmt.Errorf("the test %s did not run", name)
		}
		o.Tests += t.passed
		if t.failed {
			o.Status = statusFailed
			reasons = append(reasons, name+": "+t.reason)
		}
	}
	o.Reason = strings.Join(reasons, "; ")
	return o, nil
}
