// Package etcdtest has helpers for the tests of package etcd and its internal packages.
package etcdtest

import (
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// Operator returns etcd's own client, which is closed with the test.
func Operator(t testing.TB, server *testbed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// It is connected from here on, so a test that counts goroutines later does not see a difference.
	if _, err := c.Get(watchtest.Context(t), "x"); err != nil {
		t.Fatal(err)
	}
	return c
}

// AwaitExpiry grants a lease that nothing renews, and blocks until it has expired. By then every other lease with this TTL has expired too, unless
// it was renewed meanwhile.
func AwaitExpiry(t testing.TB, operator *clientv3.Client, ttl time.Duration) {
	t.Helper()
	ctx := watchtest.Context(t)
	lease, err := operator.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	const key = "expires"
	put, err := operator.Put(ctx, key, "", clientv3.WithLease(lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	expired := operator.Watch(ctx, key, clientv3.WithRev(put.Header.Revision+1))
	if answer := watchtest.Receive(t, "the expiry of a lease", expired); answer.Err() != nil || len(answer.Events) != 1 {
		t.Fatalf("while a lease expires, the watch returns %+v", answer)
	}
}

// WantKind checks the kind of an error, and that it wraps no gRPC status.
func WantKind(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
		return
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, ok := e.(interface{ GRPCStatus() *status.Status }); ok {
			t.Errorf("a gRPC status leaks: %v", err)
		}
	}
}

// Header is the header of an answer at a revision.
func Header(revision int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: revision} }

// Event is the event of a write.
func Event(key, value string) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: KeyValue(key, value)}
}

// KeyValue is an entry.
func KeyValue(key, value string) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value)}
}
