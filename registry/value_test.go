package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestPutValue_Conditions(t *testing.T) {
	r, _ := newValueStore(t, registry.Options{})
	ctx := t.Context()
	first, err := r.PutValue(ctx, key, []byte("1"), registry.PutOptions{IfAbsent: true})
	if err != nil || first.Key != key || string(first.Data) != "1" || first.Revision == 0 {
		t.Fatalf("PutValue returns %+v, %v", first, err)
	}
	if _, err := r.PutValue(ctx, key, []byte("2"), registry.PutOptions{IfAbsent: true}); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("IfAbsent with a value returns %v", err)
	}
	second, err := r.PutValue(ctx, key, []byte("2"), registry.PutOptions{IfRevision: first.Revision})
	if err != nil || second.Revision <= first.Revision {
		t.Fatalf("PutValue returns %+v, %v after %+v", second, err, first)
	}
	_, err = r.PutValue(ctx, key, []byte("3"), registry.PutOptions{IfRevision: first.Revision})
	if !errors.Is(err, registry.ErrConflict) || !strings.HasPrefix(err.Error(), `rollcall: put value "`+key+`": conflict: `) {
		t.Errorf("an old revision returns %v", err)
	}
	if err := r.DeleteValue(ctx, key, registry.PutOptions{IfRevision: first.Revision}); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("DeleteValue with an old revision returns %v", err)
	}
	if err := r.DeleteValue(ctx, key, registry.PutOptions{IfRevision: second.Revision}); err != nil {
		t.Error(err)
	}
	if err := r.DeleteValue(ctx, key, registry.PutOptions{}); err != nil {
		t.Errorf("DeleteValue without a key returns %v", err)
	}
	if err := r.DeleteValue(ctx, key, registry.PutOptions{IfRevision: second.Revision}); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("DeleteValue with a revision and without a key returns %v", err)
	}
}

// The caller may use its slice again.
func TestPutValue_CopiesData(t *testing.T) {
	r, _ := newValueStore(t, registry.Options{})
	data := []byte("1")
	v, err := r.PutValue(t.Context(), key, data, registry.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data[0] = '2'
	if string(v.Data) != "1" {
		t.Errorf("the value is %q", v.Data)
	}
}

func TestPutValue_RefusesBadInput(t *testing.T) {
	r, _ := newValueStore(t, registry.Options{})
	for name, c := range map[string]struct {
		key     string
		size    int
		options registry.PutOptions
		want    string
	}{
		"no key":             {"", 0, registry.PutOptions{}, "Key is required"},
		"leading slash":      {"/a", 0, registry.PutOptions{}, `Key: "/a" has the part ""`},
		"trailing slash":     {"a/", 0, registry.PutOptions{}, `Key: "a/" has the part ""`},
		"empty name":         {"a//b", 0, registry.PutOptions{}, `Key: "a//b" has the part ""`},
		"parent":             {"a/../b", 0, registry.PutOptions{}, `Key: "a/../b" has the part ".."`},
		"space":              {"a b", 0, registry.PutOptions{}, `Key: "a b" contains ' '`},
		"percent":            {"a%2f", 0, registry.PutOptions{}, `contains '%'`},
		"long key":           {strings.Repeat("a", 513), 0, registry.PutOptions{}, "Key: has 513 bytes, more than 512"},
		"large value":        {"a", registry.MaxValueSize + 1, registry.PutOptions{}, "Data: has 524289 bytes, more than 524288"},
		"two conditions":     {"a", 0, registry.PutOptions{IfRevision: 7, IfAbsent: true}, "PutOptions.IfAbsent: cannot be combined with IfRevision 7"},
		"two faults at once": {"a b", registry.MaxValueSize + 1, registry.PutOptions{}, "Data: has"},
	} {
		t.Run(name, func(t *testing.T) {
			calls := r.Calls()
			_, err := r.PutValue(t.Context(), c.key, make([]byte, c.size), c.options)
			if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("PutValue returns %v, want one line with %q", err, c.want)
			}
			if c.size == 0 {
				err := r.DeleteValue(t.Context(), c.key, c.options)
				if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("DeleteValue returns %v, want %q", err, c.want)
				}
			}
			if r.Calls() != calls {
				t.Error("the store was asked")
			}
		})
	}
	if err := r.DeleteValue(t.Context(), "a", registry.PutOptions{IfAbsent: true}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("DeleteValue with IfAbsent returns %v", err)
	}
	if _, err := r.PutValue(t.Context(), "a", make([]byte, registry.MaxValueSize), registry.PutOptions{}); err != nil {
		t.Errorf("the largest value: %v", err)
	}
	for _, err := range r.WatchValue(t.Context(), "/a") {
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `watch value "/a"`) {
			t.Errorf("WatchValue yields %v", err)
		}
	}
}

// PutValue and DeleteValue make one attempt, and say what failed.
func TestPutValue_Faults(t *testing.T) {
	denied := func(r *memory.Registry) { r.Fail(registry.ErrDenied) }
	down := func(r *memory.Registry) { r.Fail(errors.New("down")) }
	full := func(r *memory.Registry) { r.RefuseWrites(errors.New("no space")) }
	for name, c := range map[string]struct {
		fault       func(*memory.Registry)
		put, delete error
	}{
		"denied": {denied, registry.ErrDenied, registry.ErrDenied},
		"down":   {down, registry.ErrUnavailable, registry.ErrUnavailable},
		"full":   {full, registry.ErrUnavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r, _ := newValueStore(t, registry.Options{})
				c.fault(r)
				calls := r.Calls()
				_, err := r.PutValue(t.Context(), key, nil, registry.PutOptions{})
				if !errors.Is(err, c.put) {
					t.Errorf("PutValue returns %v", err)
				}
				if err := r.DeleteValue(t.Context(), key, registry.PutOptions{}); !errors.Is(err, c.delete) {
					t.Errorf("DeleteValue returns %v", err)
				}
				if n := r.Calls() - calls; n != 2 {
					t.Errorf("%d calls, want one for each", n)
				}
			})
		})
	}
}
