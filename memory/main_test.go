package memory_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = registry.Query{Service: "web", AnyStatus: true}

func instance(id string) registry.Instance {
	return registry.Instance{ID: id, Service: "web", Address: "10.0.0.1:80", Weight: 1}
}

// status returns the status of web/a as d finds it, and the error of Lookup.
func status(d registry.Discovery) (registry.Status, bool, error) {
	set, err := d.Lookup(context.Background(), web)
	for _, in := range set {
		if in.ID == "a" {
			return in.Status, true, err
		}
	}
	return 0, false, err
}

func wantThere(t *testing.T, d registry.Discovery, want bool) {
	t.Helper()
	if _, there, err := status(d); err != nil || there != want {
		t.Errorf("%v: a is there: %v, want %v (error: %v)", time.Now().Format("15:04:05"), there, want, err)
	}
}
