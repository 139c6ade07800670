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

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// detour makes one write late: it seems to have failed, and arrives when deliver is called.
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
		return status.Error(codes.Unavailable, "on its way")
	})
}

// A member that hangs reads, when it goes on, writes that were given up and made again elsewhere since.
func TestALateWriteComesToNothing(t *testing.T) {
	server := testbed.StartEtcd(t)
	operator := operatorOf(t, server)
	for name, test := range map[string]func(*lateTrial){
		"of Update, after the next":     testLateUpdate,
		"of Update, before the next":    testUpdateAfterALateOne,
		"of Update, after another keep": testLateUpdateAfterAnAnnouncement,
		"of Announce, after the next":   testLateAnnouncement,
	} {
		t.Run(name, func(t *testing.T) {
			o := &lateTrial{leaseTrial: leaseTrial{T: t, operator: operator}}
			o.driver = driverFor(t, Config{Endpoints: []string{server.Addr()}}, o.detour.option())
			t.Cleanup(func() { o.driver.Close() })
			service := "late-" + strings.ReplaceAll(name[3:], " ", "-")
			o.instance = registry.Instance{ID: "a", Service: strings.ReplaceAll(service, ",", ""), Address: "10.0.0.1:80", Version: "0"}
			o.key = o.driver.keyOf(o.instance.Service, "a")
			test(o)
		})
	}
}

type lateTrial struct {
	leaseTrial
	detour detour
}

func (t *lateTrial) version(v int) *registry.Instance {
	in := t.instance
	in.Version = fmt.Sprint(v)
	return &in
}

// late makes a write of which the caller learns that it failed.
func (t *lateTrial) late(write func() error) {
	t.Helper()
	t.detour.armed.Store(true)
	wantKind(t, write(), registry.ErrUnavailable)
}

// holds checks what etcd has, before and after the late write arrives.
func (t *lateTrial) holds(l registry.Lease, version int) {
	t.Helper()
	t.wantEntryOf(l.(*lease))
	want := fmt.Sprintf(`"version":"%d"`, version)
	if e := t.entry(); e == nil || !strings.Contains(e.value, want) {
		t.Errorf("etcd has %+v, want %s", e, want)
	}
}

func testLateUpdate(t *lateTrial) {
	l := t.announce()
	t.late(func() error { return l.Update(t.ctx(), t.version(1)) })
	t.must(l.Update(t.ctx(), t.version(2)))
	t.must(t.detour.deliver(t.ctx()))
	t.holds(l, 2)
}

func testUpdateAfterALateOne(t *lateTrial) {
	l := t.announce()
	t.late(func() error { return l.Update(t.ctx(), t.version(1)) })
	t.must(t.detour.deliver(t.ctx()))
	t.holds(l, 1)
	t.must(l.Update(t.ctx(), t.version(2)))
	t.holds(l, 2)
}

// The content is what it was before, so that nothing would have to be written, were no write on its way.
func testLateUpdateAfterAnAnnouncement(t *lateTrial) {
	l := t.announce()
	end := t.keep(l)
	t.late(func() error { return l.Update(t.ctx(), t.version(1)) })
	t.driver.left.add(t.key, l.leftover(true))
	again, err := t.driver.Announce(t.ctx(), t.version(0))
	t.must(err)
	t.must(t.detour.deliver(t.ctx()))
	t.holds(again, 0)
	t.endsWith(end, registry.ErrReplaced, patience)
}

func testLateAnnouncement(t *lateTrial) {
	t.late(func() error { _, err := t.driver.Announce(t.ctx(), t.version(1)); return err })
	l, err := t.driver.Announce(t.ctx(), t.version(2))
	t.must(err)
	// Its lease was revoked, which stops it too; so it is the write of one that could not be.
	_ = t.detour.deliver(t.ctx())
	t.holds(l, 2)

	// The same where the lease still stands when it arrives.
	lost, err := t.driver.grant(t.ctx(), t.key)
	t.must(err)
	t.late(func() error { return lost.put(t.ctx(), []byte(`{"version":"3"}`)) })
	l, err = t.driver.Announce(t.ctx(), t.version(4))
	t.must(err)
	t.must(t.detour.deliver(t.ctx()))
	t.holds(l, 4)
	t.must(t.driver.revoke(t.ctx(), t.key, lost.id))
	t.holds(l, 4)
}
