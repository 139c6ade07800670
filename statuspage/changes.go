package statuspage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// maxChanges is how many changes of a registry are kept.
const maxChanges = 50

// observed is a registry with its newest changes.
type observed struct {
	registry *registry.Registry

	mu      sync.Mutex
	changes []change // the oldest first
}

func (o *observed) add(c change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, c)
	if len(o.changes) > maxChanges {
		o.changes = slices.Delete(o.changes, 0, 1)
	}
}

// newest returns the changes, the newest first.
func (o *observed) newest() []change {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := slices.Clone(o.changes)
	slices.Reverse(all)
	return all
}

// change is one event as the page shows it. It has no instances, so that old sets are not kept in memory.
type change struct {
	Level   level
	Time    time.Time
	Subject string // the service, or service/ID
	What    string
	Reason  string
}

func newChange(e registry.Event) change {
	c := change{Time: e.Time, Subject: e.Service}
	if e.ID != "" {
		c.Subject += "/" + e.ID
	}
	if e.Err != nil {
		c.Reason = e.Err.Error()
	}
	c.Level, c.What = describeEvent(e)
	if e.Lost > 0 {
		c.What += fmt.Sprintf(" (%s before this one %s not recorded)", count(e.Lost, "change"), be(e.Lost))
	}
	return c
}

func describeEvent(e registry.Event) (level, string) {
	switch e.Kind {
	case registry.SetChanged:
		return neutral, "set changed: " + differences(e)
	case registry.WatchFailed:
		if errors.Is(e.Err, registry.ErrDenied) {
			return bad, "watch denied"
		}
		return warn, "watch failed"
	case registry.WatchRecovered:
		return good, "watch recovered" + after(e.Took)
	case registry.SetWithheld:
		return warn, "suspect set withheld"
	case registry.Registered:
		return good, "registered"
	case registry.RegistrationLost:
		if errors.Is(e.Err, registry.ErrReplaced) {
			return bad, "registration replaced"
		}
		return bad, "registration lost"
	case registry.Reregistered:
		return good, "registered again" + after(e.Took)
	case registry.Deregistered:
		return neutral, "deregistered"
	}
	return neutral, e.Kind.String()
}

func after(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return " after " + duration(d)
}

// differences says how a set changed, such as "2 added (a, b), 1 removed (c); 5 instances".
func differences(e registry.Event) string {
	var parts []string
	for _, p := range []struct {
		word string
		all  []*registry.Instance
	}{{"added", e.Added}, {"removed", e.Removed}, {"changed", e.Changed}} {
		if len(p.all) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s)", grouped(len(p.all)), p.word, firstIDs(p.all)))
		}
	}
	if len(parts) == 0 {
		return count(e.Instances, "instance") // such as the first set, if it is empty
	}
	return strings.Join(parts, ", ") + "; " + count(e.Instances, "instance")
}

func firstIDs(all []*registry.Instance) string {
	const most = 3
	var ids []string
	for _, in := range all[:min(most, len(all))] {
		ids = append(ids, in.ID)
	}
	if len(all) > most {
		ids = append(ids, "…")
	}
	return strings.Join(ids, ", ")
}
