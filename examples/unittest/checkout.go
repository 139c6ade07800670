// Package unittest shows how to test code that uses Rollcall. The memory backend needs no server, has methods that inject failures, and
// works in testing/synctest, so that the tests take no real time. The code under test picks a payment service.
package unittest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/rollcall-go/rollcall/registry"
)

// ErrNoPayment is returned if no payment service is known.
var ErrNoPayment = errors.New("no payment service")

// Checkout depends on the interface, not on a backend.
type Checkout struct {
	Discovery registry.Discovery
}

// PaymentAddress returns the address of any payment service. While the registry does not answer, it uses the last known set.
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
