package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

// The exit codes, which docs/command.md explains.
const (
	exitFound       = 0
	exitNothing     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitHost        = 4
	exitNotRunnable = 126 // as in shells, as are the next two
	exitNotFound    = 127
	exitSignal      = 128 // plus the number of the signal
)

// exitError ends the program with a code. Its text, if there is one, goes to standard error.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// nothing is the exitError of a command that found less than was asked for.
func nothing(format string, args ...any) error {
	return &exitError{exitNothing, fmt.Sprintf(format, args...)}
}

// usage is the exitError of a command line that has no meaning.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...)}
}

// cannotRun is the exitError for a command of the user that does not start.
func cannotRun(command string, err error) error {
	code := exitNotRunnable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	return &exitError{code, fmt.Sprintf("cannot run %q: %v", command, innermost(err))}
}

// innermost returns the error that all others wrap, which repeat the names of files.
func innermost(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}

// exitCode returns the code for err. An error that is of no known kind comes from the command line itself.
func exitCode(err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return exitFound
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, registry.ErrInvalid):
		return exitUsage
	case errors.Is(err, registry.ErrUnavailable), errors.Is(err, registry.ErrDenied), errors.Is(err, registry.ErrUnsupported),
		errors.Is(err, registry.ErrReplaced), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return exitUnreachable
	}
	return exitUsage
}

// A command has one of the first two annotations if it ends by a signal in another way than most commands, for which that is an
// interruption.
const (
	untilStopped = "until stopped"     // a signal is the usual end of it
	ofProgram    = "code of a program" // it ends as the program does that it runs
	logsWarnings = "logs warnings"     // it goes on while the registry is away, and nothing else would say why it does not work
)

func annotations(names ...string) map[string]string {
	m := map[string]string{}
	for _, name := range names {
		m[name] = ""
	}
	return m
}

// afterSignal returns the error of a command that returned err, if ctx has ended meanwhile because of a signal.
func afterSignal(ctx context.Context, c *cobra.Command, err error) error {
	code := exitCode(err)
	_, ofProgram := c.Annotations[ofProgram]
	if ctx.Err() == nil || ofProgram || code != exitNothing && code != exitUnreachable {
		return err
	}
	if _, ok := c.Annotations[untilStopped]; ok {
		return nil
	}
	return &exitError{signalCode(ctx), "interrupted"}
}

// signalReceived is the cause of the end of a context that a signal ended.
type signalReceived struct{ os.Signal }

func (s signalReceived) Error() string { return s.String() }

// signalContext returns a context that ends with the first SIGINT or SIGTERM.
func signalContext() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ended by stop
		select {
		case s := <-signals:
			cancel(signalReceived{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// signalCode returns 128+n if signal n has ended ctx. Without a signal, n is the one of SIGINT.
func signalCode(ctx context.Context) int {
	var received signalReceived
	if errors.As(context.Cause(ctx), &received) {
		if n, ok := received.Signal.(syscall.Signal); ok {
			return exitSignal + int(n)
		}
	}
	return exitSignal + int(syscall.SIGINT)
}

// output is standard output, and remembers why it could not be written.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && o.err == nil {
		o.err = &exitError{exitHost, fmt.Sprintf("standard output: %v", err)}
	}
	return n, err
}

// direct returns the writer behind w, for a program that writes to it without this one.
func direct(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.Writer
	}
	return w
}
