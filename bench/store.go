package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/bench/contender"
	"github.com/rollcall-go/rollcall/internal/testbed"
)

// store is the registry that the contenders follow. The bench writes to it in the same way for all of them: no measurement except the
// rolling restarts includes a contender's own registrations.
type store interface {
	address() string
	pid() int                 // of the server
	registered() (int, error) // the number of entries
	put(contender.Form, ...contender.Instance) error
	remove(contender.Form, ...contender.Instance) error
	kill()
	// restart blocks until the registry is ready, with its data or without.
	restart(keepData bool) error
}

func openStore(tb *bed, backend string) (store, error) {
	switch backend {
	case "consul":
		s := &consulStore{server: testbed.StartConsul(tb)}
		var err error
		s.client, err = api.NewClient(&api.Config{Address: s.server.Addr()})
		return s, err
	default:
		s := &etcdStore{server: testbed.StartEtcd(tb)}
		return s, s.connect()
	}
}

type consulStore struct {
	server *testbed.Consul
	client *api.Client
}

func (s *consulStore) address() string { return s.server.Addr() }
func (s *consulStore) pid() int        { return s.server.PID() }
func (s *consulStore) kill()           { s.server.Kill() }

func (s *consulStore) restart(k bool) error {
	s.server.Restart(k)
	return nil
}

// put registers as services do: with the agent, with a check that passes.
func (s *consulStore) put(_ contender.Form, list ...contender.Instance) error {
	return sideBySide(list, func(in contender.Instance) error {
		host, port := in.HostPort()
		meta := map[string]string{"version": contender.Version, "zone": contender.Zone}
		for k, v := range contender.Metadata {
			meta[k] = v
		}
		return s.client.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: in.Service + ":" + in.ID(), Name: in.Service, Address: host, Port: port, Tags: []string{"grpc"}, Meta: meta,
			Check: &api.AgentServiceCheck{CheckID: "ttl:" + in.Service + ":" + in.ID(), TTL: "1h", Status: api.HealthPassing},
		})
	})
}

func (s *consulStore) remove(_ contender.Form, list ...contender.Instance) error {
	return sideBySide(list, func(in contender.Instance) error {
		return s.client.Agent().ServiceDeregister(in.Service + ":" + in.ID())
	})
}

func (s *consulStore) registered() (int, error) {
	all, err := s.client.Agent().Services()
	return len(all), err
}

// beat passes the checks of the instances, as services do all the time. A restarted agent keeps the status of every check that was
// passed at least once.
func (s *consulStore) beat(list ...contender.Instance) error {
	return sideBySide(list, func(in contender.Instance) error {
		return s.client.Agent().UpdateTTL("ttl:"+in.Service+":"+in.ID(), "", api.HealthPassing)
	})
}

// sideBySide calls f for each instance, eight at a time. It calls f directly if there is only one instance.
func sideBySide(list []contender.Instance, f func(contender.Instance) error) error {
	if len(list) == 1 {
		return f(list[0])
	}
	work := make(chan contender.Instance)
	errs := make(chan error, 8)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			var failed error
			for in := range work {
				if failed == nil {
					failed = f(in)
				}
			}
			errs <- failed
		})
	}
	for _, in := range list {
		work <- in
	}
	close(work)
	workers.Wait()
	for range 8 {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

type etcdStore struct {
	server *testbed.Etcd
	client *clientv3.Client
}

func (s *etcdStore) connect() (err error) {
	s.client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.server.Addr()}, DialTimeout: 10 * time.Second})
	return err
}

func (s *etcdStore) address() string { return s.server.Addr() }
func (s *etcdStore) pid() int        { return s.server.PID() }
func (s *etcdStore) kill()           { s.server.Kill() }

// restart connects again: a client that has failed for a while pauses, and would register instances late.
func (s *etcdStore) restart(k bool) error {
	s.client.Close()
	s.server.Restart(k)
	return s.connect()
}

// put writes keys without a lease: keeping them is not what is measured.
func (s *etcdStore) put(f contender.Form, list ...contender.Instance) error {
	return s.write(list, func(in contender.Instance) clientv3.Op {
		key, value := in.KeyValue(f)
		return clientv3.OpPut(key, value)
	})
}

func (s *etcdStore) remove(f contender.Form, list ...contender.Instance) error {
	return s.write(list, func(in contender.Instance) clientv3.Op {
		key, _ := in.KeyValue(f)
		return clientv3.OpDelete(key)
	})
}

// write makes a revision for each instance, as services do when each writes its own entry.
func (s *etcdStore) write(list []contender.Instance, op func(contender.Instance) clientv3.Op) error {
	return sideBySide(list, func(in contender.Instance) error {
		ctx, end := context.WithTimeout(context.Background(), 30*time.Second)
		defer end()
		if _, err := s.client.Do(ctx, op(in)); err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		return nil
	})
}

func (s *etcdStore) registered() (int, error) {
	ctx, end := context.WithTimeout(context.Background(), time.Second)
	defer end()
	all, err := s.client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return int(all.Count), nil
}

// compact removes the history up to now.
func (s *etcdStore) compact() error {
	ctx, end := context.WithTimeout(context.Background(), 30*time.Second)
	defer end()
	now, err := s.client.Get(ctx, strings.Repeat("x", 8))
	if err != nil {
		return err
	}
	_, err = s.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	return err
}

// population returns n instances of a service. No server listens at their addresses.
func population(service string, n int) []contender.Instance {
	list := make([]contender.Instance, n)
	for i := range list {
		list[i] = instance(service, i)
	}
	return list
}

func instance(service string, i int) contender.Instance {
	return contender.Instance{Number: i, Service: service, Address: fmt.Sprintf("10.%d.%d.%d:9000", i>>16&255, i>>8&255, i&255)}
}
