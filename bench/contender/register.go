package contender

import (
	"context"
	"time"

	kitetcd "github.com/go-kit/kit/sd/etcdv3"
	"github.com/go-kit/log"
	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/registry"
)

// bareConsulRegistrar writes a TTL check each third of the TTL, and registers the instance again if that fails.
type bareConsulRegistrar struct{ *api.Client }

func registerBareConsul(address string) (Registrar, error) {
	c, err := api.NewClient(&api.Config{Address: address})
	return bareConsulRegistrar{c}, err
}

func (r bareConsulRegistrar) Register(in Instance) error {
	if err := r.put(in); err != nil {
		return err
	}
	go func() {
		for range time.Tick(TTL / 3) {
			for r.Agent().UpdateTTL("ttl:"+in.ID(), "", api.HealthPassing) != nil && r.put(in) != nil {
				time.Sleep(time.Second)
			}
		}
	}()
	return nil
}

func (r bareConsulRegistrar) put(in Instance) error {
	host, port := in.HostPort()
	return r.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: in.ID(), Name: in.Service, Address: host, Port: port, Meta: Metadata,
		Check: &api.AgentServiceCheck{CheckID: "ttl:" + in.ID(), TTL: TTL.String(), Status: api.HealthPassing},
	})
}

// bareEtcdRegistrar has one client, which renews all leases on one stream. An instance whose lease is lost registers again.
type bareEtcdRegistrar struct{ *clientv3.Client }

func registerBareEtcd(address string) (Registrar, error) {
	c, err := openBareEtcd(address)
	if err != nil {
		return nil, err
	}
	return bareEtcdRegistrar{c.(*bareEtcdClient).etcd}, nil
}

func (r bareEtcdRegistrar) Register(in Instance) error {
	alive, err := r.put(in)
	if err != nil {
		return err
	}
	go func() {
		for {
			for range alive { // until the lease is lost
			}
			for alive, err = r.put(in); err != nil; alive, err = r.put(in) {
				time.Sleep(time.Second)
			}
		}
	}()
	return nil
}

func (r bareEtcdRegistrar) put(in Instance) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	ctx, end := context.WithTimeout(context.Background(), 10*time.Second)
	defer end()
	lease, err := r.Grant(ctx, int64(TTL/time.Second))
	if err != nil {
		return nil, err
	}
	key, value := in.KeyValue(Naming)
	if _, err := r.Put(ctx, key, value, clientv3.WithLease(lease.ID)); err != nil {
		return nil, err
	}
	return r.KeepAlive(context.Background(), lease.ID)
}

// goKitEtcdRegistrar has a client for each instance: a client of go-kit's keeps one lease.
type goKitEtcdRegistrar string

func registerGoKitEtcd(address string) (Registrar, error) { return goKitEtcdRegistrar(address), nil }

func (r goKitEtcdRegistrar) Register(in Instance) error {
	c, err := kitetcd.NewClient(context.Background(), []string{string(r)}, kitetcd.ClientOptions{DialTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	key, value := in.KeyValue(GoKit)
	kitetcd.NewRegistrar(c, kitetcd.Service{Key: key, Value: value, TTL: kitetcd.NewTTLOption(TTL/3, TTL)}, log.NewNopLogger()).Register()
	return nil
}

type rollcallRegistrar struct{ *registry.Registry }

func registerRollcall(backend string) func(string) (Registrar, error) {
	return func(address string) (Registrar, error) {
		r, err := OpenRollcall(backend, address)
		return rollcallRegistrar{r}, err
	}
}

func (r rollcallRegistrar) Register(in Instance) error {
	ctx, end := context.WithTimeout(context.Background(), time.Minute)
	defer end()
	_, err := r.Registry.Register(ctx, registry.Instance{
		ID: in.ID(), Service: in.Service, Address: in.Address, Version: Version, Zone: Zone, Metadata: Metadata,
	})
	return err
}
