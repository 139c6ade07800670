package registrytest

import (
	"context"

	"github.com/rollcall-go/rollcall/registry"
)

// written takes the place of the registration of an instance that Config.Write has written to the store.
type written struct {
	t      *trial
	in     registry.Instance
	remove func()
}

// write writes in to the store, from which it is removed at the end.
func (t *trial) write(in registry.Instance) *written {
	t.Helper()
	key := in.Service + "/" + in.ID
	w := &written{t: t}
	w.put(in)
	if t.written == nil {
		t.written = map[string]*written{}
	}
	t.written[key] = w // an entry that it replaces must not be removed
	t.Cleanup(func() { w.delete() })
	return w
}

func (w *written) put(in registry.Instance) {
	w.t.Helper()
	if in.Weight == 0 {
		in.Weight = 1 // as Register and Update do
	}
	w.in, w.remove = in, w.t.Write(w.t.T, in)
	if w.remove == nil {
		w.t.Fatal("Config.Write returned nil")
	}
}

func (w *written) delete() {
	if key := w.in.Service + "/" + w.in.ID; w.t.written[key] == w {
		delete(w.t.written, key)
		w.remove()
	}
}

func (w *written) Instance() registry.Instance { return *w.in.Clone() }

func (w *written) Err() error { return nil }

func (w *written) Update(_ context.Context, in registry.Instance) error {
	w.put(in)
	return nil
}

func (w *written) Deregister(context.Context) error {
	w.delete()
	return nil
}
