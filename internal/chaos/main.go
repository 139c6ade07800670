// Command chaos runs random faults on a real cluster under load, and checks what Rollcall promises.
//
//	go run ./internal/chaos -bed consul -for 10m           # three servers and a client agent, with ACLs and TLS between them
//	go run ./internal/chaos -bed etcd -for 10m -seed 42    # three members; the faults of an earlier run once more
//
// Servers of gRPC and of HTTP register in the cluster, and clients call them all the time, without retries. In each round one of the bed's
// faults happens, chosen by the seed, and is healed. Meanwhile an instance leaves and another one changes. The round ends when a watch shows
// exactly what is registered. The table in the end has the faults, and what was violated; the exit status is 1 if anything was.
//
// All servers and clients are in this process, each with a Registry of its own. So it does not show what happens when one of them is killed
// or paused: see grpcx/internal/rolling and httpx/internal/rolling.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// beds start a cluster by name.
var beds = map[string]func(testing.TB) cluster{"consul": newConsulCluster, "etcd": newEtcdCluster}

func main() {
	bed := flag.String("bed", "consul", "the cluster: consul or etcd")
	lasts := flag.Duration("for", 10*time.Minute, "no new round begins after this time")
	seed := flag.Uint64("seed", rand.Uint64(), "chooses the faults and how long they last")
	flag.Parse()
	start := beds[*bed]
	if start == nil {
		fmt.Fprintf(os.Stderr, "chaos: -bed: there is no bed %q\n", *bed)
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // each fault makes hundreds of lines
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	done := make(chan error, 1)
	go func() {
		err := errors.New("the cluster could not be started, or a fault could not be made")
		s := &stage{}
		defer func() { s.end(); done <- err }()
		err = run(ctx, s, start, *bed, *lasts, *seed)
	}()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// run makes rounds for a time, and writes the table.
func run(ctx context.Context, tb testing.TB, start func(testing.TB) cluster, bed string, lasts time.Duration, seed uint64) error {
	c := start(tb)
	f, err := newFleet(ctx, c)
	if err != nil {
		return err
	}
	defer f.stop()
	rng := rand.New(rand.NewPCG(seed, 0))
	t := &table{bed: bed, seed: seed}
	fmt.Printf("bed %s, seed %d\n", bed, seed)
	for end := time.Now().Add(lasts); time.Now().Before(end) && ctx.Err() == nil; {
		r, err := f.round(ctx, c, rng)
		if err != nil {
			return err
		}
		if ctx.Err() == nil {
			t.add(r)
			fmt.Printf("%s %s\n", time.Now().Format(time.TimeOnly), r)
		}
	}
	t.write(os.Stdout)
	if t.violations() > 0 {
		return fmt.Errorf("%d violations", t.violations())
	}
	return nil
}
