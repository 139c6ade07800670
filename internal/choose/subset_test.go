package choose

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

func fleet(n int) []*registry.Instance {
	set := make([]*registry.Instance, n)
	for i := range set {
		set[i] = &registry.Instance{ID: fmt.Sprintf("greeter-10.0.%d.%d-8080", i/250, i%250)}
	}
	return set
}

func TestSubset_MovesOneConnectionPerChange(t *testing.T) {
	all := fleet(100)
	for c := range 50 {
		client := fmt.Sprint("client-", c)
		before := subset(all, 10, client)
		if len(before) != 10 || !slices.IsSortedFunc(before, func(a, b *registry.Instance) int { return slices.Index(all, a) - slices.Index(all, b) }) {
			t.Fatalf("%s uses %v", client, before)
		}
		for gone := range all {
			after := subset(slices.Delete(slices.Clone(all), gone, gone+1), 10, client)
			moved := 0
			for _, in := range before {
				if !slices.Contains(after, in) {
					moved++
				}
			}
			if used := slices.Contains(before, all[gone]); len(after) != 10 || moved > 1 || used != (moved == 1) {
				t.Fatalf("%s moved %d connections when one instance went, which it used: %v", client, moved, used)
			}
		}
	}
}

func TestSubset_ReturnsSmallSet(t *testing.T) {
	for n := range 4 {
		if set := fleet(n); !slices.Equal(subset(set, 3, "c"), set) || !slices.Equal(subset(set, 0, "c"), set) {
			t.Errorf("of %d instances not all are used", n)
		}
	}
}

// The ranks of an instance are a die for each client, so what it gets follows the binomial distribution: of 1,000 clients
// that use 20 of 200 each, 100 on the average, with a standard deviation of 9.5.
func TestSubset_SpreadsClientsEvenly(t *testing.T) {
	const clients, instances, size = 1000, 200, 20
	all := fleet(instances)
	load := map[*registry.Instance]int{}
	for c := range clients {
		for _, in := range subset(all, size, fmt.Sprint("host-", c)) {
			load[in]++
		}
	}
	least, most, squares := clients, 0, 0.0
	const mean = clients * size / instances
	for _, in := range all {
		n := load[in]
		least, most = min(least, n), max(most, n)
		squares += float64((n - mean) * (n - mean))
	}
	variance := squares / instances
	t.Logf("clients of one instance: %d to %d, variance %.0f about %d", least, most, variance, mean)
	// Four standard deviations of the mean, and of the variance itself, which is 90 ± 9.
	if least < mean-40 || most > mean+40 || variance < 54 || variance > 126 {
		t.Errorf("the load is uneven: %d to %d with variance %.0f about %d", least, most, variance, mean)
	}
}

// Another rank would move the connections of every client that is brought up to date. It is the beginning of what
//
//	printf 'client\0greeter-10.0.0.1-8080' | sha256sum
//
// prints.
func TestRank_NeverChanges(t *testing.T) {
	if got := rank("client", "greeter-10.0.0.1-8080"); got != 0xba7fec03a65c7917 {
		t.Errorf("the rank is %#x", got)
	}
}
