package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// oneArgument is the [cobra.PositionalArgs] of a command that takes exactly one argument.
func oneArgument(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return fmt.Errorf("%s is missing", name)
		case 1:
			return nil
		}
		return fmt.Errorf("%q is one argument too many, after %s", args[1], name)
	}
}

// noArgument is the [cobra.PositionalArgs] of a command that takes none.
func noArgument(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q is one argument too many: %s takes none", args[0], c.Name())
	}
	return nil
}

// refuseUnknown has a command of cobra, which shows its help for an argument that it does not know, end with an error then.
func refuseUnknown(c *cobra.Command, known func(args []string) bool) {
	show := c.Run
	if show == nil {
		show = func(c *cobra.Command, _ []string) { _ = c.Help() } // run reports that the output cannot be written
	}
	c.Run = nil
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if !known(args) {
			return usage("unknown command %q for %q", args[0], c.CommandPath())
		}
		show(c, args)
		return nil
	}
}

// durationValue is the [pflag.Value] of a flag that takes a duration.
type durationValue struct {
	d       *time.Duration
	zeroToo bool
}

func (v durationValue) String() string { return v.d.String() }
func (v durationValue) Type() string   { return "duration" }
func (v durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return errors.New("it is no duration such as 500ms, 10s or 1m30s")
	case d < 0 && v.zeroToo:
		return errors.New("it is below 0")
	case d <= 0 && !v.zeroToo:
		return errors.New("it is not above 0")
	}
	*v.d = d
	return nil
}

// durationFlag adds a flag that takes a duration above 0.
func durationFlag(c *cobra.Command, d *time.Duration, name string, value time.Duration, usage string) {
	*d = value
	c.Flags().Var(durationValue{d: d}, name, usage)
}

// pauseFlag adds a flag that takes a duration of 0 or more.
func pauseFlag(c *cobra.Command, d *time.Duration, name string, value time.Duration, usage string) {
	*d = value
	c.Flags().Var(durationValue{d: d, zeroToo: true}, name, usage)
}

func timeoutFlag(c *cobra.Command, timeout *time.Duration, value time.Duration, usage string) {
	durationFlag(c, timeout, "timeout", value, usage)
}
