package registry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// TestRegistry_ADeadlineNamesWhoDidNotAnswer: a deadline that is shorter than the driver's own says nothing by itself.
func TestRegistry_ADeadlineNamesWhoDidNotAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg := memory.New()
		defer reg.Close()
		web := registry.Instance{ID: "1", Service: "web", Address: "10.0.0.1:80"}
		registration, err := reg.Register(t.Context(), web)
		if err != nil {
			t.Fatal(err)
		}
		reg.Hang()
		defer reg.Heal()
		for _, c := range []struct {
			op   string
			call func(context.Context) error
		}{
			{"register", func(ctx context.Context) error {
				_, err := reg.Register(ctx, registry.Instance{Service: "web", Address: "10.0.0.2:80"})
				return err
			}},
			{"update", func(ctx context.Context) error { return registration.Update(ctx, web) }},
			{"deregister", registration.Deregister},
			{"lookup", func(ctx context.Context) error {
				_, err := reg.Lookup(ctx, registry.Query{Service: "db"})
				return err
			}},
			{"services", func(ctx context.Context) error {
				_, err := reg.Services(ctx)
				return err
			}},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := c.call(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer from memory yet") {
				t.Errorf("%s: %v", c.op, err)
			}
		}
	})
}
