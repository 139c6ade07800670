package etcd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// A format that can express everything passes the whole suite.
func TestConformance_Kratos(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	operator := etcdtest.Operator(t, server)
	calls, full, lost := new(meter), new(fullDisk), new(lostAnswers)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return openWith(t, Config{Endpoints: []string{way.addr()}, Format: FormatKratos}, calls.option(), full.option())
		},
		NewDriver: func(t *testing.T) registry.Driver {
			return driverFor(t, Config{Endpoints: []string{way.addr()}, Format: FormatKratos}, calls.option(), full.option(), lost.option())
		},
		KeepOnClose: func(t *testing.T) *registry.Registry {
			o := registry.Options{KeepOnClose: true}
			return openWith(t, Config{Endpoints: []string{way.addr()}, Format: FormatKratos, Options: o}, calls.option(), full.option())
		},
		RefuseWrites: full.refuse,
		LoseAnswers:  lost.begin,
		WriteUnreadable: func(t *testing.T, service, id string) (remove func()) {
			return putUnreadable(t, operator, "/microservices/"+service+"/"+id)
		},
		Lose: func(t *testing.T, in registry.Instance) {
			deleted, err := operator.Delete(watchtest.Context(t), "/microservices/"+in.Service+"/"+in.ID)
			if err != nil || deleted.Deleted != 1 {
				t.Fatalf("there is no %s/%s to lose: %v", in.Service, in.ID, err)
			}
		},
		Break: func(*testing.T) func() {
			way.cut()
			return way.heal
		},
		Calls:       func(*testing.T) int { return int(calls.sent.Load()) },
		Complete:    true,
		Values:      true,
		NoLeakCheck: true, // TestMain looks for goroutines that are left
	})
}

// writableFormats are the formats of other frameworks that can be written, each with a value as the framework writes it.
var writableFormats = map[string]string{
	FormatNaming: `{"Op":0,"Addr":"10.0.0.2:80","Metadata":"theirs"}`,
	FormatKratos: `{"id":"2","name":"s","version":"","metadata":null,"endpoints":["grpc://10.0.0.2:80"]}`,
	FormatGoZero: `10.0.0.2:80`,
}

// Entries of Rollcall and of the framework make one set. Other entries do no harm.
func TestFormats_InstancesOfTwoFrameworks(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	for format, theirs := range writableFormats {
		t.Run(format, func(t *testing.T) {
			r := connect(t, Config{Endpoints: []string{server.Addr()}, Format: format, Prefix: "/" + format + "/"})
			key := "/" + format + "/s/"
			put := func(key, value string) {
				t.Helper()
				if _, err := operator.Put(watchtest.Context(t), key, value); err != nil {
					t.Fatal(err)
				}
			}
			put(key+"junk", "\x00")
			put(key+"2", theirs)
			put("/"+format+"/s-admin/1", theirs) // kratos would read it as an instance of s
			in := registry.Instance{ID: "1", Service: "s", Address: "10.0.0.1:80"}
			g := watchtest.Register(t, r, in)
			w := watchtest.Watch(t, r, registry.Query{Service: "s"})
			w.Until("both", func(p watchtest.Pair) bool {
				return watchtest.Healthy(2)(p) && p.Find("1").Address == "10.0.0.1:80" && p.Find("2").Address == "10.0.0.2:80"
			})
			watchtest.Update(t, g, func(in *registry.Instance) { in.Address = "10.0.0.1:81" })
			w.Until("the new address", func(p watchtest.Pair) bool { return watchtest.Healthy(2)(p) && p.Find("1").Address == "10.0.0.1:81" })
			// An update that the format cannot express is refused, and the old content stays registered.
			in = g.Instance()
			in.Status = registry.Maintenance
			if err := g.Update(watchtest.Context(t), in); format != FormatKratos && !errors.Is(err, registry.ErrUnsupported) ||
				format == FormatKratos && err != nil {
				t.Errorf("an update that takes it out of traffic: %v", err)
			}
			if err := g.Err(); err != nil {
				t.Errorf("Err is %v", err)
			}
			watchtest.Update(t, g, func(in *registry.Instance) { in.Status, in.Address = registry.Passing, "10.0.0.1:82" })
			w.Until("an update after that", func(p watchtest.Pair) bool { return watchtest.Healthy(2)(p) && p.Find("1").Address == "10.0.0.1:82" })
			lost, err := operator.Delete(watchtest.Context(t), key+"1")
			if err != nil || lost.Deleted != 1 {
				t.Fatalf("there is nothing to lose: %v", err)
			}
			// The repair may be too fast for a watcher to see the loss.
			watchtest.Eventually(t, "it is registered again", func() bool {
				got, err := operator.Get(watchtest.Context(t), key+"1")
				return err == nil && len(got.Kvs) == 1 && got.Kvs[0].CreateRevision > lost.Header.Revision
			})
			w.Until("both again", watchtest.Healthy(2))
			put(key+"2", "junk")
			w.Until("theirs is unreadable", watchtest.Healthy(1))
			put(key+"2", theirs)
			w.Until("it is again", watchtest.Healthy(2))
			if err := g.Deregister(watchtest.Context(t)); err != nil {
				t.Fatal(err)
			}
			w.Until("theirs alone", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Find("2") != nil })
		})
	}
}

// Without a prefix, services share the root with everything else in etcd.
func TestServices_WithoutAPrefix(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	put := func(key, value string) {
		t.Helper()
		if _, err := operator.Put(watchtest.Context(t), key, value); err != nil {
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
	names, err := d.Services(watchtest.Context(t))
	if want := []string{"mixed", "user.rpc", "zz"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the services are %q, %v, want %q", names, err, want)
	}
	// It skips the rest of a service that it knows, and of a name that is no service: three pages of config instead of ten of everything.
	if n := calls.sent.Load() / 2; n > 7 {
		t.Errorf("%d reads", n)
	}
}

func TestProperties_NameHasTheFormat(t *testing.T) {
	for name, want := range map[string]string{
		"": "etcd h:2379 /rollcall/", FormatRollcall: "etcd h:2379 /rollcall/", FormatNaming: "etcd h:2379 naming",
		FormatKratos: "etcd h:2379 /microservices/ kratos", FormatGoZero: "etcd h:2379 gozero",
		FormatGoMicro: "etcd h:2379 /micro/registry/ gomicro",
	} {
		r, err := Open(t.Context(), configtest.ParseURL(t, "etcd://h/?format="+name))
		if err != nil || r.String() != want {
			t.Errorf("format %q is %q, %v", name, r, err)
			continue
		}
		r.Close()
	}
	r, err := New(Config{Endpoints: []string{"h"}, Format: FormatKratos, Prefix: "/team"})
	if err != nil || r.String() != "etcd h:2379 /team/ kratos" {
		t.Errorf("with a prefix it is %q, %v", r, err)
	}
	r.Close()
	_, err = New(Config{Format: "kitex"})
	configtest.WantRefusal(t, err, append(slices.Collect(maps.Keys(format.ByName)), "Format", `"kitex"`)...)
}
