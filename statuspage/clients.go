package statuspage

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/registry"
)

// clientsView has the clients of one registry.
type clientsView struct {
	Anchor string
	Now    time.Time
	Total  int
	All    []clientView
	More   int // clients that are not shown
}

type clientView struct {
	Anchor   string
	State    state
	Client   clientstate.State
	Protocol string
	Name     string // of the registry, if the page does not have it
}

// elsewhere is the index of a registry that is not on the page.
const elsewhere = -1

// clients returns the state of each client of the process, with the metadata hidden unless it is to be shown.
func (h *handler) clients() []clientstate.State {
	all := clientstate.All()
	if !h.config.ShowMetadata {
		for i := range all {
			all[i].Target = withoutMetadata(all[i].Target)
		}
	}
	return all
}

// withoutMetadata hides the values of the parameters meta.KEY of a target.
func withoutMetadata(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}
	parameters := strings.Split(query, "&")
	for i, p := range parameters {
		key, _, _ := strings.Cut(p, "=")
		if plain, err := url.QueryUnescape(key); err != nil || strings.HasPrefix(plain, "meta.") {
			parameters[i] = key + "=(hidden)"
		}
	}
	return path + "?" + strings.Join(parameters, "&")
}

// clientsByRegistry returns the clients by the index of their registry.
func (h *handler) clientsByRegistry() map[int][]clientstate.State {
	by := map[int][]clientstate.State{}
	for _, c := range h.clients() {
		i := h.registryOf(c)
		by[i] = append(by[i], c)
	}
	return by
}

// registryOf returns the index of the registry that c finds its endpoints in. A Discovery around a Registry, such as a counter of
// calls, is known by its name only.
func (h *handler) registryOf(c clientstate.State) int {
	return slices.IndexFunc(h.registries, func(o *observed) bool {
		if r, ok := c.Discovery.(*registry.Registry); ok {
			return o.registry == r
		}
		return c.Registry != "" && o.registry.String() == c.Registry
	})
}

// clientsView returns the view of the clients of registry i, the worst first.
func (h *handler) clientsView(i int, all []clientstate.State, now time.Time, found *findings) clientsView {
	v := clientsView{Anchor: h.anchor(i, "clients"), Now: now, Total: len(all)}
	for n, c := range all {
		p := clientView{Anchor: h.anchor(i, "client", c.Service, c.Target, fmt.Sprint(n)), State: clientStateOf(c), Client: c,
			Protocol: map[clientstate.Kind]string{clientstate.GRPC: "gRPC", clientstate.HTTP: "HTTP"}[c.Kind]}
		summary := p.State
		if i == elsewhere {
			p.Name = c.Registry
		} else if c.Condition() == clientstate.Stale {
			summary.Level = neutral // the summary says it of the watch
		}
		found.add("client", c.Service, summary, p.Anchor)
		v.All = append(v.All, p)
	}
	slices.SortStableFunc(v.All, func(a, b clientView) int { return b.State.Level.severity() - a.State.Level.severity() })
	v.More = max(0, len(v.All)-maxRows)
	v.All = v.All[:len(v.All)-v.More]
	return v
}

func clientStateOf(c clientstate.State) state {
	st := state{Level: good, Word: string(c.Condition()), Since: c.Since}
	switch c.Condition() {
	case clientstate.Waiting:
		st.Level, st.Why = neutral, "The first answer of the registry has not come yet."
	case clientstate.Failing:
		st.Level, st.Why = bad, "Calls fail: "+c.Error
	case clientstate.Panicking:
		st.Level, st.Why = warn, "The panic threshold is active: too few instances pass, so calls go to the others too."
		if c.Error != "" {
			st.Why += " The endpoints may be out of date: " + c.Error
		}
	case clientstate.Stale:
		st.Level, st.Why = warn, "The last good endpoints are in use: "+c.Error
	}
	return st
}
