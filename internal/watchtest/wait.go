package watchtest

import (
	"context"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Timeout bounds every wait for something that must happen. Only a test that fails waits that long.
const Timeout = time.Minute

// Context returns a context that ends after [Timeout], or with the test.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	t.Cleanup(cancel)
	return ctx
}

// Eventually blocks until done returns true. After [Timeout] it fails the test, and names what it has waited for.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Timeout); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", Timeout, what)
		}
	}
}

// Receive returns the next value of c, or its zero value if c is closed. After [Timeout] it fails the test, and names what it has waited
// for.
func Receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	timeout := time.NewTimer(Timeout)
	defer timeout.Stop()
	select {
	case v := <-c:
		return v
	case <-timeout.C:
		t.Fatalf("waited %v for %s", Timeout, what)
		panic("unreachable")
	}
}

// Register registers in with r, and fails the test if that fails.
func Register(t testing.TB, r registry.Registrar, in registry.Instance) registry.Registration {
	t.Helper()
	g, err := r.Register(Context(t), in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
