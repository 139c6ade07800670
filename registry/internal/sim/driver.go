package sim

import (
	"context"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// driver is how one process reaches the store. It keeps the contract of [registry.Driver]; the faults decide what its requests meet.
type driver struct {
	process int
	serial  int // of the start of the process
	world   World
	store   *store
	faults  *faults
	model   *model
	crashed chan struct{} // closed when the process is cut off for ever
}

var errCrashed = fmt.Errorf("%w: the process has crashed", registry.ErrUnavailable)

// isCrashed reports whether the process is cut off.
func (d *driver) isCrashed() bool {
	select {
	case <-d.crashed:
		return true
	default:
		return false
	}
}

// write makes one request that writes.
func (d *driver) write(ctx context.Context, operation, what string, apply func(late bool) error) outcome {
	if d.isCrashed() {
		return outcome{err: errCrashed}
	}
	d.model.attempted(d.process, operation, what)
	o := d.faults.write(ctx, d.process, operation, func(late bool) error {
		if d.isCrashed() {
			return errCrashed
		}
		err := apply(late)
		if isRare := operation != "renew" && operation != "check"; isRare || err != nil {
			d.model.trace("   store: p%d %s %s: %v", d.process, operation, what, err)
		}
		return err
	})
	if o.err != nil && operation != "check" {
		d.model.trace("   p%d %s %s failed: %v", d.process, operation, what, o.err)
	}
	return o
}

// Properties implements [registry.Driver].
func (d *driver) Properties() registry.Properties {
	return registry.Properties{Name: "sim", Pushes: d.world.Pushes, PutValue: d.putValue, DeleteValue: d.deleteValue}
}

// Register implements [registry.Driver].
func (d *driver) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	owner := &owner{}
	if before, ok := prev.(*lease); ok {
		owner = before.owner
	}
	at := owner.nextAttempt(d.store)
	l := &lease{d: d, key: entryKey{in.Service, in.ID}, owner: owner, released: make(chan struct{})}
	o := d.write(ctx, "register", l.key.String()+" "+in.Version, func(late bool) error { return d.store.put(in, at, late) })
	switch {
	case o.err == nil:
		owner.isRegistered()
		d.model.registeredAs(in.Version, at.owner)
		return l, nil
	case o.late || o.unknown && d.faults.dice(d.process, "lease") < 0.7:
		return l, o.err
	case o.unknown:
		d.model.leavesToExpire(in.Version)
	}
	return nil, o.err
}

// Services implements [registry.Driver].
func (d *driver) Services(context.Context) ([]string, error) { return services, nil }

// Close implements [registry.Driver].
func (d *driver) Close() error { return nil }

func (d *driver) putValue(ctx context.Context, key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
	var v *registry.Value
	out := d.write(ctx, "put", key, func(bool) error {
		written, err := d.store.putValue(key, data, o)
		v = written
		return err
	})
	if out.err != nil {
		return nil, out.err
	}
	return v, nil
}

func (d *driver) deleteValue(ctx context.Context, key string, _ registry.PutOptions) error {
	return d.write(ctx, "delete", key, func(bool) error { d.store.deleteValue(key); return nil }).err
}

// Watch implements [registry.Driver].
func (d *driver) Watch(q registry.Query) registry.Source {
	return &source{reader: reader{d: d, what: q.Service}, query: q}
}

// WatchValue implements [registry.Driver].
func (d *driver) WatchValue(key string) registry.ValueSource {
	return &valueSource{reader: reader{d: d, what: key}, key: key}
}
