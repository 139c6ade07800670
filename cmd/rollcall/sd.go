package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

func (a *app) sdCommand() *cobra.Command {
	var listen, file string
	t := newTargets()
	c := &cobra.Command{
		Use:   "sd [--listen HOST:PORT] [--file FILE]",
		Short: "List the instances for Prometheus",
		Long: `sd serves the instances of all services, or of each --service, in the form that
Prometheus reads by http_sd_configs (--listen) or file_sd_configs (--file, ending
in .json, .yml or .yaml), until it is interrupted.

While a service is not known yet, the answer is 503 and the file is not written,
so that Prometheus keeps the targets that it has. While the registry is away, the
last good set stays.

Labels: __meta_rollcall_service, _id, _status, _version, _zone, _weight, _tags
(",a,b,"), _metadata_NAME, _endpoint_NAME.`,
		Annotations: annotations(untilStopped, logsWarnings),
		Args:        noArgument,
		RunE: func(c *cobra.Command, _ []string) error {
			if listen == "" && file == "" {
				return usage("one of --listen and --file is needed")
			}
			if _, _, err := net.SplitHostPort(listen); listen != "" && err != nil {
				return usage("--listen: %q does not have the form HOST:PORT", listen)
			}
			if !slices.Contains(fileExtensions, filepath.Ext(file)) && file != "" {
				return usage("--file: %q ends in none of %s, which are the files that Prometheus reads", file, strings.Join(fileExtensions, ", "))
			}
			reg, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer reg.Close()
			return a.sd(c.Context(), reg, t, listen, file)
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "`HOST:PORT` to serve HTTP on")
	c.Flags().StringVar(&file, "file", "", "`FILE` to write")
	c.Flags().StringSliceVar(&t.chosen, "service", nil, "`NAME` of a service; may be repeated (default: all)")
	c.Flags().StringVar(&t.endpoint, "endpoint", "", "`NAME` of the endpoint to scrape, for instances that have it")
	durationFlag(c, &t.refresh, "refresh", 30*time.Second, "time between two looks for new services")
	_ = c.RegisterFlagCompletionFunc("service", func(c *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return a.completeServices(c, nil, toComplete)
	})
	return c
}

// sd serves and writes t until ctx ends.
func (a *app) sd(ctx context.Context, reg *registry.Registry, t *targets, listen, file string) error {
	for _, name := range t.chosen {
		if err := (registry.Query{Service: name}).Validate(); err != nil {
			return fmt.Errorf("--service: %w", trimmed{err})
		}
	}
	stopped := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	defer work.Wait()
	if listen != "" {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return &exitError{exitHost, fmt.Sprintf("--listen: %v", err)}
		}
		a.report("serving http://%s/", l.Addr())
		s := &http.Server{Handler: t, ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = s.Close() })
		work.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				cancel(err)
			}
		})
	}
	if file != "" {
		work.Go(func() { cancel(t.writeFile(ctx, file)) })
	}
	t.unreadable, t.report = &unreadableReport{a: a, reg: reg}, a.report
	t.answered = a.sayWaiting(ctx, fmt.Sprintf("waiting for %s", reg))
	defer t.answered()
	t.follow(ctx, reg)
	if stopped.Err() != nil {
		return nil
	}
	return &exitError{exitHost, context.Cause(ctx).Error()}
}

// fileExtensions are how the name of a file may end that Prometheus reads. JSON is YAML, too.
var fileExtensions = []string{".json", ".yml", ".yaml"}

// targets are the sets of the services that Prometheus is told of.
type targets struct {
	chosen   []string // empty: all
	endpoint string
	refresh  time.Duration

	unreadable *unreadableReport
	report     func(format string, args ...any)
	answered   func() // ends the message that the registry has not answered yet

	mu      sync.Mutex
	sets    map[string][]*registry.Instance // of each service that is watched; nil while it is not known
	listed  bool                            // the services are known
	changed chan struct{}                   // closed, and replaced, when there is news
}

func newTargets() *targets {
	return &targets{sets: map[string][]*registry.Instance{}, changed: make(chan struct{})}
}

// listRetryInterval bounds the time until the list of services is read again after a failure.
const listRetryInterval = 2 * time.Second

// follow watches the services until ctx ends.
func (t *targets) follow(ctx context.Context, reg *registry.Registry) {
	var watches sync.WaitGroup
	defer watches.Wait()
	stops := map[string]context.CancelFunc{}
	failing := false // of the list; the log has why a watch fails
	for {
		names, err := t.chosen, error(nil)
		if len(names) == 0 {
			names, err = reg.Services(ctx)
		}
		pause := t.refresh
		if err != nil {
			pause = min(pause, listRetryInterval)
		}
		if err != nil || len(names) == 0 {
			t.answered()
		}
		if err != nil && !failing && ctx.Err() == nil {
			t.report("%s", trimPrefix(err))
		}
		failing = err != nil
		if err == nil {
			t.list(names)
			for _, name := range names {
				if stops[name] == nil {
					var own context.Context
					own, stops[name] = context.WithCancel(ctx)
					watches.Go(func() { t.watch(own, reg, name) })
				}
			}
			for name, stop := range stops {
				if !slices.Contains(names, name) {
					stop()
					delete(stops, name)
				}
			}
		}
		if !sleep.For(ctx, pause) {
			for _, stop := range stops {
				stop()
			}
			return
		}
	}
}

// list makes names the services that are watched.
func (t *targets) list(names []string) {
	t.update(func() {
		t.listed = true
		maps.DeleteFunc(t.sets, func(name string, _ []*registry.Instance) bool { return !slices.Contains(names, name) })
		for _, name := range names {
			if _, ok := t.sets[name]; !ok {
				t.sets[name] = nil
			}
		}
	})
}

func (t *targets) watch(ctx context.Context, reg *registry.Registry, name string) {
	for set := range reg.Watch(ctx, registry.Query{Service: name, AnyStatus: true}) {
		t.answered()
		if set == nil {
			continue // nothing is known yet
		}
		t.update(func() {
			if _, ok := t.sets[name]; ok && ctx.Err() == nil {
				t.sets[name] = set
			}
		})
		t.unreadable.update()
	}
}

func (t *targets) update(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
}

// target is one entry of Prometheus' list.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// now returns the list as JSON, or which services are not known yet, and a channel that is closed when that may be different.
func (t *targets) now() (data []byte, unknown []string, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.listed {
		return nil, []string{"the list of services"}, t.changed
	}
	list := []target{}
	for _, name := range slices.Sorted(maps.Keys(t.sets)) {
		if t.sets[name] == nil {
			unknown = append(unknown, name)
		}
		for _, in := range t.sets[name] {
			list = append(list, t.target(in))
		}
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		panic(err) // strings always marshal
	}
	return append(data, '\n'), unknown, t.changed
}

func (t *targets) target(in *registry.Instance) target {
	const meta = "__meta_rollcall_"
	labels := map[string]string{
		meta + "service": in.Service, meta + "id": in.ID, meta + "status": in.Status.String(), meta + "version": in.Version,
		meta + "zone": in.Zone, meta + "weight": weight(in.Weight), meta + "tags": "",
	}
	if len(in.Tags) > 0 {
		labels[meta+"tags"] = "," + strings.Join(in.Tags, ",") + ","
	}
	for k, v := range in.Metadata {
		labels[meta+"metadata_"+labelName(k)] = v
	}
	for k, v := range in.Endpoints {
		labels[meta+"endpoint_"+labelName(k)] = v
	}
	return target{Targets: []string{cmp.Or(in.Endpoints[t.endpoint], in.Address)}, Labels: labels}
}

// labelName returns s with every character replaced by "_" that a label of Prometheus must not have.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

// ServeHTTP implements [http.Handler], as Prometheus' http_sd_configs expects it.
func (t *targets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	data, unknown, _ := t.now()
	if len(unknown) > 0 {
		http.Error(w, "not known yet: "+strings.Join(unknown, ", "), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

// writeFile keeps file up to date until ctx ends or the file cannot be written.
func (t *targets) writeFile(ctx context.Context, file string) error {
	var written []byte
	for {
		data, unknown, changed := t.now()
		if len(unknown) == 0 && !bytes.Equal(data, written) {
			if err := replaceFile(file, data); err != nil {
				return fmt.Errorf("--file: cannot write %q: %w", file, innermost(err))
			}
			written = data
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// replaceFile writes data to file in one step: Prometheus reads either the old content or the new one.
func replaceFile(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".rollcall-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails if it was renamed
	_, err = tmp.Write(data)
	err = oneline.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
