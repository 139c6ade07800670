package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// detour delays one write: it fails for the client, and is carried out when deliver is called.
type detour struct {
	armed   atomic.Bool
	deliver func(context.Context) error
}

func (o *detour) option() grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		txn, ok := request.(*pb.TxnRequest)
		if !ok || len(txn.Success) == 0 || !o.armed.CompareAndSwap(true, false) {
			return invoke(ctx, method, request, answer, conn, opts...)
		}
		o.deliver = func(ctx context.Context) error {
			return invoke(ctx, method, request, new(pb.TxnResponse), conn)
		}
		return status.Error(codes.Unavailable, "delayed")
	})
}

// When a member that hung continues, it carries out writes that were given up and made again elsewhere.
func TestLease_DelayedWriteChangesNothing(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	for name, test := range map[string]func(*delayedTrial){
		"of Update, after the next":   testDelayedUpdate,
		"of Update, before the next":  testUpdateAfterADelayedOne,
		"of Update, after Register":   testDelayedUpdateAfterRegister,
		"of Register, after the next": testDelayedRegister,
	} {
		t.Run(name, func(t *testing.T) {
			o := &delayedTrial{leaseTrial: leaseTrial{T: t, operator: operator}}
			o.driver = driverFor(t, Config{Endpoints: []string{server.Addr()}}, o.detour.option())
			t.Cleanup(func() { o.driver.Close() })
			service := "delayed-" + strings.ReplaceAll(name[3:], " ", "-")
			o.instance = registry.Instance{ID: "a", Service: strings.ReplaceAll(service, ",", ""), Address: "10.0.0.1:80", Version: "0"}
			o.key = o.driver.keyOf(o.instance.Service, "a")
			test(o)
		})
	}
}

type delayedTrial struct {
	leaseTrial
	detour detour
}

func (t *delayedTrial) version(v int) *registry.Instance {
	in := t.instance
	in.Version = fmt.Sprint(v)
	return &in
}

// delay makes a write that fails for the caller.
func (t *delayedTrial) delay(write func() error) {
	t.Helper()
	t.detour.armed.Store(true)
	wantKind(t, write(), registry.ErrUnavailable)
}

// wantVersion checks the entry in etcd.
func (t *delayedTrial) wantVersion(l registry.Lease, version int) {
	t.Helper()
	t.wantEntryOf(l.(*lease))
	want := fmt.Sprintf(`"version":"%d"`, version)
	if e := t.entry(); e == nil || !strings.Contains(e.value, want) {
		t.Errorf("etcd has %+v, want %s", e, want)
	}
}

func testDelayedUpdate(t *delayedTrial) {
	l := t.register()
	t.delay(func() error { return l.Update(t.ctx(), t.version(1)) })
	t.must(l.Update(t.ctx(), t.version(2)))
	t.must(t.detour.deliver(t.ctx()))
	t.wantVersion(l, 2)
}

func testUpdateAfterADelayedOne(t *delayedTrial) {
	l := t.register()
	t.delay(func() error { return l.Update(t.ctx(), t.version(1)) })
	t.must(t.detour.deliver(t.ctx()))
	t.wantVersion(l, 1)
	t.must(l.Update(t.ctx(), t.version(2)))
	t.wantVersion(l, 2)
}

// The content is the same as before, so without the delayed write nothing would have to be written.
func testDelayedUpdateAfterRegister(t *delayedTrial) {
	l := t.register()
	t.delay(func() error { return l.Update(t.ctx(), t.version(1)) })
	t.giveUp(l)
	again, err := t.driver.Register(t.ctx(), t.version(0), l)
	t.must(err)
	t.must(t.detour.deliver(t.ctx()))
	t.wantVersion(again, 0)
}

func testDelayedRegister(t *delayedTrial) {
	var failed registry.Lease
	t.delay(func() (err error) { failed, err = t.driver.Register(t.ctx(), t.version(1), nil); return err })
	l, err := t.driver.Register(t.ctx(), t.version(2), failed)
	t.must(err)
	t.must(t.detour.deliver(t.ctx()))
	t.wantVersion(l, 2)

	// The same for an attempt of another registration.
	other := t.granted()
	t.delay(func() error { return other.put(t.ctx(), []byte(`{"version":"3"}`)) })
	l, err = t.driver.Register(t.ctx(), t.version(4), nil)
	t.must(err)
	t.must(t.detour.deliver(t.ctx()))
	t.wantVersion(l, 4)
	t.must(t.driver.revoke(t.ctx(), t.key, other.id))
	t.wantVersion(l, 4)
}
