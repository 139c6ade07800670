package grpcx_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/registry"
)

// witness is a policy that another one is in, and keeps what calls fail with in each of its states.
type witness struct {
	of   string
	mu   sync.Mutex
	errs []string
}

// Name implements [balancer.Builder].
func (w *witness) Name() string { return "witness_of_" + w.of }

// Guarded keeps NewClient from putting another policy around it.
func (w *witness) Guarded() {}

// Build implements [balancer.Builder].
func (w *witness) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return balancer.Get(w.of).Build(witnessed{cc, w}, o)
}

type witnessed struct {
	balancer.ClientConn
	*witness
}

// UpdateState implements [balancer.ClientConn].
func (w witnessed) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.TransientFailure {
		if _, err := s.Picker.Pick(balancer.PickInfo{}); err != nil {
			w.mu.Lock()
			w.errs = append(w.errs, err.Error())
			w.mu.Unlock()
		}
	}
	w.ClientConn.UpdateState(s)
}

// A call may be made in any of the states that a channel goes through, so each of them says why there is no instance.
func TestNewClient_ExplainsEveryStateWithoutInstance(t *testing.T) {
	for name := range ours {
		w := &witness{of: name}
		balancer.Register(w)
		inANetwork(t, func(n *network) {
			s := n.listen(addressIn(0))
			n.client(target + "?policy=" + w.Name())
			n.says(nil, at(s, registry.Passing))
			n.says(nil)
			time.Sleep(31 * time.Second) // after which EmptyGrace is over
			synctest.Wait()
		})
		if len(w.errs) == 0 {
			t.Errorf("%s: no state says that there is no instance", name)
		}
		for _, text := range w.errs {
			if !strings.Contains(text, `service "backend" in a script: no passing instance is registered`) {
				t.Errorf("%s: in one of the states calls fail with %q", name, text)
			}
		}
	}
}
