package listfile_test

import (
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rollcall-go/rollcall/examples/listfile"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// list is a file with instances.
type list struct {
	*testing.T
	path string
}

func newList(t *testing.T, text string) list {
	l := list{t, filepath.Join(t.TempDir(), "instances.json")}
	l.write(text)
	return l
}

func (l list) client(t *testing.T) *registry.Registry {
	t.Helper()
	reg, err := listfile.New(l.path, registry.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return reg
}

func (l list) move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func (l list) write(text string) {
	l.Helper()
	if err := os.WriteFile(l.path, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	l := newList(t, "[]")
	entries := map[string]registry.Instance{} // by service and ID
	store := func() {
		text, err := json.Marshal(slices.Collect(maps.Values(entries)))
		if err != nil {
			t.Fatal(err)
		}
		l.write(string(text))
	}
	store()
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry { return l.client(t) },
		Write: func(_ *testing.T, in registry.Instance) (remove func()) {
			key := in.Service + "/" + in.ID
			entries[key] = in
			store()
			return func() { delete(entries, key); store() }
		},
		WriteUnreadable: func(_ *testing.T, service, id string) (remove func()) {
			key := service + "/" + id
			entries[key] = registry.Instance{ID: id, Service: service, Address: "no address"}
			store()
			return func() { delete(entries, key); store() }
		},
		Break: func(t *testing.T) (heal func()) {
			l.move(t, l.path, l.path+".away")
			return func() { l.move(t, l.path+".away", l.path) }
		},
		Around: bubble.Test,
	})
}

const (
	one = `[{"id":"a","service":"greeter","address":"10.0.0.7:8080","weight":1}]`
	two = `[{"id":"a","service":"greeter","address":"10.0.0.7:8080","weight":1},
		{"id":"b","service":"greeter","address":"10.0.0.8:8080","weight":1},
		{"id":"c","service":"greeter","address":"no address"}]`
)

func TestWatch_SeesChangesOfTheFile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newList(t, one)
		reg := l.client(t)
		next, stop := iter.Pull2(reg.Watch(t.Context(), registry.Query{Service: "greeter"}))
		defer stop()
		if set, err, _ := next(); len(set) != 1 || err != nil {
			t.Errorf("first set = %v, %v, want one instance", set, err)
		}
		l.write(two)
		if set, err, _ := next(); len(set) != 2 || err != nil {
			t.Errorf("second set = %v, %v, want two instances", set, err)
		}
		if n := reg.CountUnreadable(); n != 1 {
			t.Errorf("CountUnreadable = %d, want 1", n)
		}
		l.write(two[:len(two)/2])
		if set, err, _ := next(); len(set) != 2 || !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("with half of a file: %v, %v, want the last good set and an error", set, err)
		}
	})
}

func TestRegister_IsUnsupported(t *testing.T) {
	_, err := newList(t, one).client(t).Register(t.Context(), registry.Instance{Service: "greeter", Address: "10.0.0.7:8080"})
	if !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("Register = %v, want ErrUnsupported", err)
	}
}

func TestServices_ListsEachOnce(t *testing.T) {
	services, err := newList(t, two).client(t).Services(t.Context())
	if err != nil || len(services) != 1 || services[0] != "greeter" {
		t.Errorf("Services = %v, %v, want greeter", services, err)
	}
}
