package codec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// Filter returns the expression by which Consul leaves out what q does not select, and what own, the expression of the user, does not. What is
// left out is not sent, and its changes wake no read of a stream. Tags are not in the expression, since a read has parameters for them.
//
// The expression selects everything that it cannot judge, since package registry selects again: entries that others wrote, whose version and
// metadata may be anywhere, and those with an overflow, into which no expression can look.
func Filter(own string, q registry.Query) string {
	var all []string
	if own != "" {
		all = append(all, "("+own+")")
	}
	unknown := fmt.Sprintf("%s not in Service.Meta or %s in Service.Meta", Quote(MetaOwner), Quote(metaMore+"0"))
	if q.Version != "" {
		// kratos writes it as a tag.
		all = append(all, fmt.Sprintf("(Service.Meta[%s] == %s or %s in Service.Tags or %s)",
			Quote(metaVersion), Quote(q.Version), Quote(metaVersion+"="+q.Version), unknown))
	}
	for _, k := range slices.Sorted(maps.Keys(q.Metadata)) {
		if v := q.Metadata[k]; IsPlainPair(k, v) {
			all = append(all, fmt.Sprintf("(Service.Meta[%s] == %s or %s)", Quote(k), Quote(v), unknown))
		}
	}
	return strings.Join(all, " and ")
}

// Quote returns text as a literal of an expression. Consul looks for the end of a literal without regard to escapes, and then unquotes it as Go
// does. So a quote needs an escape without a quote.
func Quote(text string) string {
	q := strconv.Quote(text)
	return `"` + strings.ReplaceAll(q[1:len(q)-1], `\"`, `\x22`) + `"`
}
