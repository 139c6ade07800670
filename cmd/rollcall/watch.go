package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

func (a *app) watchCommand() *cobra.Command {
	var q queryFlags
	var changes bool
	c := &cobra.Command{
		Use:   "watch SERVICE [-- COMMAND [ARG...]]",
		Short: "Show a service as it changes, or run a command on each change",
		Long: `watch shows the instances of a service as they change, until it is interrupted:
as a table that is drawn anew on a terminal, and otherwise, or with --changes,
as one line for each change:

  TIME + ID ADDRESS STATUS     an instance came
  TIME ~ ID ADDRESS STATUS     an instance changed
  TIME - ID ADDRESS STATUS     an instance left
  TIME ! ERROR                 the set may be out of date
  TIME =                       the set is current again
  TIME = SENTENCE              there is no instance at the start

These forms show each set that the registry has. With a command, watch runs it
for each set that a program with the library would use: such a program keeps
instances for a grace period if too many of them go or fail at once. The command
gets the set as a JSON array on its standard input. One run follows another, and
a set that is replaced while the command runs is skipped. If the command fails,
watch says so and goes on. If it cannot be started, watch ends with 126, or with
127 if it is not found.`,
		Annotations: annotations(untilStopped),
		Args: func(c *cobra.Command, args []string) error {
			if n := c.ArgsLenAtDash(); len(args) == 0 || n == 0 || n < 0 && len(args) > 1 || n > 1 {
				return errors.New("one SERVICE is needed, and a command only after --")
			}
			return nil
		},
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			query, err := q.query(args[0])
			if err != nil {
				return err
			}
			ctx, command := c.Context(), args[1:]
			if changes && len(command) > 0 {
				return usage("--changes: a command after -- takes the place of the lines")
			}
			openAs := withoutGrace
			if len(command) > 0 {
				openAs = unchanged
			}
			reg, err := a.openAs(ctx, openAs)
			if err != nil {
				return err
			}
			defer reg.Close()
			var show watcher
			switch {
			case len(command) > 0:
				show = &runner{a: a, ctx: ctx, command: command}
			case isTerminal(a.stdout) && !changes:
				show = &liveTable{a: a, title: fmt.Sprintf("%s in %s", query.Service, reg), query: query,
					unreadable: func() string { return a.unreadableText(reg.CountUnreadable()) }}
			default:
				show = &changeLog{a: a, query: query}
			}
			return a.watch(ctx, reg, query, show)
		},
	}
	q.addAll(c)
	c.Flags().BoolVar(&changes, "changes", false, "one line for each change, also on a terminal")
	return c
}

// watcher shows what a watch yields.
type watcher interface {
	// show is called for each pair. It returns an error if it cannot go on.
	show(set []*registry.Instance, err error) error
}

// watch shows what reg yields for q until ctx ends, which is no error.
func (a *app) watch(ctx context.Context, reg *registry.Registry, q registry.Query, w watcher) error {
	answered := a.sayWaiting(ctx, fmt.Sprintf("waiting for %s in %s", q.Service, reg))
	defer answered()
	unreadable := unreadableReport{a: a, reg: reg}
	for set, err := range reg.Watch(ctx, q) {
		answered()
		if errors.Is(err, registry.ErrInvalid) {
			return err
		}
		if err := w.show(set, err); err != nil {
			return err
		}
		if _, ok := w.(*liveTable); !ok {
			unreadable.update()
		}
	}
	return nil
}

// withoutGrace returns the URL with the grace period of suspect sets turned off, unless it says something about that: the set that is
// withheld is what a user of watch wants to see.
func withoutGrace(url string) string {
	const parameter = "outage-grace="
	switch {
	case strings.Contains(url, parameter) || strings.Contains(url, "#"):
		return url
	case strings.Contains(url, "?"):
		return url + "&" + parameter + "off"
	}
	return url + "?" + parameter + "off"
}

// liveTable draws the set anew on a terminal.
type liveTable struct {
	a     *app
	title string
	query registry.Query
	// unreadable says how many entries are left out; nil or empty if none is.
	unreadable func() string
}

// clearScreen moves to the top left corner and erases the screen.
const clearScreen = "\x1b[H\x1b[2J"

func (l *liveTable) show(set []*registry.Instance, err error) error {
	colour := hasColour(l.a.stdout)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s  %s\n", clearScreen, cell(l.title), time.Now().Format(time.TimeOnly))
	if err != nil {
		fmt.Fprintln(&b, coloured(colour, red, cell(trimPrefix(err))))
	}
	fmt.Fprintln(&b)
	switch {
	case len(set) > 0:
		if err := writeTable(&b, set, false, colour); err != nil {
			return err
		}
	case err == nil:
		fmt.Fprintln(&b, cell(hasNone(l.query)))
	}
	if l.unreadable != nil {
		if text := l.unreadable(); text != "" {
			fmt.Fprintln(&b, text)
		}
	}
	_, err = l.a.stdout.Write(b.Bytes())
	return err
}

// changeLog writes one line for each change.
type changeLog struct {
	a     *app
	query registry.Query
	known map[string]*registry.Instance // by key; nil before the first set
	stale bool
}

func (c *changeLog) show(set []*registry.Instance, err error) error {
	var b bytes.Buffer
	c.write(&b, set, err)
	_, err = c.a.stdout.Write(b.Bytes())
	return err
}

func (c *changeLog) write(b *bytes.Buffer, set []*registry.Instance, err error) {
	now := time.Now().Format(time.RFC3339)
	colour := hasColour(c.a.stdout)
	line := func(sign, col string, in *registry.Instance) {
		fmt.Fprintln(b, now, coloured(colour, col, sign), cell(in.ID), cell(in.Address), in.Status)
	}
	switch {
	case err != nil:
		fmt.Fprintln(b, now, coloured(colour, red, "!"), cell(trimPrefix(err)))
	case c.known == nil && len(set) == 0:
		fmt.Fprintln(b, now, "=", cell(hasNone(c.query)))
	case c.stale:
		fmt.Fprintln(b, now, "=")
	}
	c.stale = err != nil
	if err != nil && set == nil {
		return // nothing is known, which is not the same as nothing is there
	}
	before := c.known
	c.known = make(map[string]*registry.Instance, len(set))
	for _, in := range set {
		key := in.ID + " " + in.Address // an ID can be there twice on Consul
		c.known[key] = in
		switch was := before[key]; {
		case was == nil:
			line("+", green, in)
		case !was.Equal(in):
			line("~", yellow, in)
		}
		delete(before, key)
	}
	for _, in := range sorted(before) {
		line("-", red, in)
	}
}

// runner runs a command for each set.
type runner struct {
	a       *app
	ctx     context.Context
	command []string
	ran     bool
	last    []*registry.Instance
}

func (r *runner) show(set []*registry.Instance, err error) error {
	if err != nil {
		r.a.report("%s", trimPrefix(err))
		if set == nil {
			return nil
		}
	}
	if r.ran && same(r.last, set) {
		return nil
	}
	r.ran, r.last = true, set
	input, err := json.Marshal(nonNil(set))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(r.ctx, r.command[0], r.command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = commandDelay
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), direct(r.a.stdout), r.a.stderr
	if err := cmd.Run(); err != nil && r.ctx.Err() == nil {
		if cmd.Process == nil { // it did not start, and never will
			return cannotRun(r.command[0], err)
		}
		r.a.report("%s: %v", r.command[0], err)
	}
	return nil
}

// commandDelay is how long a command may go on after an interrupt.
const commandDelay = 5 * time.Second
