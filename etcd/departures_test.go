package etcd

import (
	"context"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A deregistered instance differs from an instance that expired or that an operator deleted, even if all changes are read at once.
func TestSource_DepartedTellsWhoDeregistered(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	for _, format := range []string{FormatRollcall, FormatNaming, FormatKratos} {
		t.Run(format, func(t *testing.T) {
			d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Format: format})
			t.Cleanup(func() { d.Close() })
			var leases []*lease
			for i := range 4 {
				l, err := d.Register(watchtest.Context(t), &registry.Instance{ID: fmt.Sprint(i), Service: "s", Address: fmt.Sprintf("10.0.0.%d:80", i), Weight: 1}, nil)
				if err != nil {
					t.Fatal(err)
				}
				leases = append(leases, l.(*lease))
			}
			s := d.Watch(registry.Query{Service: "s"})
			t.Cleanup(func() { s.Close() })
			set, err := s.Next(watchtest.Context(t))
			if err != nil || len(set.Instances) != 4 {
				t.Fatalf("got %v, %v", ids(set.Instances), err)
			}
			if len(set.Departed) > 0 {
				t.Errorf("left at the beginning: %v", set.Departed)
			}
			// One leaves, the entry of another is deleted, the lease of a third ends.
			if err := leases[1].Release(watchtest.Context(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := operator.Delete(watchtest.Context(t), leases[2].key); err != nil {
				t.Fatal(err)
			}
			if _, err := operator.Revoke(watchtest.Context(t), clientv3.LeaseID(leases[3].id)); err != nil {
				t.Fatal(err)
			}
			var left []string
			for len(set.Instances) > 1 {
				if set, err = s.Next(watchtest.Context(t)); err != nil {
					t.Fatal(err)
				}
				left = append(left, set.Departed...)
			}
			if !slices.Equal(left, []string{"1"}) {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// If the status cannot be written, the entry is removed all the same.
func TestRelease_StatusIsNotWritten(t *testing.T) {
	f := startScripted(t)
	d := driverFor(t, outlasting(Config{Endpoints: []string{f.addr}})) // so that only leavingTimeout ends the write before the test fails
	t.Cleanup(func() { d.Close() })
	l, err := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	f.mu.Lock()
	f.delay = func(name string) {
		if name == "Txn" {
			<-hang
		}
	}
	f.mu.Unlock()
	t.Cleanup(func() { close(hang) })
	released := make(chan error, 1)
	go func() { released <- l.Release(context.Background()) }() // without a deadline, from which a bound would follow
	if err := watchtest.Receive(t, "the end of Release", released); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.entries) > 0 {
		t.Errorf("etcd still has %v", f.entries)
	}
}

func TestDepartures_Take(t *testing.T) {
	leaving := &registry.Instance{ID: "a", Status: registry.Maintenance}
	passing := &registry.Instance{ID: "a"}
	set := []*registry.Instance{passing}
	gone := etcdtest.Event("a", "")
	gone.Type = 1
	for name, c := range map[string]struct {
		do   func(*departures)
		want int
	}{
		"leaves":                    {func(d *departures) { d.note(etcdtest.Event("a", ""), "a", leaving, set); d.note(gone, "a", nil, set) }, 1},
		"is deleted":                {func(d *departures) { d.note(gone, "a", nil, set) }, 0},
		"stays after all":           {func(d *departures) { d.see("a", leaving); d.see("a", passing); d.note(gone, "a", nil, set) }, 0},
		"was never seen":            {func(d *departures) { d.see("a", leaving); d.note(gone, "a", nil, nil) }, 0},
		"is missing from a list":    {func(d *departures) { d.see("a", leaving); d.listed(nil) }, 1},
		"is in maintenance when up": {func(d *departures) { d.listed([]*registry.Instance{leaving}); d.note(gone, "a", nil, set) }, 1},
		"is in a list, and leaves":  {func(d *departures) { d.see("a", leaving); d.listed(set); d.note(gone, "a", nil, set) }, 0},
	} {
		var d departures
		c.do(&d)
		if len(d.left) != c.want {
			t.Errorf("%s: %v", name, d.left)
		}
	}
}
