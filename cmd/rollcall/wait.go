package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

func (a *app) waitCommand() *cobra.Command {
	var q queryFlags
	var passing int
	var timeout time.Duration
	c := &cobra.Command{
		Use:               "wait SERVICE",
		Short:             "Wait until enough instances of a service pass",
		Args:              oneArgument("SERVICE"),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			query, err := q.query(args[0])
			if err != nil {
				return err
			}
			if passing < 1 {
				return usage("--passing: %d is less than 1", passing)
			}
			reg, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer reg.Close()
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return a.waitFor(ctx, reg, query, passing)
		},
	}
	q.add(c)
	c.Flags().IntVar(&passing, "passing", 1, "how many instances must pass")
	timeoutFlag(c, &timeout, time.Minute, "how long to wait")
	return c
}

// waitFor blocks until reg answers that n instances pass. A set that may be out of date does not count.
func (a *app) waitFor(ctx context.Context, reg *registry.Registry, q registry.Query, n int) error {
	progress := a.newProgress()
	unreadable := unreadableReport{a: a, reg: reg}
	defer unreadable.update()
	defer progress.end()
	progress.say("waiting for %s in %s", q.Service, reg)
	found, answered := 0, false
	var last error
	for set, err := range reg.Watch(ctx, q) {
		switch {
		case errors.Is(err, registry.ErrInvalid):
			return err
		case err == nil && len(set) >= n:
			return nil
		}
		found, last, answered = len(set), err, true
		if err != nil {
			progress.say("waiting for %s: %s", q.Service, trimPrefix(err))
		} else {
			progress.say("waiting for %s: %d of %d pass", q.Service, found, n)
		}
	}
	if !answered {
		return &exitError{exitUnreachable, fmt.Sprintf("%s: gave up waiting: no answer from %s", q.Service, reg)}
	}
	if last != nil {
		return &exitError{exitUnreachable, fmt.Sprintf("%s: gave up waiting: %s", q.Service, trimPrefix(last))}
	}
	return nothing("%s: gave up waiting: %d of %d instances pass", q.Service, found, n)
}
