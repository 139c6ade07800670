package consul

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// filter is the expression that makes Consul leave out what q does not select and what own, the caller's expression, does not:
// what is left out is not sent, and what changes in it wakes nobody who reads from a stream. Tags are not in it, since a read
// has parameters for those.
//
// It lets pass whatever it cannot judge, as package registry selects again: entries that others wrote, whose version and
// metadata may stand anywhere, and those of ours that have an overflow, in which no expression can look.
func filter(own string, q registry.Query) string {
	var all []string
	if own != "" {
		all = append(all, "("+own+")")
	}
	unknown := fmt.Sprintf("%s not in Service.Meta or %s in Service.Meta", quote(metaOwner), quote(metaMore+"0"))
	if q.Version != "" {
		// The tag is how kratos writes it.
		all = append(all, fmt.Sprintf("(Service.Meta[%s] == %s or %s in Service.Tags or %s)",
			quote(metaVersion), quote(q.Version), quote(metaVersion+"="+q.Version), unknown))
	}
	for _, k := range slices.Sorted(maps.Keys(q.Metadata)) {
		if v := q.Metadata[k]; plainPair(k, v) {
			all = append(all, fmt.Sprintf("(Service.Meta[%s] == %s or %s)", quote(k), quote(v), unknown))
		}
	}
	return strings.Join(all, " and ")
}

// quote returns text as a literal of an expression. Consul looks for the end of one without regard to escapes, and then
// unquotes it as Go does, so a quotation mark in it needs an escape that has none itself.
func quote(text string) string {
	q := strconv.Quote(text)
	return `"` + strings.ReplaceAll(q[1:len(q)-1], `\"`, `\x22`) + `"`
}
