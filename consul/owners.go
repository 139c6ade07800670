package consul

import (
	"crypto/rand"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
)

// owners makes the owner tags of one driver.
type owners struct {
	client string
	leases atomic.Uint64
}

func newOwners() *owners { return &owners{client: rand.Text()} }

// next returns the owner tag of another lease, before its first content.
func (o *owners) next() codec.Owner { return codec.Owner{Client: o.client, Lease: o.leases.Add(1)} }
