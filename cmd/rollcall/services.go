package main

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	defaultTimeout = 10 * time.Second // of a command that asks once
	lookupsAtOnce  = 16               // so that a registry with thousands of services is not flooded
)

// serviceCount is one line of `rollcall services`.
type serviceCount struct {
	Service string `json:"service"`
	Passing int    `json:"passing"`
	All     int    `json:"all"`
}

func (a *app) servicesCommand() *cobra.Command {
	var out format
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "services",
		Short: "List the services, with the number of their instances",
		Args:  noArgument,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			reg, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer reg.Close()
			progress := a.newProgress()
			progress.say("asking %s", reg)
			counts, err := countServices(ctx, reg)
			progress.end()
			if err != nil {
				return err
			}
			a.reportUnreadable(reg)
			if err := a.writeCounts(counts, out); err != nil {
				return err
			}
			for _, n := range counts {
				if n.Passing > 0 {
					return nil
				}
			}
			return nothing("no service has an instance that passes")
		},
	}
	formatFlag(c, &out, formatTable, formatJSON, formatJSONL)
	timeoutFlag(c, &timeout, defaultTimeout, "how long to wait for the registry")
	return c
}

// countServices looks each service up. It returns the first error: numbers that lack a service would mislead.
func countServices(ctx context.Context, reg *registry.Registry) ([]serviceCount, error) {
	names, err := reg.Services(ctx)
	if err != nil {
		return nil, err
	}
	counts, errs := make([]serviceCount, len(names)), make([]error, len(names))
	slots := make(chan struct{}, lookupsAtOnce)
	var lookups sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		lookups.Go(func() {
			defer func() { <-slots }()
			counts[i], errs[i] = countInstances(ctx, reg, name)
		})
	}
	lookups.Wait()
	return counts, cmp.Or(errs...)
}

func countInstances(ctx context.Context, reg *registry.Registry, service string) (serviceCount, error) {
	set, err := reg.Lookup(ctx, registry.Query{Service: service, AnyStatus: true})
	n := serviceCount{Service: service, All: len(set)}
	for _, in := range set {
		if in.Status == registry.Passing {
			n.Passing++
		}
	}
	return n, err
}

func (a *app) writeCounts(counts []serviceCount, out format) error {
	switch out {
	case formatJSON:
		return writeJSON(a.stdout, counts)
	case formatJSONL:
		for _, n := range counts {
			if err := writeLine(a.stdout, n); err != nil {
				return err
			}
		}
		return nil
	}
	colour := hasColour(a.stdout)
	t := newTable(a.stdout)
	fmt.Fprintln(t, "SERVICE\t"+coloured(colour, plain, "PASSING/ALL"))
	for _, n := range counts {
		c := green
		switch {
		case n.Passing == 0:
			c = red
		case n.Passing < n.All:
			c = yellow
		}
		fmt.Fprintf(t, "%s\t%s\n", cell(n.Service), coloured(colour, c, fmt.Sprintf("%d/%d", n.Passing, n.All)))
	}
	return t.Flush()
}
