package contender

import (
	"context"

	"github.com/go-kit/kit/sd"
	kitconsul "github.com/go-kit/kit/sd/consul"
	kitetcd "github.com/go-kit/kit/sd/etcdv3"
	"github.com/go-kit/log"
	"github.com/hashicorp/consul/api"
)

var goKitConsul = Contender{Name: "go-kit sd/consul", Backend: "consul", Module: "github.com/go-kit/kit", Form: Agent, Open: func(address string) (Client, error) {
	c, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		return nil, err
	}
	return &goKitClient{bare: newBare(), instancer: func(service string) (sd.Instancer, error) {
		return kitconsul.NewInstancer(kitconsul.NewClient(c), log.NewNopLogger(), service, nil, true), nil
	}}, nil
}}

var goKitEtcd = Contender{Name: "go-kit sd/etcdv3", Backend: "etcd", Module: "github.com/go-kit/kit", Form: GoKit, Register: registerGoKitEtcd, Open: func(address string) (Client, error) {
	b := newBare()
	c, err := kitetcd.NewClient(context.Background(), []string{address}, kitetcd.ClientOptions{})
	if err != nil {
		return nil, err
	}
	return &goKitClient{bare: b, instancer: func(service string) (sd.Instancer, error) {
		return kitetcd.NewInstancer(c, GoKit.Prefix(service), log.NewNopLogger())
	}}, nil
}}

type goKitClient struct {
	*bare
	instancer func(service string) (sd.Instancer, error)
	open      []sd.Instancer
}

// Watch hears the events of an instancer. One with an error has no instances, as go-kit's endpoint cache takes it only when
// it is told to (InvalidateOnError); the default keeps the last set, and so does this.
func (c *goKitClient) Watch(service string, got func(Set)) error {
	in, err := c.instancer(service)
	if err != nil {
		return err
	}
	c.open = append(c.open, in)
	events := make(chan sd.Event)
	c.loops.Go(func() {
		for {
			select {
			case <-c.ctx.Done():
				return
			case e := <-events:
				if e.Err == nil {
					got(addresses(e.Instances))
				}
			}
		}
	})
	in.Register(events)
	return nil
}

// Close leaves the instancers alone: what still sends to a listener that has gone would block for ever, and the process ends.
func (c *goKitClient) Close() { c.end(); c.loops.Wait() }
