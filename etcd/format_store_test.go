package etcd

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// A format that can say everything holds all promises.
func TestConformanceInKratos(t *testing.T) {
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	operator := operatorOf(t, server)
	calls := new(meter)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return openWith(t, Config{Endpoints: []string{way.addr()}, Format: FormatKratos}, calls.option())
		},
		Lose: func(t *testing.T, in registry.Instance) {
			deleted, err := operator.Delete(within(t, patience), "/microservices/"+in.Service+"/"+in.ID)
			if err != nil || deleted.Deleted != 1 {
				t.Fatalf("there is no %s/%s to lose: %v", in.Service, in.ID, err)
			}
		},
		Break: func(*testing.T) func() {
			way.cut()
			return way.heal
		},
		Calls:    func(*testing.T) int { return int(calls.sent.Load()) },
		Complete: true,
	})
}

// announceable are the formats of others that can be written, with the value of an entry by their own writers.
var announceable = map[string]string{
	FormatNaming: `{"Op":0,"Addr":"10.0.0.2:80","Metadata":"theirs"}`,
	FormatKratos: `{"id":"2","name":"s","version":"","metadata":null,"endpoints":["grpc://10.0.0.2:80"]}`,
	FormatGoZero: `10.0.0.2:80`,
}

// Entries of both fleets are one set, through updates, losses and departures, and what is none of them harms nobody.
func TestBothFleets(t *testing.T) {
	server := testbed.StartEtcd(t)
	operator := operatorOf(t, server)
	for format, theirs := range announceable {
		t.Run(format, func(t *testing.T) {
			r := connect(t, Config{Endpoints: []string{server.Addr()}, Format: format, Prefix: "/" + format + "/"})
			key := "/" + format + "/s/"
			put := func(key, value string) {
				t.Helper()
				if _, err := operator.Put(within(t, patience), key, value); err != nil {
					t.Fatal(err)
				}
			}
			put(key+"junk", "\x00")
			put(key+"2", theirs)
			put("/"+format+"/s-admin/1", theirs) // kratos would take its events for those of s
			in := registry.Instance{ID: "1", Service: "s", Address: "10.0.0.1:80"}
			g := register(t, r, in)
			w := follow(t, r, registry.Query{Service: "s"})
			w.until("both", func(p pair) bool {
				return healthy(2)(p) && p.find("1").Address == "10.0.0.1:80" && p.find("2").Address == "10.0.0.2:80"
			})
			update(t, g, func(in *registry.Instance) { in.Address = "10.0.0.1:81" })
			w.until("the new address", func(p pair) bool { return healthy(2)(p) && p.find("1").Address == "10.0.0.1:81" })
			// What their clients cannot be told is refused, and what stood goes on standing.
			in = g.Instance()
			in.Status = registry.Maintenance
			if err := g.Update(within(t, patience), in); format != FormatKratos && !errors.Is(err, registry.ErrUnsupported) ||
				format == FormatKratos && err != nil {
				t.Errorf("an update that takes it out of traffic: %v", err)
			}
			if err := g.Err(); err != nil {
				t.Errorf("Err is %v", err)
			}
			update(t, g, func(in *registry.Instance) { in.Status, in.Address = registry.Passing, "10.0.0.1:82" })
			w.until("an update after that", func(p pair) bool { return healthy(2)(p) && p.find("1").Address == "10.0.0.1:82" })
			lost, err := operator.Delete(within(t, patience), key+"1")
			if err != nil || lost.Deleted != 1 {
				t.Fatalf("there is nothing to lose: %v", err)
			}
			// A watcher may never see the loss, so quick is the repair.
			eventually(t, "it is announced again", func() bool {
				got, err := operator.Get(within(t, patience), key+"1")
				return err == nil && len(got.Kvs) == 1 && got.Kvs[0].CreateRevision > lost.Header.Revision
			})
			w.until("both again", healthy(2))
			put(key+"2", "junk")
			w.until("theirs is no instance any more", healthy(1))
			put(key+"2", theirs)
			w.until("it is again", healthy(2))
			if err := g.Deregister(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			w.until("theirs alone", func(p pair) bool { return healthy(1)(p) && p.find("2") != nil })
		})
	}
}

// Without a prefix the services stand beside everything else that etcd holds.
func TestServicesUnderTheRoot(t *testing.T) {
	server := testbed.StartEtcd(t)
	operator := operatorOf(t, server)
	put := func(key, value string) {
		t.Helper()
		if _, err := operator.Put(within(t, patience), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2*valuesPage + 50 { // more than a page of each
		put(fmt.Sprintf("config/%03d", i), "debug=true")
		put(fmt.Sprintf("/registry/pods/%03d", i), "10.0.0.1:80")
		put(fmt.Sprintf("user.rpc/%03d", i), "10.0.0.1:80")
		put(fmt.Sprintf("not a service/%03d", i), "10.0.0.1:80")
	}
	put("\x01", "10.0.0.1:80")
	put("stray", "10.0.0.1:80")
	put("mixed/0", "junk")
	put("mixed/1", "10.0.0.1:80")
	put("zz/7587861231285799684", "10.0.0.1:80")
	put("\xff\xff", "10.0.0.1:80")
	calls := new(meter)
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Format: FormatGoZero}, calls.option())
	defer d.Close()
	names, err := d.Services(within(t, patience))
	if want := []string{"mixed", "user.rpc", "zz"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the services are %q, %v, want %q", names, err, want)
	}
	// Of what is known, or can be no service, it reads no more: three pages of config, and not ten of everything.
	if n := calls.sent.Load() / 2; n > 7 {
		t.Errorf("%d reads", n)
	}
}
