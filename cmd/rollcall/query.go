package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

// queryFlags are the flags that select instances.
type queryFlags struct {
	tags    []string
	version string
	meta    []string
	all     bool
}

func (q *queryFlags) add(c *cobra.Command) {
	c.Flags().StringSliceVar(&q.tags, "tag", nil, "select instances with this `TAG`; may be repeated, and all must be there")
	c.Flags().StringVar(&q.version, "version", "", "select instances of this `VERSION`")
	c.Flags().StringArrayVar(&q.meta, "meta", nil, "select instances with this `KEY=VALUE` in their metadata; may be repeated")
}

// addAll also adds --all.
func (q *queryFlags) addAll(c *cobra.Command) {
	q.add(c)
	c.Flags().BoolVarP(&q.all, "all", "a", false, "also instances that do not pass")
}

// query returns the query for service.
func (q *queryFlags) query(service string) (registry.Query, error) {
	meta, err := keyValues("--meta", q.meta)
	if err != nil {
		return registry.Query{}, err
	}
	query := registry.Query{Service: service, Tags: q.tags, Version: q.version, Metadata: meta, AnyStatus: q.all}
	return query, query.Validate()
}

// keyValues reads the values of a flag that takes KEY=VALUE.
func keyValues(flag string, values []string) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(values))
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return nil, usage("%s: %q is not KEY=VALUE", flag, v)
		}
		if _, twice := m[key]; twice {
			return nil, usage("%s: %q is given twice", flag, key)
		}
		m[key] = value
	}
	return m, nil
}

// completeServices completes the first argument with the names of the services.
func (a *app) completeServices(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(contextOf(c)), completionTimeout)
	defer cancel()
	reg, err := a.open(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer reg.Close()
	names, err := reg.Services(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func contextOf(c *cobra.Command) context.Context {
	if c.Context() == nil {
		return context.Background()
	}
	return c.Context()
}

// writeLine writes v as JSON on one line.
func writeLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
