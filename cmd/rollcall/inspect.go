package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/registry"
)

func (a *app) inspectCommand() *cobra.Command {
	var out format
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "inspect URL",
		Short: "Show what a running process has registered and watches",
		Long: `inspect reads the status page of a running process, which package statuspage
serves at a URL such as http://127.0.0.1:6060/debug/rollcall/. Without a path,
that path is asked for.

It shows the registrations, the watches and the clients (gRPC channels and HTTP
transports), and why one of them is not as it should be. FOR is how long it has
been so.

Exit codes: 0 all is well, or calls go on in spite of what is wrong; 1 a
registration is not registered, a watch has no instance that passes, or a client
has no endpoint; 2 the command line is wrong; 3 the page cannot be read.`,
		Args: oneArgument("URL"),
		RunE: func(c *cobra.Command, args []string) error {
			u, shown, err := parsePageURL(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			progress := a.newProgress()
			progress.say("reading %s", shown)
			body, page, err := readPage(ctx, u, shown)
			progress.end()
			if err != nil {
				return err
			}
			if out == formatJSON {
				_, err = a.stdout.Write(body)
			} else {
				err = page.write(a.stdout, out == formatWide, hasColour(a.stdout))
			}
			return cmp.Or(err, page.verdict())
		},
	}
	formatFlag(c, &out, formatTable, formatWide, formatJSON)
	timeoutFlag(c, &timeout, defaultTimeout, "how long to wait for the page")
	return c
}

// verdict returns an error that says how much of the page makes calls fail, or nil.
func (p *statusPage) verdict() error {
	var registrations, lost, watches, failing, clients, without int
	for _, r := range p.Registries {
		registrations += len(r.Registrations)
		watches += len(r.Watches)
		for _, g := range r.Registrations {
			if g.Error != "" {
				lost++
			}
		}
		for i := range r.Watches {
			if r.Watches[i].fails() {
				failing++
			}
		}
	}
	for _, c := range p.Clients {
		clients++
		if c.Condition() == clientstate.Failing {
			without++
		}
	}
	var wrong []string
	for _, part := range []struct {
		n, all int
		noun   string
	}{{lost, registrations, "registrations"}, {failing, watches, "watches"}, {without, clients, "clients"}} {
		if part.n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d of %d %s", part.n, part.all, part.noun))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return nothing("failing: %s", strings.Join(wrong, ", "))
}

// write writes the page as tables.
func (p *statusPage) write(w io.Writer, wide, colour bool) error {
	var b bytes.Buffer
	now := time.Now()
	for i, r := range p.Registries {
		if i > 0 {
			b.WriteByte('\n')
		}
		now = r.Time
		fmt.Fprintln(&b, cell(r.Registry))
		r.registrations(wide).write(&b, colour)
		r.watches(wide).write(&b, colour)
	}
	p.clients(now, wide).write(&b, colour)
	_, err := w.Write(b.Bytes())
	return err
}

// notedTable is a table whose rows can have a note below them.
type notedTable struct {
	empty string // what is written if there is no row
	head  []string
	rows  []notedRow
}

type notedRow struct {
	cells  []string
	colour string // of the second cell
	note   string
}

// write writes t after an empty line. Rows in red come first, then rows in yellow, as on the page.
func (t *notedTable) write(b *bytes.Buffer, colour bool) {
	if len(t.rows) == 0 {
		if t.empty != "" {
			fmt.Fprintf(b, "\n%s\n", t.empty)
		}
		return
	}
	slices.SortStableFunc(t.rows, func(x, y notedRow) int { return severity(y.colour) - severity(x.colour) })
	var aligned bytes.Buffer
	w := newTable(&aligned)
	for _, r := range append([]notedRow{{cells: t.head, colour: plain}}, t.rows...) {
		r.cells[1] = coloured(colour, r.colour, r.cells[1])
		fmt.Fprintln(w, strings.Join(r.cells, "\t"))
	}
	_ = w.Flush() // a buffer takes everything
	b.WriteByte('\n')
	i := -1 // the head
	for line := range strings.Lines(aligned.String()) {
		b.WriteString(line)
		if i >= 0 && t.rows[i].note != "" {
			writeNote(b, t.rows[i].note)
		}
		i++
	}
}

func severity(colour string) int { return slices.Index([]string{yellow, red}, colour) }

// writeNote writes text in lines of at most 80 characters, if its words allow that.
func writeNote(b *bytes.Buffer, text string) {
	line := noteIndent
	for word := range strings.FieldsSeq(cell(text)) {
		if line != noteIndent && len([]rune(line))+1+len([]rune(word)) > columns {
			fmt.Fprintln(b, line)
			line = noteIndent
		}
		if line != noteIndent {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(b, line)
}

const noteIndent = "    "

func (r *pageRegistry) registrations(wide bool) *notedTable {
	t := &notedTable{empty: "nothing is registered here", head: []string{"REGISTRATION", "STATE", "FOR", "ADDRESS"}}
	if wide {
		t.head = append(t.head, "VERSION", "ZONE", "LOSSES")
	}
	for _, g := range r.Registrations {
		word, colour := g.state()
		in := g.Instance
		cells := []string{cell(in.Service + "/" + in.ID), word, age(r.Time, g.Since), cell(in.Address)}
		if wide {
			cells = append(cells, cell(in.Version), cell(in.Zone), strconv.FormatUint(g.Losses, 10))
		}
		t.rows = append(t.rows, notedRow{cells, colour, reason(g.Error)})
	}
	return t
}

func (r *pageRegistry) watches(wide bool) *notedTable {
	t := &notedTable{empty: "nothing is watched here", head: []string{"WATCH", "SET", "FOR", "PASSING/ALL", "READERS"}}
	if wide {
		t.head = append(t.head, "READS", "FAILURES", "CHANGES")
	}
	for i := range r.Watches {
		w := &r.Watches[i]
		word, colour := w.state()
		cells := []string{cell(describeQuery(w.Query)), word, age(r.Time, w.since()), fmt.Sprintf("%d/%d", w.passing(), len(w.Instances)),
			strconv.Itoa(w.Readers)}
		if wide {
			for _, n := range []uint64{w.Reads, w.Failures, w.Changes} {
				cells = append(cells, strconv.FormatUint(n, 10))
			}
		}
		t.rows = append(t.rows, notedRow{cells, colour, w.note()})
	}
	return t
}

// note says why readers of w have this set, unless it is what the store says.
func (w *pageWatch) note() string {
	var notes []string
	if w.Error != "" {
		notes = append(notes, reason(w.Error))
	}
	if n := len(w.Unreadable); n > 0 {
		notes = append(notes, fmt.Sprintf("%d unreadable, such as %s: %s", n, w.Unreadable[0].Entry, w.Unreadable[0].Error))
	}
	return strings.Join(notes, "; ")
}

func describeQuery(q registry.Query) string {
	text := q.Service
	if q.Version != "" {
		text += " version=" + q.Version
	}
	for _, tag := range q.Tags {
		text += " tag=" + tag
	}
	if len(q.Metadata) > 0 {
		text += " " + pairs(q.Metadata)
	}
	return text
}

var clientColours = map[clientstate.Condition]string{clientstate.Ready: green, clientstate.Waiting: plain, clientstate.Failing: red,
	clientstate.Panicking: yellow, clientstate.Stale: yellow}

func (p *statusPage) clients(now time.Time, wide bool) *notedTable {
	t := &notedTable{head: []string{"CLIENT", "STATE", "FOR", "ENDPOINTS", "POLICY"}}
	if wide {
		t.head = append(t.head, "REGISTRY", "TARGET")
	}
	for _, c := range p.Clients {
		condition := c.Condition()
		endpoints := strconv.Itoa(c.Endpoints)
		if c.Subset > 0 {
			endpoints += fmt.Sprintf(" (subset %d)", c.Subset)
		}
		cells := []string{cell(c.Service + " " + string(c.Kind)), string(condition), age(now, c.Since), endpoints, cell(c.Policy)}
		if wide {
			cells = append(cells, cell(c.Registry), cell(c.Target))
		}
		t.rows = append(t.rows, notedRow{cells, clientColours[condition], reason(c.Error)})
	}
	return t
}

// reason returns the text of an error without the prefix that every error of the library has.
func reason(text string) string { return strings.TrimPrefix(text, "rollcall: ") }

// age returns the time from t to now with its two largest units, such as 3h4m, or "-" if there is no t.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, now.Sub(t))
	minutes, hours := int(d/time.Minute), int(d/time.Hour)
	switch days := hours / 24; {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours%24)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes%60)
	case minutes > 0:
		return fmt.Sprintf("%dm", minutes)
	}
	return fmt.Sprintf("%ds", int(d/time.Second))
}
