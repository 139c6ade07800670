package httpx

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/load"
	"github.com/rollcall-go/rollcall/internal/schedule"
)

// The names of the policies.
const (
	policyRoundRobin = "round_robin"
	policyWeighted   = "weighted"
	policyZone       = "zone"
	policyP2C        = "p2c"
)

func knownPolicy(name string) bool {
	return slices.Contains([]string{policyRoundRobin, policyWeighted, policyZone, policyP2C}, name)
}

// picker picks nodes. It does not change.
type picker struct {
	err        error // why there is no node
	nodes      []*node
	ejected    []*node // left out, since they could not be dialled
	order      order
	restricted bool // some nodes must not be dialled
}

// order picks one of the nodes of a picker. loser is the node that p2c has compared it with, or nil.
type order interface {
	pick() (n, loser *node)
}

// newPicker returns a picker over the allowed nodes. Nodes that cannot be dialled are left out, as long as the panic threshold allows.
// Locked.
func (s *service) newPicker(allowed []*node) *picker {
	p := &picker{nodes: allowed}
	if len(allowed) == 0 {
		return p
	}
	if slices.ContainsFunc(allowed, func(n *node) bool { return n.isEjected.Load() }) {
		p.nodes = s.eject(p, allowed)
	}
	p.nodes = weighted(p.nodes)
	switch s.core.policy {
	case policyWeighted:
		p.order = &byWeight{group: newGroup(p.nodes), turn: &s.turn}
	case policyZone:
		p.order = s.byZone(p.nodes, len(p.ejected))
	case policyP2C:
		p.order = &p2c{nodes: p.nodes, decay: s.core.decay}
	default:
		p.order = &roundRobin{nodes: p.nodes, turn: &s.turn}
	}
	return p
}

// weighted returns the nodes without those whose weight is 0, if others remain. If restrictions let such a node through, it stays, since it
// is the last resort. Locked.
func weighted(nodes []*node) []*node {
	rest := slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n.weight() == 0 && n.restriction == choose.None })
	if len(rest) == 0 {
		return nodes
	}
	return rest
}

// eject returns the nodes without the ejected ones, which it puts into p. At least one node, and a share of PanicThreshold, stays. Locked.
func (s *service) eject(p *picker, allowed []*node) []*node {
	least := max(int(math.Ceil(s.rules.PanicThreshold*float64(len(allowed)))), 1)
	rest := make([]*node, 0, len(allowed))
	left := len(allowed)
	for _, n := range allowed {
		if n.isEjected.Load() && left > least {
			p.ejected = append(p.ejected, n)
			left--
			continue
		}
		rest = append(rest, n)
	}
	return rest
}

// pick returns a node that is not in tried, or nil if there is none.
func (p *picker) pick(tried []*node, now time.Duration) (n, loser *node) {
	for _, n := range p.ejected {
		if !slices.Contains(tried, n) && n.probe(now) {
			return n, nil
		}
	}
	if p.order == nil {
		return nil, nil
	}
	n, loser = p.order.pick()
	if len(tried) == 0 || !slices.Contains(tried, n) {
		return n, loser
	}
	for range p.nodes {
		if n, loser = p.order.pick(); !slices.Contains(tried, n) {
			return n, loser
		}
	}
	for _, some := range [][]*node{p.nodes, p.ejected} {
		for _, n := range some {
			if !slices.Contains(tried, n) {
				return n, nil
			}
		}
	}
	return nil, nil
}

func (n *node) weight() int { return schedule.Clamp(n.instance.Load().Weight) }

type roundRobin struct {
	nodes []*node
	turn  *atomic.Uint32
}

func (r *roundRobin) pick() (n, loser *node) {
	return r.nodes[r.turn.Add(1)%uint32(len(r.nodes))], nil
}

// group has nodes that get requests by their weights.
type group struct {
	schedule *schedule.Schedule
	nodes    []*node
}

func newGroup(nodes []*node) group {
	if len(nodes) == 0 {
		return group{}
	}
	weights := make([]int, len(nodes))
	for i, n := range nodes {
		weights[i] = n.weight()
	}
	return group{schedule: schedule.New(weights), nodes: nodes}
}

func (g group) at(turn uint32) *node { return g.nodes[g.schedule.At(turn)] }

type byWeight struct {
	group group
	turn  *atomic.Uint32
}

func (w *byWeight) pick() (n, loser *node) { return w.group.at(w.turn.Add(1)), nil }

type byZone struct {
	own, other group
	split      schedule.Split
	turn       *atomic.Uint32
}

// byZone returns the order of the policy zone, as package grpcx/zone explains it. A node is reachable unless it is left out. Locked.
func (s *service) byZone(nodes []*node, ejected int) order {
	owns := func(zone string) bool { return s.core.zone != "" && zone == s.core.zone }
	others := func(zone string) bool { return !owns(zone) }
	var ownNodes, otherNodes []*node
	for _, n := range nodes {
		if owns(n.instance.Load().Zone) {
			ownNodes = append(ownNodes, n)
		} else {
			otherNodes = append(otherNodes, n)
		}
	}
	ownReady, otherReady := reachable(ownNodes, s.nodes, owns, ejected), reachable(otherNodes, s.nodes, others, ejected)
	zones := s.state.Used().Zones
	share := choose.OwnShare(ownReady*zones.Share(owns), otherReady*zones.Share(others), s.core.zoneThreshold)
	if math.IsNaN(share) {
		share = float64(len(ownNodes)) / float64(len(nodes))
	}
	switch {
	case share >= 1 || len(otherNodes) == 0:
		return &byWeight{group: newGroup(ownNodes), turn: &s.turn}
	case share <= 0 || len(ownNodes) == 0:
		return &byWeight{group: newGroup(otherNodes), turn: &s.turn}
	}
	return &byZone{own: newGroup(ownNodes), other: newGroup(otherNodes), split: schedule.NewSplit(share), turn: &s.turn}
}

// reachable returns the share of the nodes in some zones that can be used. Drained nodes do not count.
func reachable(usable, all []*node, in func(zone string) bool, ejected int) float64 {
	if len(usable) == 0 {
		return 0
	}
	if ejected == 0 {
		return 1
	}
	total := 0
	for _, n := range all {
		if n.restriction != choose.Drained && in(n.instance.Load().Zone) {
			total++
		}
	}
	return float64(len(usable)) / float64(max(total, len(usable)))
}

func (z *byZone) pick() (n, loser *node) {
	own, turn := z.split.At(z.turn.Add(1))
	if own {
		return z.own.at(turn), nil
	}
	return z.other.at(turn), nil
}

// p2c compares two random nodes, as package grpcx/p2c explains it.
type p2c struct {
	nodes []*node
	decay time.Duration
}

func (p *p2c) pick() (n, loser *node) {
	count := len(p.nodes)
	if count == 1 {
		return p.nodes[0], p.nodes[0]
	}
	i, j := rand.IntN(count), rand.IntN(count-1)
	if j >= i {
		j++ // any but i
	}
	n, loser = p.nodes[i], p.nodes[j]
	if loser.Before(&n.Node) {
		n, loser = loser, n
	}
	loser.Concede(&n.Node, load.Clock(), p.decay)
	return n, loser
}
