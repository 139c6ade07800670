package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/registry"
)

// maxTransaction is the largest value, in bytes, that is written by a transaction. A transaction has the value in base64, and by default
// Consul refuses one of more than 512 KiB. Only the answer to a transaction has the new revision.
const maxTransaction = 256 << 10

// putValue is the PutValue of the driver's properties.
func (d *driver) putValue(ctx context.Context, key string, data []byte, o registry.PutOptions) (v *registry.Value, err error) {
	if len(data) > maxTransaction {
		return d.putLarge(ctx, key, data, o)
	}
	err = d.anywhere(ctx, func(d *driver) error {
		v, err = d.putSmall(ctx, key, data, o)
		return err
	})
	return v, err
}

// putSmall writes a value by a transaction.
func (d *driver) putSmall(ctx context.Context, key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
	op := &api.KVTxnOp{Verb: api.KVSet, Key: d.storedKey(key), Value: data}
	if o != (registry.PutOptions{}) {
		op.Verb, op.Index = api.KVCAS, o.IfRevision // 0 if the key must be absent
	}
	what := "put the value of " + key
	results, err := d.transact(ctx, what, op)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || results[0].KV == nil || results[0].KV.ModifyIndex == 0 {
		return nil, d.agent.Unavailable(what, "the answer does not have the new revision")
	}
	return &registry.Value{Key: key, Data: data, Revision: results[0].KV.ModifyIndex}, nil
}

// putLarge writes a value, and reads its revision. The two calls may be made at different agents.
func (d *driver) putLarge(ctx context.Context, key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
	what := "put the value of " + key
	pair := &api.KVPair{Key: d.storedKey(key), Value: data, ModifyIndex: o.IfRevision}
	err := d.anywhere(ctx, func(d *driver) error { return d.writePair(ctx, what, pair, o) })
	if err != nil {
		return nil, err
	}
	var found *api.KVPair
	err = d.anywhere(ctx, func(d *driver) error {
		return d.callAs(ctx, agent.Lookup, what, func(ctx context.Context) (err error) {
			options := d.valueReadOptions(ctx)
			options.AllowStale, options.RequireConsistent = false, true
			found, _, err = d.agent.Client.KV().Get(pair.Key, options)
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case found == nil || !bytes.Equal(found.Value, data):
		return nil, d.agent.Unavailable(what, "it was written, but another client has written the key before its revision was read")
	}
	return valueOf(key, found), nil
}

// writePair writes a pair if the conditions are met.
func (d *driver) writePair(ctx context.Context, what string, pair *api.KVPair, o registry.PutOptions) error {
	written := true
	err := d.callAs(ctx, agent.Write, what, func(ctx context.Context) (err error) {
		if o == (registry.PutOptions{}) {
			_, err = d.agent.Client.KV().Put(pair, d.writeOptions(ctx))
		} else {
			written, _, err = d.agent.Client.KV().CAS(pair, d.writeOptions(ctx))
		}
		return err
	})
	if err == nil && !written {
		return d.conflict(what)
	}
	return err
}

// deleteValue is the DeleteValue of the driver's properties.
func (d *driver) deleteValue(ctx context.Context, key string, o registry.PutOptions) error {
	ops := []*api.KVTxnOp{{Verb: api.KVDelete, Key: d.storedKey(key)}}
	if o.IfRevision != 0 {
		// Consul's delete-cas succeeds without the key.
		ops = append([]*api.KVTxnOp{{Verb: api.KVCheckIndex, Key: d.storedKey(key), Index: o.IfRevision}}, ops...)
	}
	return d.anywhere(ctx, func(d *driver) error {
		_, err := d.transact(ctx, "delete the value of "+key, ops...)
		return err
	})
}

// The words of Consul for a condition that is not met, in an answer to a transaction.
var conflictWords = []string{"index is stale", "current modify index", "doesn't exist"}

// deniedWords are Consul's for an operation of a transaction that the token may not do.
const deniedWords = "Permission denied"

// transact makes one transaction.
func (d *driver) transact(ctx context.Context, what string, kv ...*api.KVTxnOp) (api.TxnResults, error) {
	ops := make(api.TxnOps, len(kv))
	for i, op := range kv {
		op.Namespace, op.Partition = d.settings.Namespace, d.settings.Partition
		ops[i] = &api.TxnOp{KV: op}
	}
	slot, err := d.agent.Limiter.Acquire(ctx, agent.Write)
	if err != nil {
		return nil, err
	}
	got := agent.Capture{}
	var answer *api.TxnResponse
	var done bool
	err = d.call(ctx, what, d.settings.Timeout, func(ctx context.Context) (err error) {
		o := d.agent.Options(agent.WithCapture(ctx, &got))
		o.Datacenter = d.settings.Datacenter
		done, answer, _, err = d.agent.Client.Txn().Txn(ops, o)
		if err != nil && !errors.As(err, new(api.StatusError)) && got.Status != 0 && got.Status != http.StatusOK && got.Status != http.StatusConflict {
			return api.StatusError{Code: got.Status, Body: strings.TrimPrefix(err.Error(), "Failed request: ")} // consul/api drops the status
		}
		return err
	})
	slot.Release(got.Status, got.Version)
	switch {
	case err != nil:
		return nil, err
	case done:
		return answer.Results, nil
	}
	return nil, d.rolledBack(what, answer.Errors)
}

// rolledBack returns the error of a transaction that changed nothing.
func (d *driver) rolledBack(what string, failed api.TxnErrors) error {
	if len(failed) == 0 {
		return d.agent.Unavailable(what, "the transaction was refused without a reason")
	}
	why := failed[0].What
	if strings.Contains(why, deniedWords) {
		return d.agent.Denied(what, why)
	}
	for _, words := range conflictWords {
		if strings.Contains(why, words) {
			return d.conflict(what)
		}
	}
	return d.agent.Unavailable(what, why)
}

func (d *driver) conflict(what string) error {
	return fmt.Errorf("%w: consul at %s: %s: the key has another revision", registry.ErrConflict, d.agent.Location, what)
}

// writeOptions returns the options of a write of a value.
func (d *driver) writeOptions(ctx context.Context) *api.WriteOptions {
	o := d.agent.Options(ctx)
	return (&api.WriteOptions{Token: o.Token, Datacenter: d.settings.Datacenter}).WithContext(ctx)
}
