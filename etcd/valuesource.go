package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/watch"
	"github.com/rollcall-go/rollcall/registry"
)

// valuesFolder is between Config.Prefix and the key of a value. No service has this name.
const valuesFolder = "_values/"

// valueSource reads the value of one key: first by a linearizable read, and then only changes.
type valueSource struct {
	d    *driver
	key  string // as the program has it
	name []byte // as etcd has it

	watch  *watch.Watch // nil if the next call reads the value
	failed bool         // the last call has failed
}

// WatchValue implements [registry.Driver].
func (d *driver) WatchValue(key string) registry.ValueSource {
	return &valueSource{d: d, key: key, name: d.valueKey(key)}
}

// valueKey returns the key that etcd has for the key of a value.
func (d *driver) valueKey(key string) []byte { return []byte(d.settings.Prefix + valuesFolder + key) }

// Next implements [registry.ValueSource].
func (s *valueSource) Next(ctx context.Context) (*registry.Value, error) {
	next := s.readChange
	if s.watch == nil {
		next = s.read
	}
	v, err := next(ctx)
	s.failed = err != nil
	if s.failed && s.watch != nil {
		if ctx.Err() != nil {
			s.watch.Close()
		} else {
			s.watch.Abandon()
		}
		s.watch = nil
	}
	return v, err
}

// Close implements [registry.ValueSource].
func (s *valueSource) Close() error {
	if s.watch != nil {
		s.watch.Close()
		s.watch = nil
	}
	return nil
}

// read reads the value, and opens a watch of the changes after it.
func (s *valueSource) read(ctx context.Context) (*registry.Value, error) {
	if s.failed { // without a connection it would fail again
		s.d.conn.AwaitRestart(ctx)
	} else {
		s.d.conn.ReconnectNow(ctx)
	}
	page, err := s.d.conn.Read(ctx, "read the value of "+s.key, &pb.RangeRequest{Key: s.name})
	if err != nil {
		return nil, err
	}
	w, err := s.d.watches.Watch(ctx, "watch the value of "+s.key, string(s.name), "", page.Header.Revision+1)
	if err != nil {
		return nil, err
	}
	w.Supervise()
	s.watch = w
	if len(page.Kvs) == 0 {
		return nil, nil
	}
	return valueOf(s.key, page.Kvs[0]), nil
}

// readChange blocks until the value has changed, and returns the newest value that has arrived.
func (s *valueSource) readChange(ctx context.Context) (*registry.Value, error) {
	for {
		changes, missed, err := s.watch.Receive(ctx)
		if err != nil {
			return nil, err
		}
		if missed {
			s.watch.Abandon()
			s.watch = nil
			return s.read(ctx)
		}
		for more := true; more; {
			var later []*mvccpb.Event
			if later, more, err = s.watch.Poll(ctx); err != nil {
				return nil, err
			}
			changes = append(changes, later...)
		}
		if len(changes) == 0 { // etcd has reported progress
			continue
		}
		last := changes[len(changes)-1]
		if last.Type == mvccpb.Event_DELETE {
			return nil, nil
		}
		return valueOf(s.key, last.Kv), nil
	}
}

// valueOf returns an entry of etcd as a value.
func valueOf(key string, kv *mvccpb.KeyValue) *registry.Value {
	return &registry.Value{Key: key, Data: append([]byte{}, kv.Value...), Revision: uint64(kv.ModRevision)}
}
