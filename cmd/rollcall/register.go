package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// registerFlags are the flags of `rollcall register`.
type registerFlags struct {
	in              registry.Instance
	meta, endpoints []string

	check                                 string
	interval                              time.Duration
	startTimeout, drainDelay, stopTimeout time.Duration
}

// deregisterTimeout bounds how long the end of the program waits for the registry.
const deregisterTimeout = 5 * time.Second

func (a *app) registerCommand() *cobra.Command {
	var f registerFlags
	c := &cobra.Command{
		Use:   "register --service NAME --address HOST:PORT [flags] -- COMMAND [ARG...]",
		Short: "Run a program and keep it registered while it answers",
		Long: `register starts COMMAND, waits until its check passes, registers it, and keeps it
registered. A wildcard host in --address, such as ":8080", is replaced by the host
in ROLLCALL_HOST or POD_IP, or else by the local address used to reach the
registry. While the registry is away the program runs on, and is registered when
the registry is back.

On SIGTERM or SIGINT register deregisters first, waits --drain-delay for clients
to notice, and only then sends SIGTERM to the program, and SIGKILL after
--stop-timeout. A second signal skips the delay. If the program ends by itself, it
is deregistered at once. The check is made every --interval: two failures in a row
make the instance critical, and one success makes it passing again.

Checks: tcp (the port of --address accepts connections) or http:/PATH (GET answers
2xx).

The program runs in a process group of its own, so that Ctrl-C does not reach it
before it is deregistered. Signals go to the whole group: to COMMAND and to what
it has started. SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on as they come.
The program cannot read the terminal: if the standard input of register is a
terminal, its own is empty.

The exit code is the one of COMMAND, or 128+n if signal n ended it. It is 126 or
127 if COMMAND cannot be run or found, 1 if the first check does not pass within
--start-timeout, and 3 if the registry refuses. As the first process of a
container, register also reaps orphaned processes.`,
		Annotations: annotations(ofProgram, logsWarnings),
		Args: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 0 || len(args) == 0 {
				return errors.New("a command is needed after --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.register(c.Context(), f, args) },
	}
	flags := c.Flags()
	flags.StringVar(&f.in.Service, "service", "", "`NAME` of the service (required)")
	flags.StringVar(&f.in.Address, "address", "", "`HOST:PORT` that clients dial (required)")
	flags.StringVar(&f.in.ID, "id", "", "`ID` of the instance (default SERVICE-HOST-PORT)")
	flags.StringVar(&f.in.Version, "version", "", "`VERSION` of the instance")
	flags.StringVar(&f.in.Zone, "zone", "", "`ZONE` of the instance")
	flags.StringSliceVar(&f.in.Tags, "tag", nil, "`TAG` of the instance; may be repeated")
	flags.IntVar(&f.in.Weight, "weight", 1, "share of calls, relative to the other instances; -1: none while others can serve")
	flags.StringArrayVar(&f.meta, "meta", nil, "`KEY=VALUE` of the instance's metadata; may be repeated")
	flags.StringArrayVar(&f.endpoints, "endpoint", nil, "`NAME=HOST:PORT` of a further listener; may be repeated")
	flags.StringVar(&f.check, "check", "tcp", "`CHECK` that the program answers: tcp or http:/PATH")
	durationFlag(c, &f.interval, "interval", 5*time.Second, "time between two checks")
	durationFlag(c, &f.startTimeout, "start-timeout", time.Minute, "how long the first check may fail")
	pauseFlag(c, &f.drainDelay, "drain-delay", 3*time.Second, "time between deregistering and the signal to the program")
	pauseFlag(c, &f.stopTimeout, "stop-timeout", 10*time.Second, "time between that signal and SIGKILL")
	_ = c.MarkFlagRequired("service")
	_ = c.MarkFlagRequired("address")
	return c
}

// instance returns the instance that the flags describe.
func (f *registerFlags) instance() (in registry.Instance, err error) {
	in = f.in
	if in.Metadata, err = keyValues("--meta", f.meta); err != nil {
		return in, err
	}
	if in.Endpoints, err = keyValues("--endpoint", f.endpoints); err != nil {
		return in, err
	}
	return in, in.Validate()
}

// register runs command until it ends or ctx does.
func (a *app) register(ctx context.Context, f registerFlags, command []string) error {
	in, err := f.instance()
	if err != nil {
		return err
	}
	check, err := newCheck(f.check, in.Address, f.interval)
	if err != nil {
		return err
	}
	reg, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer reg.Close()
	again := make(chan os.Signal, 2)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	p, err := startProgram(command, direct(a.stdout), a.stderr)
	if err != nil {
		return cannotRun(command[0], err)
	}
	defer p.passSignalsOn()()
	a.step("started %s, waiting for its check: %s", command[0], check)
	s := &supervisor{a: a, f: f, in: in, name: command[0], check: check, reg: reg, program: p, again: again}
	return s.run(ctx)
}

// supervisor keeps one program registered while it answers.
type supervisor struct {
	a       *app
	f       registerFlags
	in      registry.Instance
	name    string // of the command
	check   check
	reg     *registry.Registry
	program *program
	again   <-chan os.Signal // further signals
}

// run returns when the program has ended, with its exit code.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ended by cancel or by the program, which run waits for
		select {
		case <-s.program.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := s.awaitCheck(ctx); err != nil {
		_ = s.stop()
		return err
	}
	if ctx.Err() != nil {
		return s.stopUnregistered()
	}
	s.a.step("registering %s in %s", s.in.Service, s.reg)
	registration, err := s.reg.Register(ctx, s.in)
	if err != nil && ctx.Err() != nil {
		return s.stopUnregistered()
	}
	if err != nil {
		_ = s.stop() // the error of the registry matters more than the code of a program that was stopped because of it
		return err
	}
	in := registration.Instance()
	s.a.step("registered %s/%s at %s", in.Service, in.ID, in.Address)
	s.keepStatus(ctx, registration)
	return s.leave(registration)
}

// stopUnregistered is stop for a program that was never registered, and says so if it has ended by itself.
func (s *supervisor) stopUnregistered() error {
	if s.program.hasEnded() {
		s.a.report("%s ended with code %d before it was registered", s.name, s.program.code())
	}
	return s.stop()
}

// awaitCheck blocks until the check passes or ctx ends.
func (s *supervisor) awaitCheck(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.f.startTimeout)
	defer cancel()
	reminder := time.NewTicker(reminderInterval)
	defer reminder.Stop()
	began := time.Now()
	for {
		err := s.check.run(limited)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		select {
		case <-reminder.C:
			s.a.step("still waiting: %v", err)
		default:
		}
		if !sleep.For(limited, startPause(time.Since(began))) {
			if ctx.Err() != nil {
				return nil
			}
			return nothing("%s does not pass its check within %v: %v", s.in.Service, s.f.startTimeout, err)
		}
	}
}

// startPause returns the time until the next check of a program that started that long ago. A program that starts quickly is
// registered quickly, and a slow program does not get many checks that it cannot answer.
func startPause(since time.Duration) time.Duration {
	if since < time.Second {
		return 100 * time.Millisecond
	}
	return min(since/2, time.Second)
}

// reminderInterval is the time between two lines that say that the program has not passed its check yet.
const reminderInterval = 5 * time.Second

// keepStatus makes the check until ctx ends, and has the registration say how it ends.
func (s *supervisor) keepStatus(ctx context.Context, registration registry.Registration) {
	failed := 0
	status := registry.Passing
	for sleep.For(ctx, s.f.interval) {
		err := s.check.run(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failed = 0
		default:
			failed++
		}
		next := status
		if failed >= failuresBeforeCritical {
			next = registry.Critical
		} else if failed == 0 {
			next = registry.Passing
		}
		if next == status {
			continue
		}
		if next == registry.Critical {
			s.a.report("%s is critical: %v", s.in.Service, err)
		} else {
			s.a.report("%s passes again", s.in.Service)
		}
		status = next
		in := registration.Instance()
		in.Status = status
		// The registration goes on with an update that the registry does not take in time.
		limited, cancel := context.WithTimeout(ctx, s.f.interval)
		if err := registration.Update(limited, in); err != nil && ctx.Err() == nil {
			s.a.report("%s", trimPrefix(err))
		}
		cancel()
	}
}

// failuresBeforeCritical is how many checks in a row must fail: one can be an accident.
const failuresBeforeCritical = 2

// leave deregisters, gives clients the time to notice, and stops the program.
func (s *supervisor) leave(registration registry.Registration) error {
	ctx, cancel := context.WithTimeout(context.Background(), deregisterTimeout)
	defer cancel()
	drain(s.again) // the signal that began this
	s.a.step("deregistering")
	if err := registration.Deregister(ctx); err != nil {
		s.a.report("%s", trimPrefix(err))
	}
	if !s.program.hasEnded() {
		s.a.step("waiting %v for clients to notice; another signal ends this", s.f.drainDelay)
	}
	timer := time.NewTimer(s.f.drainDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.again:
	case <-s.program.ended:
	}
	return s.stop()
}

func drain(signals <-chan os.Signal) {
	select {
	case <-signals:
	default:
	}
}

// stop ends the program, unless it has ended, and returns its exit code.
func (s *supervisor) stop() error {
	if !s.program.hasEnded() {
		s.a.step("sending SIGTERM to the program, SIGKILL follows after %v", s.f.stopTimeout)
	}
	s.program.terminate()
	timer := time.NewTimer(s.f.stopTimeout)
	defer timer.Stop()
	select {
	case <-s.program.ended:
	case <-timer.C:
		s.a.report("the program did not end within %v, killing it", s.f.stopTimeout)
		s.program.kill()
		<-s.program.ended
	}
	s.a.step("the program has ended with code %d", s.program.code())
	if code := s.program.code(); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// program is a process that runs beside this one.
type program struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
}

func startProgram(command []string, stdout, stderr io.Writer) (*program, error) {
	cmd := exec.Command(command[0], command[1:]...)
	if !isDevice(os.Stdin) { // a read of it would stop a program of another group than the one in the foreground
		cmd.Stdin = os.Stdin
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &program{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has it
		close(p.ended)
	}()
	return p, nil
}

// passSignalsOn has the program get what this process gets of [passedOn], until the function is called that it returns.
func (p *program) passSignalsOn() (stop func()) {
	signals := make(chan os.Signal, 16)
	for _, s := range passedOn {
		if !signal.Ignored(s) { // as nohup has it
			signal.Notify(signals, s)
		}
	}
	var work sync.WaitGroup
	work.Go(func() {
		for s := range signals {
			p.signal(s)
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		work.Wait()
	}
}

func (p *program) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// code returns the exit code of a program that has ended.
func (p *program) code() int { return codeOf(p.cmd.ProcessState) }
