package main

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// unreadableReport says on standard error how many entries a Registry leaves out because they cannot be read.
type unreadableReport struct {
	a   *app
	reg *registry.Registry

	mu   sync.Mutex
	told int // the number that was said last
}

// update says the number if it has changed. The log, which -v shows, names the entries.
func (r *unreadableReport) update() {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.reg.CountUnreadable()
	if n == r.told {
		return
	}
	r.told = n
	r.a.report("%s", cmp.Or(r.a.unreadableText(n), "every entry can be read again"))
}

// unreadableText says that n entries are left out. It is empty if n is 0.
func (a *app) unreadableText(n int) string {
	text, hint := fmt.Sprintf("%d entries cannot be read and are left out", n), "; -v names them"
	switch {
	case n == 0:
		return ""
	case n == 1:
		text, hint = "1 entry cannot be read and is left out", "; -v names it"
	case n > 10: // as many as the log names at once
		hint = "; -v names the first of them"
	}
	if a.verbose {
		return text
	}
	return text + hint
}

// reportUnreadable says how many entries reg leaves out of what it has been asked for, if there are any.
func (a *app) reportUnreadable(reg *registry.Registry) { (&unreadableReport{a: a, reg: reg}).update() }
