// Command compat tests Rollcall against several versions of Consul, etcd and gRPC, and writes docs/compatibility.md.
//
//	go run ./internal/compat                                   # everything; about an hour on two cores
//	go run ./internal/compat -only etcd                        # the subjects whose name begins with etcd; the rest stays as it is
//	go run ./internal/compat -only consul-1.13 -area peering   # of these, the areas whose title has this word
//	go run ./internal/compat -render                           # writes the page from results.json, and tests nothing
//
// It keeps what it measured in internal/compat/results.json, so that each column of the page says when it was measured. A test that
// fails is run again alone, and the page says so. The exit status is 1 if a test failed both times.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

const (
	resultsFile = "internal/compat/results.json"
	pageFile    = "docs/compatibility.md"
)

func main() {
	only := flag.String("only", "", "test only the subjects whose name begins with this text, such as consul or etcd-3.5")
	area := flag.String("area", "", "test only the areas whose title has this text")
	render := flag.Bool("render", false, "write the page from the results of earlier runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *area, *render); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, area string, render bool) error {
	if _, err := os.Stat(resultsFile); err != nil {
		return fmt.Errorf("run it in the root of the repository: %w", err)
	}
	results, err := load(resultsFile)
	if err != nil {
		return err
	}
	var failed []error
	found := render
	for _, s := range subjects {
		if render || !strings.HasPrefix(s.name(), only) {
			continue
		}
		found = true
		fmt.Printf("== %s\n", s.name())
		outcomes, err := s.test(ctx, area)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		for title, o := range outcomes {
			if o.Status == statusFailed {
				failed = append(failed, fmt.Errorf("%s: %s failed: %s", s.name(), title, o.Reason))
			}
		}
		results.add(s.name(), outcomes)
		if err := results.save(resultsFile); err != nil { // what is measured survives an interrupt
			return err
		}
	}
	if !found {
		return fmt.Errorf("the name of no subject begins with %q", only)
	}
	if err := os.WriteFile(pageFile, page(results), 0o666); err != nil {
		return err
	}
	fmt.Println("wrote", filepath.FromSlash(pageFile))
	return errors.Join(failed...)
}
