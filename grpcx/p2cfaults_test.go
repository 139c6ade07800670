package grpcx_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/registry"
)

// An instance that fails at once does not count as fast.
func TestP2C_AvoidsServerThatFailsAtOnce(t *testing.T) {
	for _, c := range []struct {
		instances int
		code      codes.Code
	}{{2, codes.Internal}, {3, codes.Internal}, {5, codes.Internal}, {2, codes.ResourceExhausted}, {2, codes.Unimplemented}} {
		t.Run(fmt.Sprint(c.instances, c.code), func(t *testing.T) {
			inANetwork(t, func(n *network) {
				failing := n.listen(addressIn(0))
				failing.handle = func(context.Context) error { return status.Error(c.code, "it fails at once") }
				set := []*registry.Instance{at(failing, registry.Passing)}
				for i := range c.instances - 1 {
					s := n.listen(addressIn(i + 1))
					s.handle = func(context.Context) error {
						time.Sleep(50 * time.Millisecond) // of the bubble
						return nil
					}
					set = append(set, at(s, registry.Passing))
				}
				conn := n.client(target + "?policy=" + p2c.Name)
				n.says(nil, set...)
				for failing.calls.Load() == 0 { // until it is known to fail
					n.call(conn, 1)
				}
				failing.calls.Store(0)
				const calls = 1200
				var made atomic.Int64
				var callers sync.WaitGroup
				for range 30 {
					callers.Go(func() {
						for made.Add(1) <= calls {
							testpb.NewTestServiceClient(conn).EmptyCall(context.Background(), new(testpb.Empty))
						}
					})
				}
				callers.Wait()
				failed := failing.calls.Load()
				t.Logf("the failing instance gets %d of %d calls", failed, calls)
				if failed >= calls/int64(c.instances) {
					t.Errorf("the failing instance gets %d of %d calls among %d instances", failed, calls, c.instances)
				}
			})
		})
	}
}
