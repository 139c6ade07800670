package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// checkAddress finds out which address a registration with a wildcard such as ":8080" gets, and why.
func (d *doctor) checkAddress(ctx context.Context) finding {
	store := ""
	if len(d.target.addresses) > 0 && !strings.HasPrefix(d.target.addresses[0], unixScheme) {
		store = d.target.addresses[0]
	}
	advertised, err := d.advertised(ctx, store)
	if err != nil {
		return failed(adviseAddress, "\":8080\" cannot be registered: %s", trimPrefix(err))
	}
	host, _, _ := net.SplitHostPort(advertised)
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return warned(adviseAddress, "\":8080\" becomes %s: this host has no other address, so no other host reaches it", advertised)
	}
	why := "the address of the default route, since the registry is on this host"
	if local := localAddressTo(store); local != "" && local == host {
		why = "the local address used to reach " + store
	}
	return passed("\":8080\" becomes %s: %s", advertised, why)
}

// localAddressTo returns the local address used to reach a host:port, or "". It sends nothing.
func localAddressTo(hostPort string) string {
	conn, err := net.DialTimeout("udp", hostPort, stepTimeout)
	if err != nil {
		return ""
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("").String()
}

// advertisedAddress returns what the library replaces a wildcard by if the registry is at store. It registers nothing: the driver
// takes the instance and keeps it.
func advertisedAddress(ctx context.Context, store string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	reg, err := registry.New(addressDriver{store}, registry.Options{})
	if err != nil {
		return "", err
	}
	defer reg.Close()
	r, err := reg.Register(ctx, registry.Instance{Service: "rollcall-doctor", Address: ":8080"})
	if err != nil {
		return "", err
	}
	return r.Instance().Address, nil
}

// addressDriver is a registry at some address in which everything can be registered and nothing is kept.
type addressDriver struct{ address string }

func (a addressDriver) Properties() registry.Properties {
	return registry.Properties{Name: "doctor", Address: a.address}
}

// WatchValue implements [registry.Driver].
func (addressDriver) WatchValue(string) registry.ValueSource { return registry.NoValues() }

func (addressDriver) Register(context.Context, *registry.Instance, registry.Lease) (registry.Lease, error) {
	return addressLease{}, nil
}
func (addressDriver) Watch(registry.Query) registry.Source       { return addressSource{} }
func (addressDriver) Services(context.Context) ([]string, error) { return nil, nil }
func (addressDriver) Close() error                               { return nil }

type addressSource struct{}

func (addressSource) Next(ctx context.Context) (registry.Set, error) {
	return registry.Set{}, registry.ErrUnsupported
}
func (addressSource) Close() error { return nil }

type addressLease struct{}

func (addressLease) TTL() time.Duration                               { return 0 }
func (addressLease) Renew(context.Context) error                      { return nil }
func (addressLease) Wait(ctx context.Context) error                   { <-ctx.Done(); return ctx.Err() }
func (addressLease) CheckReplaced(context.Context) error              { return nil }
func (addressLease) Update(context.Context, *registry.Instance) error { return nil }
func (addressLease) Release(context.Context) error                    { return nil }

// enoughFiles is the limit of open files below which the doctor warns.
const enoughFiles = 1024

// checkOpenFiles reads how many files and connections a process may have.
func (d *doctor) checkOpenFiles(context.Context) finding {
	limit, err := openFileLimit()
	switch {
	case err != nil:
		return skipped("unknown: %v", err)
	case limit < enoughFiles:
		return warned(adviseFiles, "a process may open %d files and connections, less than %d", limit, enoughFiles)
	}
	return passed("a process may open %d files and connections", limit)
}

// oldSets is the age from which on the sets of a cache folder are suspicious.
const oldSets = 7 * 24 * time.Hour

// checkCache looks at the folder for the last good sets.
func (d *doctor) checkCache(context.Context) finding {
	dir := d.target.cacheDir
	if dir == "" {
		return skipped("no cache-dir: a process that starts in an outage finds nothing")
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return warned(adviseFolder, "%s does not exist yet: the first set creates it", dir)
	case err != nil:
		return failed(adviseFolder, "%v", err)
	case !info.IsDir():
		return failed(adviseFolder, "%s is no folder", dir)
	}
	if err := tryToWrite(dir); err != nil {
		return failed(adviseFolder, "%v", err)
	}
	sets, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.json"))
	if err != nil {
		return skipped("unknown: %v", err)
	}
	var newest time.Time
	for _, set := range sets {
		if info, err := os.Stat(set); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	age := time.Since(newest)
	switch {
	case len(sets) == 0:
		return passed("%s is writable, and empty", dir)
	case age > oldSets:
		return warned(adviseOldSets, "%s has %d sets, the newest is %s old", dir, len(sets), days(age))
	}
	return passed("%s has %d sets, the newest is %s old", dir, len(sets), age.Round(time.Second))
}

// escapeGlob returns a pattern that matches path alone.
func escapeGlob(path string) string {
	if os.PathSeparator == '\\' {
		return path
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// tryToWrite creates a file in dir and removes it.
func tryToWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
