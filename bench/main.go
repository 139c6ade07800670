// Bench runs Rollcall and what a user would pick instead over the same real servers, and prints one table. See its README.
//
//	go run . -short
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

func main() {
	if os.Getenv(childVariable) != "" {
		log.SetOutput(os.Stderr)
		serveChild(os.Stdin, os.Stdout)
		return
	}
	// The servers end their caller's goroutine when they fail, which must not be the main one.
	result := make(chan error, 1)
	go func() {
		err := errors.New("a server failed")
		defer func() { result <- err }()
		err = run()
	}()
	if err := <-result; err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	isShort := flag.Bool("short", false, "check in a few minutes whether everything runs; the figures mean nothing")
	only := flag.String("only", "", "scenarios, with commas between them; default all")
	backends := flag.String("registry", "consul,etcd", "registries, with commas between them")
	among := flag.String("contenders", "", "names of contenders, with commas between them; default all")
	rounds := flag.Int("rounds", 0, "number of rounds; default as in the scale")
	asJSON := flag.String("json", "", "file for every sample, as JSON")
	chart := flag.String("chart", "", "file for a chart, .svg or .png")
	table := flag.String("o", "", "file for the table; default standard output")
	flag.Parse()

	if os.Getenv(verboseVariable) == "" {
		slog.SetDefault(slog.New(slog.DiscardHandler)) // of Rollcall's servers
	}
	b := &bench{scale: full, stores: map[string]store{}, report: &report{}, say: func(format string, a ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", a...)
	}}
	if *isShort {
		b.scale = short
	}
	if *rounds > 0 {
		b.Rounds = *rounds
	}
	b.backends = strings.Split(*backends, ",")
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *chart != "" && !slices.ContainsFunc(chosen, func(s scenario) bool { return s.name == chartedScenario }) {
		return fmt.Errorf("-chart: it is of the scenario %s, which -only leaves out", chartedScenario)
	}
	bed := &bed{}
	defer bed.end()
	if *among != "" {
		b.among = strings.Split(*among, ",")
	}
	for _, name := range b.among {
		if !slices.ContainsFunc(contender.All, func(c contender.Contender) bool { return c.Name == name }) {
			return fmt.Errorf("-contenders: there is none called %q", name)
		}
	}
	for _, name := range b.backends {
		if len(contender.Of(name)) == 0 {
			return fmt.Errorf("-registry: %q is neither consul nor etcd", name)
		}
		s, err := openStore(bed, name)
		if err != nil {
			return err
		}
		b.stores[name] = s
	}
	b.report.Head = head(b)
	for _, s := range chosen {
		if err := s.run(b); err != nil {
			return err
		}
		// A run takes hours, so the results so far are saved in case the rest fails.
		if err := b.write(*table, *asJSON, *chart); err != nil {
			return err
		}
	}
	if *table == "" {
		b.report.markdown(os.Stdout)
	}
	return nil
}

func choose(only string) ([]scenario, error) {
	if only == "" {
		return scenarios, nil
	}
	var chosen []scenario
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no scenario %q", name)
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}

// write writes the results so far to the requested files.
func (b *bench) write(table, asJSON, chart string) error {
	if table != "" {
		if err := toFile(table, func(f *os.File) error { b.report.markdown(f); return nil }); err != nil {
			return err
		}
	}
	if asJSON != "" {
		if err := toFile(asJSON, func(f *os.File) error { return b.report.json(f) }); err != nil {
			return err
		}
	}
	if chart != "" && b.report.hasChart() {
		return b.report.chart(chart)
	}
	return nil
}

func toFile(name string, write func(*os.File) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// head describes the run: command, machine, date and versions.
func head(b *bench) []string {
	list := []string{
		"command: `go run . " + strings.Join(os.Args[1:], " ") + "`",
		fmt.Sprintf("machine: %d CPUs (%s), %s/%s, %s; the servers and the contenders share it", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
		"date: " + time.Now().UTC().Format("2006-01-02"),
	}
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
	}
	var modules []string
	for _, c := range contender.All {
		v := c.Module + " " + versions[c.Module]
		if c.Ours {
			v = c.Module + " " + commit()
		}
		if slices.Contains(b.backends, c.Backend) && !slices.Contains(modules, v) {
			modules = append(modules, v)
		}
	}
	for _, c := range contender.AllHTTP {
		if v := c.Module + " " + versions[c.Module]; !c.Ours && c.Module != "" && !slices.Contains(modules, v) {
			modules = append(modules, v)
		}
	}
	return append(list, "contenders: "+strings.Join(modules, ", "), "gRPC: "+versions["google.golang.org/grpc"]+
		"; servers: started by internal/testbed, one Consul agent that is its own server, one etcd")
}

// processor returns the name of the CPU, or "unknown".
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// commit returns the commit of the tree that is measured.
func commit() string {
	text, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "of an unknown commit"
	}
	return "at " + strings.TrimSpace(string(text))
}

// root returns the folder of the main module.
func root() (string, error) {
	text, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(filepath.Dir(strings.TrimSpace(string(text)))), nil
}
