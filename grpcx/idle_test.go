package grpcx_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// A channel closes its resolver after 30 minutes without a call, and the watch ends soon after. What the Registry remembers of it may name
// an address that another service has by now.
func TestNewClient_IdleChannelDoesNotDialWhatItRemembers(t *testing.T) {
	inANetwork(t, func(n *network) {
		store := memory.New()
		defer store.Close()
		client := store.Client()
		defer client.Close()
		register := func(address string) registry.Registration {
			g, err := store.Register(n.Context(), registry.Instance{Service: "backend", ID: address, Address: address + ":1"})
			if err != nil {
				n.Fatal(err)
			}
			n.listen(address + ":1")
			return g
		}
		old := register("old")
		conn, err := grpcx.NewClient("rollcall:///backend", client, grpc.WithContextDialer(n.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			n.Fatal(err)
		}
		defer conn.Close()
		call := func() {
			n.Helper()
			if _, err := testpb.NewTestServiceClient(conn).EmptyCall(n.Context(), new(testpb.Empty)); err != nil {
				n.Error(err)
			}
		}
		call()
		time.Sleep(time.Hour)
		if err := old.Deregister(n.Context()); err != nil {
			n.Fatal(err)
		}
		register("new")
		before := n.dialled("old:1") // another service listens there now
		call()
		time.Sleep(time.Minute)
		if n.dialled("old:1") != before {
			n.Error("the address from an hour ago was dialled")
		}
		if n.dialled("new:1") == 0 {
			n.Error("the new address was not dialled")
		}
	})
}
