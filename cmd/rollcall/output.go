package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/registry"
)

// format is a form in which instances are written.
type format string

const (
	formatTable format = "table" // aligned columns that fit 80 characters
	formatWide  format = "wide"  // all fields
	formatJSON  format = "json"  // one array
	formatJSONL format = "jsonl" // one object on each line
	formatAddr  format = "addr"  // one host:port on each line
)

var formats = []format{formatTable, formatWide, formatJSON, formatJSONL, formatAddr}

// formatFlag adds -o to c.
func formatFlag(c *cobra.Command, f *format, allowed ...format) {
	*f = allowed[0]
	names := make([]string, len(allowed))
	for i, one := range allowed {
		names[i] = string(one)
	}
	c.Flags().VarP(&formatValue{f, allowed}, "output", "o", "form of the output: "+strings.Join(names, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

// formatValue is the [pflag.Value] of -o.
type formatValue struct {
	f       *format
	allowed []format
}

func (v *formatValue) String() string { return string(*v.f) }
func (v *formatValue) Type() string   { return "form" }
func (v *formatValue) Set(s string) error {
	if !slices.Contains(v.allowed, format(s)) {
		return fmt.Errorf("%q is none of %v", s, v.allowed)
	}
	*v.f = format(s)
	return nil
}

// writeInstances writes set to w.
func writeInstances(w io.Writer, set []*registry.Instance, f format, colour bool) error {
	switch f {
	case formatJSON:
		return writeJSON(w, nonNil(set))
	case formatJSONL:
		for _, in := range set {
			if err := json.NewEncoder(w).Encode(in); err != nil {
				return err
			}
		}
		return nil
	case formatAddr:
		for _, in := range set {
			if _, err := fmt.Fprintln(w, in.Address); err != nil {
				return err
			}
		}
		return nil
	}
	return writeTable(w, set, f == formatWide, colour)
}

// writeJSON writes v, indented, for people and for programs.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// nonNil returns set, or an empty slice for nil: JSON has [] for it and not null.
func nonNil(set []*registry.Instance) []*registry.Instance {
	if set == nil {
		return []*registry.Instance{}
	}
	return set
}

func writeTable(w io.Writer, set []*registry.Instance, wide, colour bool) error {
	t := newTable(w)
	row := func(status, statusColour string, cells ...string) {
		fmt.Fprint(t, cells[0], "\t", cells[1], "\t", coloured(colour, statusColour, status))
		for _, c := range cells[2:] {
			fmt.Fprint(t, "\t", c)
		}
		fmt.Fprintln(t)
	}
	head := []string{"ID", "ADDRESS", "VERSION", "ZONE"}
	if wide {
		head = append(head, "WEIGHT", "TAGS", "ENDPOINTS", "METADATA")
	}
	row("STATUS", plain, head...)
	for _, in := range set {
		cells := []string{cell(in.ID), cell(in.Address), cell(in.Version), cell(in.Zone)}
		if wide {
			cells = append(cells, weight(in.Weight), cell(strings.Join(in.Tags, ",")), pairs(in.Endpoints), pairs(in.Metadata))
		}
		row(in.Status.String(), statusColours[in.Status], cells...)
	}
	return t.Flush()
}

func weight(w int) string {
	if w == registry.Drained {
		return "drained"
	}
	return strconv.Itoa(w)
}

// pairs returns m as key=value pairs, sorted by key.
func pairs(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return cell(strings.Join(all, ","))
}
