package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

// completionTimeout bounds how long a shell waits for the names of services.
const completionTimeout = 2 * time.Second

func (a *app) instancesCommand() *cobra.Command {
	var out format
	var q queryFlags
	var timeout time.Duration
	c := &cobra.Command{
		Use:               "instances SERVICE",
		Short:             "List the instances of a service",
		Args:              oneArgument("SERVICE"),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			query, err := q.query(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			reg, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer reg.Close()
			progress := a.newProgress()
			progress.say("asking %s", reg)
			set, err := reg.Lookup(ctx, query)
			progress.end()
			a.reportUnreadable(reg)
			if err != nil && set == nil {
				return err
			}
			if err := writeInstances(a.stdout, set, out, hasColour(a.stdout)); err != nil {
				return err
			}
			if err != nil {
				return fmt.Errorf("out of date: %w", trimmed{err}) // such as a set from the cache folder
			}
			if len(set) == 0 {
				return nothing("%s", hasNone(query))
			}
			return nil
		},
	}
	formatFlag(c, &out, formats...)
	q.addAll(c)
	timeoutFlag(c, &timeout, defaultTimeout, "how long to wait for the registry")
	return c
}

// hasNone says that q selects no instance.
func hasNone(q registry.Query) string {
	if q.AnyStatus {
		return q.Service + " has no instance that matches"
	}
	return q.Service + " has no instance that passes and matches; --all shows the others"
}
