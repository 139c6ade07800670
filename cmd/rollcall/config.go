package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

// defaultConfigKey is the key of the service config of a service, unless --key names another one.
const defaultConfigKey = "rollcall/config/SERVICE"

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Read and change the gRPC service config of a service",
		Long: `config reads and changes the gRPC service config of a service: timeouts and retry
policies of methods, and the balancing policy. The service config is a value in
the registry. Channels with ServiceConfigKey, or with config=KEY in their target,
read it there and follow each change without a reconnect.`,
	}
	c.AddCommand(a.configGetCommand(), a.configPutCommand(), a.configDeleteCommand(), a.configWatchCommand())
	refuseUnknown(c, func(args []string) bool { return len(args) == 0 })
	return c
}

// configFlags are the flags of all commands about a service config.
type configFlags struct {
	key     string
	timeout time.Duration
}

func (f *configFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.key, "key", defaultConfigKey, "`KEY` of the service config; SERVICE in it is replaced by the name of the service")
}

// store is the place of one service config.
type store struct {
	*registry.Registry
	service, key string
}

// openStore opens the registry. The caller closes it.
func (a *app) openStore(ctx context.Context, f configFlags, service string) (*store, error) {
	if err := (registry.Query{Service: service}).Validate(); err != nil {
		return nil, err
	}
	key := strings.ReplaceAll(f.key, "SERVICE", service)
	if err := registry.ValidateKey(key); err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	reg, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	return &store{reg, service, key}, nil
}

// read returns the value in the registry, which is nil if there is no such key.
func (s *store) read(ctx context.Context) (*registry.Value, error) {
	for v, err := range s.WatchValue(ctx, s.key) {
		return v, err
	}
	return nil, fmt.Errorf("%s: no answer from %s: %w", s.key, s, ctx.Err())
}

func (a *app) configGetCommand() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:               "get SERVICE",
		Short:             "Print the service config of a service",
		Args:              oneArgument("SERVICE"),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
			defer cancel()
			s, err := a.openStore(ctx, f, args[0])
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.read(ctx)
			switch {
			case err != nil:
				return err
			case v == nil:
				return nothing("%s has no service config: there is no key %s in %s", s.service, s.key, s)
			}
			_, err = a.stdout.Write(shownOn(a.stdout, v.Data))
			return err
		},
	}
	f.add(c)
	timeoutFlag(c, &f.timeout, defaultTimeout, "how long to wait for the registry")
	return c
}

// shownOn returns data for w. A terminal gets whole lines, without what it would obey.
func shownOn(w io.Writer, data []byte) []byte {
	if !isTerminal(w) {
		return data
	}
	var b strings.Builder
	for _, line := range linesOf(data) {
		b.WriteString(printableLine(line) + "\n")
	}
	return []byte(b.String())
}

func (a *app) configPutCommand() *cobra.Command {
	var f configFlags
	var dryRun bool
	c := &cobra.Command{
		Use:   "put SERVICE [FILE]",
		Short: "Check a service config, show what changes, and write it",
		Long: `put reads a service config from FILE or from standard input. It checks it as gRPC
does, shows what changes, and writes it, unless another client has changed it
meanwhile. put warns of members that gRPC ignores: they are often misspelt.`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			data, err := readConfig(c.InOrStdin(), args[1:])
			if err != nil {
				return err
			}
			if err := checkConfig(data); err != nil {
				return &exitError{exitUsage, "this is no service config: " + cell(err.Error())}
			}
			for _, member := range ignoredMembers(data) {
				fmt.Fprintf(a.stderr, "rollcall: warning: gRPC ignores %s\n", cell(member))
			}
			return a.change(c.Context(), f, args[0], data, dryRun)
		},
	}
	f.add(c)
	c.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "check and show, and write nothing")
	timeoutFlag(c, &f.timeout, defaultTimeout, "how long to wait for the registry")
	return c
}

func (a *app) configDeleteCommand() *cobra.Command {
	var f configFlags
	var dryRun bool
	c := &cobra.Command{
		Use:               "delete SERVICE",
		Short:             "Delete the service config, so that channels have their own again",
		Args:              oneArgument("SERVICE"),
		ValidArgsFunction: a.completeServices,
		RunE:              func(c *cobra.Command, args []string) error { return a.change(c.Context(), f, args[0], nil, dryRun) },
	}
	f.add(c)
	c.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "show, and delete nothing")
	timeoutFlag(c, &f.timeout, defaultTimeout, "how long to wait for the registry")
	return c
}

// readConfig reads the file that args name, or in.
func readConfig(in io.Reader, args []string) ([]byte, error) {
	if len(args) > 0 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, registry.MaxValueSize+1))
	if err == nil && len(data) > registry.MaxValueSize {
		err = &exitError{exitUsage, fmt.Sprintf("a service config has %d bytes at most", registry.MaxValueSize)}
	}
	return data, err
}

// change shows how data differs from the service config in the registry, and then writes it. nil deletes the service config.
func (a *app) change(ctx context.Context, f configFlags, service string, data []byte, dryRun bool) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	s, err := a.openStore(ctx, f, service)
	if err != nil {
		return err
	}
	defer s.Close()
	before, err := s.read(ctx)
	if err != nil {
		return err
	}
	if before == nil && data == nil {
		return nothing("%s has no service config: there is no key %s in %s", s.service, s.key, s)
	}
	if before != nil && data != nil && string(before.Data) == string(data) {
		fmt.Fprintf(a.stdout, "%s is the same in %s, at revision %d\n", s.key, s, before.Revision)
		return nil
	}
	if err := writeDiff(a.stdout, dataOf(before), data, hasColour(a.stdout)); err != nil || dryRun {
		return err
	}
	after, err := s.write(ctx, before, data)
	switch {
	case errors.Is(err, registry.ErrConflict):
		return nothing("%s was changed by another client meanwhile, and nothing was written; run the command again to see the difference", s.key)
	case err != nil:
		return err
	case after == nil:
		fmt.Fprintf(a.stdout, "deleted %s in %s\n", s.key, s)
	default:
		fmt.Fprintf(a.stdout, "wrote %s in %s, revision %d\n", s.key, s, after.Revision)
	}
	return nil
}

// write writes data, or deletes the key if data is nil, if the value is still the one from before.
func (s *store) write(ctx context.Context, before *registry.Value, data []byte) (*registry.Value, error) {
	condition := registry.PutOptions{IfAbsent: before == nil}
	if before != nil {
		condition.IfRevision = before.Revision
	}
	if data == nil {
		return nil, s.DeleteValue(ctx, s.key, condition)
	}
	return s.PutValue(ctx, s.key, data, condition)
}

func dataOf(v *registry.Value) []byte {
	if v == nil {
		return nil
	}
	return v.Data
}

func (a *app) configWatchCommand() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "watch SERVICE",
		Short: "Show each change of the service config of a service",
		Long: `watch shows the service config of a service and each change of it, until it is
interrupted:

  TIME revision N      followed by the lines that were added (+) and removed (-)
  TIME absent          there is no service config
  TIME ! ERROR         what was shown may be out of date
  TIME =               it is current again`,
		Annotations:       annotations(untilStopped),
		Args:              oneArgument("SERVICE"),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.openStore(c.Context(), f, args[0])
			if err != nil {
				return err
			}
			defer s.Close()
			answered := a.sayWaiting(c.Context(), fmt.Sprintf("waiting for %s in %s", s.key, s))
			defer answered()
			w := configWatch{a: a}
			for v, err := range s.WatchValue(c.Context(), s.key) {
				answered()
				if err := w.show(v, err); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(c)
	return c
}

// configWatch shows what a watch of a service config yields.
type configWatch struct {
	a     *app
	known bool
	last  *registry.Value
	stale bool
}

func (w *configWatch) show(v *registry.Value, err error) error {
	now, out := time.Now().Format(time.RFC3339), w.a.stdout
	if errors.Is(err, registry.ErrUnsupported) {
		return err
	}
	switch {
	case err != nil:
		fmt.Fprintln(out, now, coloured(hasColour(out), red, "!"), cell(trimPrefix(err)))
	case w.stale:
		fmt.Fprintln(out, now, "=")
	}
	w.stale = err != nil
	if err != nil && !errors.As(err, new(*registry.StaleError)) {
		return nil // nothing is known
	}
	before, known := w.last, w.known
	w.last, w.known = v, true
	switch {
	case known && (before == nil) == (v == nil) && (v == nil || before.Revision == v.Revision):
		return nil
	case v == nil:
		fmt.Fprintln(out, now, "absent")
	default:
		fmt.Fprintln(out, now, "revision", v.Revision)
	}
	return writeDiff(out, dataOf(before), dataOf(v), hasColour(out))
}
