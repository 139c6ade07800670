package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	doctorTimeout = 30 * time.Second // of all checks together
	stepTimeout   = 5 * time.Second  // of one question to the registry
)

// doctorFlags are the flags of `rollcall doctor`.
type doctorFlags struct {
	noWrite bool
	service string
	timeout time.Duration
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	var out format
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong between this host and the registry",
		Long: `doctor checks everything between this host and the registry, with the
settings that the library uses, and says what to do about what is not fine.
Each line is one check:

  ✓  fine
  !  works, but may become a problem
  ✗  fails
  -  does not apply, or was not checked

The check "write" registers a throwaway service, rollcall-doctor-XXXX, sees it
in a second watch, removes it without the knowledge of its registration, sees it
return, and deregisters it. --no-write leaves that out.

Exit codes: 0 no check failed; 3 one of the checks name, tcp, tls, agent, leader,
members, credentials and write failed; 1 only other checks failed, or not all
checks were made in time; 2 the command line or the URL is wrong; 130 or 143 a
signal interrupted doctor.`,
		Args: noArgument,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.service != "" {
				if err := (registry.Query{Service: f.service}).Validate(); err != nil {
					return fmt.Errorf("--service: %w", trimmed{err})
				}
			}
			d := newDoctor(a, f)
			if err := d.run(c.Context()); err != nil {
				return err
			}
			if err := d.write(out); err != nil {
				return err
			}
			return d.verdict()
		},
	}
	formatFlag(c, &out, formatTable, formatJSON)
	c.Flags().BoolVar(&f.noWrite, "no-write", false, "change nothing in the registry")
	c.Flags().StringVar(&f.service, "service", "", "`SERVICE` that the credentials must allow (default: the throwaway one)")
	timeoutFlag(c, &f.timeout, doctorTimeout, "how long all checks may take together")
	return c
}

// doctor is one run of `rollcall doctor`.
type doctor struct {
	a *app
	f doctorFlags

	target    *checkTarget
	findings  []finding
	blockedBy map[string]string // the check that failed, by the check that needs it
	cut       string            // why not all checks were made
	aclsOn    bool              // Consul's ACLs are on

	// Replaced by tests.
	lookup     func(ctx context.Context, host string) ([]netip.Addr, error)
	advertised func(ctx context.Context, store string) (string, error)
	warnDays   int
}

func newDoctor(a *app, f doctorFlags) *doctor {
	return &doctor{a: a, f: f, blockedBy: map[string]string{}, lookup: lookupHost, advertised: advertisedAddress, warnDays: 14}
}

// doctorCheck is one named check.
type doctorCheck struct {
	name  string
	needs []string // checks that must not have failed
	// reaches says that the registry cannot be used if the check fails.
	reaches bool
	// local says that the check asks nothing of the registry, so that it is made even if no time is left.
	local bool
	run   func(context.Context) finding
}

// run makes all checks. The error is one of usage: no registry is named.
func (d *doctor) run(ctx context.Context) error {
	url, from, err := d.a.registryURL()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, d.f.timeout)
	defer cancel()
	progress := d.a.newProgress()
	defer progress.end()

	first := d.checkURL(limited, url, from)
	first.Check, first.code = "url", exitUsage
	d.findings = append(d.findings, first)
	if first.Result == outcomeFailed {
		return nil
	}
	defer d.target.close()
	for _, c := range d.checks() {
		progress.say("checking %s", c.name)
		within := limited
		if c.local {
			within = ctx
		}
		f := d.make(ctx, within, c)
		f.Check, f.code = c.name, exitNothing
		if c.reaches {
			f.code = exitUnreachable
		}
		d.findings = append(d.findings, f)
	}
	return nil
}

// make makes one check, unless a check that it needs has failed, or ctx has ended.
func (d *doctor) make(interrupted, ctx context.Context, c doctorCheck) finding {
	for _, need := range c.needs {
		if cause := d.blockedBy[need]; cause != "" {
			d.blockedBy[c.name] = cause
			f := skipped("not checked, because %s failed", cause)
			f.blocked = cause
			return f
		}
	}
	var f finding
	if ctx.Err() == nil {
		f = c.run(ctx)
	}
	switch {
	case interrupted.Err() != nil:
		d.cut = cutInterrupted
		if f.Result == outcomeFailed && !f.left {
			f = finding{}
		}
	case ctx.Err() != nil:
		d.cut = fmt.Sprintf("not finished within %v", d.f.timeout)
		if f.Result == outcomeFailed && c.name != "write" {
			f = failed(adviseTimeout, "no answer in the time that was left")
		}
	}
	switch {
	case f.Result == "":
		f = skipped("not checked, because %s", d.cutReason())
		f.blocked = d.cut
	case f.Result == outcomeFailed:
		d.blockedBy[c.name] = c.name
	}
	return f
}

const cutInterrupted = "interrupted"

// cutReason says why the remaining checks are not made.
func (d *doctor) cutReason() string {
	if d.cut == cutInterrupted {
		return "doctor was interrupted"
	}
	return fmt.Sprintf("%v are over", d.f.timeout)
}

// checks returns the checks of the backend and of this host, in order.
func (d *doctor) checks() []doctorCheck {
	t := d.target
	var all []doctorCheck
	if len(t.addresses) > 0 {
		all = append(all,
			doctorCheck{name: "proxy", run: d.checkProxy},
			doctorCheck{name: "name", reaches: true, run: d.checkName},
			doctorCheck{name: "tcp", needs: []string{"name"}, reaches: true, run: d.checkTCP},
			doctorCheck{name: "tls", needs: []string{"tcp"}, reaches: true, run: d.checkTLS})
	}
	needed := "url"
	switch {
	case t.agents != nil:
		needed = "credentials"
		all = append(all,
			doctorCheck{name: "agent", needs: []string{"tls"}, reaches: true, run: d.checkAgent},
			doctorCheck{name: "clock", needs: []string{"agent"}, run: d.checkClock},
			doctorCheck{name: "leader", needs: []string{"agent"}, reaches: true, run: d.checkLeader},
			doctorCheck{name: "credentials", needs: []string{"leader"}, reaches: true, run: d.checkACL},
			doctorCheck{name: "filtering", needs: []string{"credentials"}, run: d.checkFiltering},
			doctorCheck{name: "connections", needs: []string{"agent"}, run: d.checkConnections},
			doctorCheck{name: "streaming", needs: []string{"agent"}, run: d.checkStreaming})
	case t.members != nil:
		needed = "credentials"
		all = append(all,
			doctorCheck{name: "members", needs: []string{"tls"}, reaches: true, run: d.checkMembers},
			doctorCheck{name: "learners", needs: []string{"members"}, run: d.checkLearners},
			doctorCheck{name: "credentials", needs: []string{"members"}, reaches: true, run: d.checkEtcdUser},
			doctorCheck{name: "alarms", needs: []string{"members"}, run: d.checkAlarms},
			doctorCheck{name: "size", needs: []string{"members"}, run: d.checkSize},
			doctorCheck{name: "clock", needs: []string{"members"}, run: d.checkEtcdClock})
	}
	return append(all,
		doctorCheck{name: "write", needs: []string{needed}, reaches: true, run: d.checkWrite},
		doctorCheck{name: "address", local: true, run: d.checkAddress},
		doctorCheck{name: "files", local: true, run: d.checkOpenFiles},
		doctorCheck{name: "cache", local: true, run: d.checkCache})
}

// verdict returns the error of the command: nil if nothing failed. If several checks failed, the highest exit
// code counts.
func (d *doctor) verdict() error {
	var names []string
	code := exitFound
	for _, f := range d.findings {
		if f.Result == outcomeFailed {
			names = append(names, f.Check)
			code = max(code, f.code)
		}
	}
	text := ""
	if len(names) > 0 {
		text = "failed: " + strings.Join(names, ", ")
	}
	switch {
	case d.cut != "" && text != "":
		text += "; " + d.cut
	case d.cut != "":
		code, text = exitNothing, d.cut
	}
	if text == "" {
		return nil
	}
	return &exitError{code, "doctor: " + text}
}
