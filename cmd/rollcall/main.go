// Command rollcall looks into a service registry and into running processes, waits for services, registers any program, feeds
// Prometheus, and finds out what is wrong.
//
//	rollcall -r consul://127.0.0.1:8500 services
//	rollcall instances greeter --all
//	rollcall watch greeter
//	rollcall wait greeter --passing 2 --timeout 60s
//	rollcall register --service greeter --address :8080 --check http:/healthz -- ./server
//	rollcall sd --listen :9301
//	rollcall inspect http://127.0.0.1:6060/debug/rollcall/
//	rollcall doctor
//	rollcall config put greeter greeter.json
//
// The registry is named by -r or by the environment variable ROLLCALL_REGISTRY, with a URL as package consul or etcd reads it. A
// token or password is best left out of the URL: Consul's comes from CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE, for example.
//
// Exit codes:
//
//	0      success
//	1      there is an answer, and it is not good enough: no instance passes, or fewer pass than was asked for
//	2      the command line, the URL or a service config is wrong
//	3      there is no answer: the registry, or the status page of inspect, cannot be reached or refuses
//	4      the fault is on this host: the output cannot be written, or sd cannot listen
//	126    the program after -- cannot be run
//	127    the program after -- is not found
//	128+n  signal n interrupted the command: 130 for Ctrl-C
//
// rollcall register exits with the code of the program that it ran, or 128+n if signal n ended that program. watch, sd and config watch
// exit with 0 after a signal, because a signal is their usual end. The help of doctor and of inspect explains their codes.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// registryVariable names the registry if -r does not.
const registryVariable = "ROLLCALL_REGISTRY"

var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}

func main() {
	if mustReap() {
		os.Exit(reapAround(os.Args))
	}
	ctx, stop := signalContext()
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs the command line args and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	a := &app{stdout: out, stderr: stderr}
	root := a.command()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	err = afterSignal(ctx, c, err)
	if out.err != nil {
		err = out.err
	}
	if err != nil && err.Error() != "" {
		a.report("%s", strings.Replace(trimPrefix(err), "\n\nDid you mean this?\n\t", "; did you mean ", 1))
	}
	return exitCode(err)
}

// app is one run of the program.
type app struct {
	stdout, stderr io.Writer

	url     string // of the registry
	verbose bool
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "rollcall",
		Short: "Look into a service registry, wait for services, register any program",
		Long: `rollcall looks into a service registry and into running processes, waits for
services, registers any program, feeds Prometheus, and finds out what is wrong.

The registry is named by -r or by the environment variable ` + registryVariable + `,
such as consul://127.0.0.1:8500 or etcd://127.0.0.1:2379/prefix.

Exit codes:
  0      success; watch, sd and config watch: a signal stopped them
  1      there is an answer, and it is not good enough: no instance passes, or
         fewer pass than was asked for
  2      the command line, the URL or a service config is wrong
  3      there is no answer: the registry cannot be reached or refuses
  4      the fault is on this host: the output cannot be written, for example
  126    the program after -- cannot be run
  127    the program after -- is not found
  128+n  signal n interrupted the command: 130 for Ctrl-C
register exits with the code of the program that it ran; doctor and inspect
explain their codes in their help.`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(c *cobra.Command, _ []string) {
			level := slog.LevelError + 1 // what matters is in the errors
			if _, ok := c.Annotations[logsWarnings]; ok {
				level = slog.LevelWarn
			}
			if a.verbose {
				level = slog.LevelInfo
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level})))
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.PersistentFlags().StringVarP(&a.url, "registry", "r", "", "`URL` of the registry (default: $"+registryVariable+")")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log to standard error what happens in between")
	root.AddCommand(a.servicesCommand(), a.instancesCommand(), a.watchCommand(), a.waitCommand(), a.registerCommand(), a.sdCommand(), a.inspectCommand(),
		a.doctorCommand(), a.configCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			refuseUnknown(c, func(args []string) bool {
				found, _, err := root.Find(args)
				return err == nil && found != nil && (len(args) == 0 || found != root)
			})
		case "completion":
			refuseUnknown(c, func(args []string) bool { return len(args) == 0 })
		}
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", columns)))
	return root
}

// version returns the version of the module that the program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// registryURL returns the URL of the registry, and what names it.
func (a *app) registryURL() (url, from string, err error) {
	url, from = a.url, "-r"
	if url == "" {
		url, from = os.Getenv(registryVariable), "the environment variable "+registryVariable
	}
	if url == "" {
		err = usage("no registry: set -r or the environment variable %s, for example to consul://127.0.0.1:8500", registryVariable)
	}
	return url, from, err
}

// open opens the registry that -r or the environment names. The caller closes it.
func (a *app) open(ctx context.Context) (*registry.Registry, error) {
	return a.openAs(ctx, unchanged)
}

// openAs is open with the URL that as returns for the one of the user.
func (a *app) openAs(ctx context.Context, as func(url string) string) (*registry.Registry, error) {
	url, from, err := a.registryURL()
	if err != nil {
		return nil, err
	}
	reg, err := openers.Open(ctx, as(url))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, trimmed{err})
	}
	return reg, nil
}

func unchanged(url string) string { return url }

// report writes a line to standard error.
func (a *app) report(format string, args ...any) {
	fmt.Fprintln(a.stderr, "rollcall:", printable(fmt.Sprintf(format, args...)))
}
