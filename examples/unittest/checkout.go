// Package unittest shows how code that uses Rollcall is tested: against the memory backend, which needs no server and
// can be told to fail, in zero real time. The code under test is a small one: it picks a payment service.
package unittest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/rollcall-go/rollcall/registry"
)

// ErrNoPayment is the answer when no payment service can be had.
var ErrNoPayment = errors.New("no payment service")

// Checkout depends on the interface, not on a backend.
type Checkout struct {
	Discovery registry.Discovery
}

// PaymentAddress returns the address of any payment service. It goes on with the last known ones while the registry
// does not answer.
func (c *Checkout) PaymentAddress(ctx context.Context) (string, error) {
	set, err := c.Discovery.Lookup(ctx, registry.Query{Service: "payment"})
	if len(set) == 0 {
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoPayment, err)
		}
		return "", ErrNoPayment
	}
	return set[rand.IntN(len(set))].Address, nil
}
