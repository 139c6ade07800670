package etcd

import (
	"context"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestDriver_Conforms(t *testing.T) {
	t.Parallel()
	conforms(t, testbed.StartEtcd(t))
}

func TestConformance_Cluster(t *testing.T) {
	t.Parallel()
	conforms(t, testbed.StartEtcdCluster(t).Members...)
}

// conforms runs the suite on the members of one etcd. Calls go to all of them in turn.
func conforms(t *testing.T, members ...*testbed.Etcd) {
	var ways []*network
	var endpoints []string
	for _, m := range members {
		way := newNetwork(t, m.Addr())
		ways, endpoints = append(ways, way), append(endpoints, way.addr())
	}
	operator := etcdtest.Operator(t, members[0])
	calls, full, lost := new(meter), new(fullDisk), new(lostAnswers)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return openWith(t, Config{Endpoints: endpoints}, calls.option(), full.option())
		},
		NewDriver: func(t *testing.T) registry.Driver {
			return driverFor(t, Config{Endpoints: endpoints}, calls.option(), full.option(), lost.option())
		},
		KeepOnClose: func(t *testing.T) *registry.Registry {
			o := registry.Options{KeepOnClose: true}
			return openWith(t, Config{Endpoints: endpoints, Options: o}, calls.option(), full.option())
		},
		RefuseWrites: full.refuse,
		LoseAnswers:  lost.begin,
		WriteUnreadable: func(t *testing.T, service, id string) (remove func()) {
			return putUnreadable(t, operator, DefaultPrefix+service+"/"+id)
		},
		Lose: func(t *testing.T, in registry.Instance) {
			deleted, err := operator.Delete(watchtest.Context(t), DefaultPrefix+in.Service+"/"+in.ID)
			if err != nil || deleted.Deleted != 1 {
				t.Fatalf("there is no %s/%s to lose: %v", in.Service, in.ID, err)
			}
		},
		Break: func(*testing.T) func() {
			for _, way := range ways {
				way.cut()
			}
			return func() {
				for _, way := range ways {
					way.heal()
				}
			}
		},
		Calls:       func(*testing.T) int { return int(calls.sent.Load()) },
		Complete:    true,
		Values:      true,
		NoLeakCheck: true, // TestMain looks for goroutines that are left
	})
}

// lostAnswers simulates a connection that breaks after etcd was asked to put a key, and before its answer.
type lostAnswers struct{ on atomic.Bool }

func (l *lostAnswers) begin(*testing.T) (heal func()) {
	l.on.Store(true)
	return func() { l.on.Store(false) }
}

func (l *lostAnswers) option() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := call(ctx, method, req, reply, cc, opts...)
		if err == nil && l.on.Load() && puts(req) {
			return status.Error(codes.Unavailable, "the answer is lost")
		}
		return err
	})
}

// putUnreadable puts a key whose value is no instance.
func putUnreadable(t *testing.T, operator *clientv3.Client, key string) (remove func()) {
	t.Helper()
	if _, err := operator.Put(watchtest.Context(t), key, "no instance"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := operator.Delete(context.Background(), key); err != nil {
			t.Error(err)
		}
	}
}
