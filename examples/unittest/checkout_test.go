package unittest

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestPaymentAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := memory.New()
		defer reg.Close()
		checkout := &Checkout{Discovery: reg}

		if _, err := checkout.PaymentAddress(t.Context()); !errors.Is(err, ErrNoPayment) {
			t.Errorf("without an instance: %v", err)
		}

		if _, err := reg.Register(t.Context(), registry.Instance{ID: "p1", Service: "payment", Address: "10.0.0.1:80"}); err != nil {
			t.Fatal(err)
		}
		if got, err := checkout.PaymentAddress(t.Context()); err != nil || got != "10.0.0.1:80" {
			t.Errorf("with one instance: %q, %v", got, err)
		}

		reg.SetStatus("payment", "p1", registry.Critical)
		if _, err := checkout.PaymentAddress(t.Context()); !errors.Is(err, ErrNoPayment) {
			t.Errorf("with one instance that is critical: %v", err)
		}
	})
}

func TestPaymentAddress_SurvivesOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := memory.New()
		defer reg.Close()
		checkout := &Checkout{Discovery: reg}
		if _, err := reg.Register(t.Context(), registry.Instance{Service: "payment", Address: "10.0.0.1:80"}); err != nil {
			t.Fatal(err)
		}
		if got, err := checkout.PaymentAddress(t.Context()); err != nil || got != "10.0.0.1:80" {
			t.Errorf("before the outage: %q, %v", got, err)
		}

		reg.Fail(errors.New("the registry is down"))
		for _, pause := range []time.Duration{0, time.Minute, 24 * time.Hour} {
			time.Sleep(pause) // which takes no real time
			if got, err := checkout.PaymentAddress(t.Context()); err != nil || got != "10.0.0.1:80" {
				t.Errorf("%v into the outage: %q, %v", pause, got, err)
			}
		}
		reg.Heal()
	})
}
