// Package agenttest has helpers for the tests of package consul and of its internal package agent.
package agenttest

import (
	"context"
	"net/netip"
	"os"
	"sync"
	"testing"
)

// DNS is a server of names that answers each query with the same records.
type DNS struct {
	mu      sync.Mutex
	records []string
	err     error
	lookups int
}

// NewDNS returns a DNS with these records, which are IP addresses.
func NewDNS(records ...string) *DNS { return &DNS{records: records} }

// Set replaces the answer.
func (d *DNS) Set(err error, records ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records, d.err = records, err
}

// Lookups returns the number of queries so far.
func (d *DNS) Lookups() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lookups
}

// Lookup has the signature of net.Resolver.LookupNetIP.
func (d *DNS) Lookup(_ context.Context, network, _ string) (found []netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookups++
	for _, r := range d.records {
		if ip := netip.MustParseAddr(r); ip.Is4() == (network == "ip4") {
			found = append(found, ip)
		}
	}
	return found, d.err
}

// WriteFile replaces a file in one step, as programs do that rotate a token.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
