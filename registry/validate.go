package registry

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxService = 128   // bytes; long enough for a full protobuf service name
	maxID      = 255   // bytes
	maxWeight  = 65535 // what Consul and DNS SRV records take
)

// Validate returns an error that wraps [ErrInvalid] and names every field that no registry should be given, with its
// value. It takes what Register fills in: an empty ID, a wildcard host.
//
// A service name has 1 to 128 ASCII letters, digits, '.', '_' and '-', and starts with a letter or digit; an ID has up
// to 255 of the same and ':'. All else is refused since some backend would mangle it: '/' parts the keys of etcd, '?',
// '#', '%' and spaces change the meaning of a URL, a name of dots alone is a path, and ':' joins service and ID in Consul.
// Case counts. Addresses are host:port with a port from 1 to 65535; the host is an IP address (IPv6 in brackets,
// without a zone, which means nothing on another host) or a DNS name. Texts are valid UTF-8, which JSON needs; tags, and
// the names of endpoints and of metadata, are not empty.
func (in *Instance) Validate() error {
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	check(checkName("Service", in.Service, maxService, ""))
	if in.ID != "" {
		check(checkName("ID", in.ID, maxID, ":"))
	}
	check(checkAddress("Address", in.Address))
	check(checkEndpoints(in.Endpoints))
	check(checkText("Version", in.Version, false))
	check(checkText("Zone", in.Zone, false))
	check(checkTags(in.Tags))
	check(checkMetadata(in.Metadata))
	if in.Weight < 0 || in.Weight > maxWeight {
		check(invalid("Weight", in.Weight, fmt.Sprintf("is not from 0 to %d", maxWeight)))
	}
	if in.Status < Passing || in.Status > Maintenance {
		check(invalid("Status", int(in.Status), "is none of Passing, Warning, Critical, Maintenance"))
	}
	return errors.Join(errs...)
}

// Validate returns an error that wraps [ErrInvalid] and names every field that selects nothing by its form, with its
// value. The rules are those of [Instance.Validate].
func (q Query) Validate() error {
	return errors.Join(
		checkName("Service", q.Service, maxService, ""),
		checkText("Version", q.Version, false),
		checkTags(q.Tags),
		checkMetadata(q.Metadata),
	)
}

func invalid(field string, value any, why string) error {
	if s, ok := value.(string); ok {
		value = strconv.Quote(s)
	}
	return fmt.Errorf("%w: %s: %v %s", ErrInvalid, field, value, why)
}

func checkName(field, s string, most int, also string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s: is required", ErrInvalid, field)
	case len(s) > most:
		return invalid(field, s, fmt.Sprintf("has %d bytes, more than %d", len(s), most))
	case !letterOrDigit(rune(s[0])):
		return invalid(field, s, "does not start with an ASCII letter or digit")
	}
	for _, c := range s {
		if !letterOrDigit(c) && !strings.ContainsRune("._-", c) && !strings.ContainsRune(also, c) {
			return invalid(field, s, fmt.Sprintf("holds %q; allowed are ASCII letters, digits and any of %q", c, "._-"+also))
		}
	}
	return nil
}

func letterOrDigit(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func checkText(field, s string, required bool) error {
	switch {
	case required && s == "":
		return fmt.Errorf("%w: %s: is empty", ErrInvalid, field)
	case !utf8.ValidString(s):
		return invalid(field, s, "is not valid UTF-8")
	}
	return nil
}

// What follows builds nothing for what is right: a list of thousands is checked whenever it is read.

func isText(s string) bool { return s != "" && utf8.ValidString(s) }

func checkTags(tags []string) error {
	var errs []error
	for i, t := range tags {
		if !isText(t) {
			errs = append(errs, checkText(fmt.Sprintf("Tags[%d]", i), t, true))
		}
	}
	return errors.Join(errs...)
}

// checkEndpoints goes by the names in their order where it has something to say.
func checkEndpoints(m map[string]string) error {
	right := true
	for name, address := range m {
		right = right && isText(name) && checkAddress("", address) == nil
	}
	if right {
		return nil
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(m)) {
		errs = append(errs, checkText("Endpoints: name", name, true), checkAddress(fmt.Sprintf("Endpoints[%q]", name), m[name]))
	}
	return errors.Join(errs...)
}

// checkMetadata names the key alone: a value may be private, and shows in no error.
func checkMetadata(m map[string]string) error {
	right := true
	for k, v := range m {
		right = right && isText(k) && utf8.ValidString(v)
	}
	if right {
		return nil
	}
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(m)) {
		errs = append(errs, checkText("Metadata: key", k, true))
		if !utf8.ValidString(m[k]) {
			errs = append(errs, fmt.Errorf("%w: Metadata[%q]: the value is not valid UTF-8", ErrInvalid, k))
		}
	}
	return errors.Join(errs...)
}

func checkAddress(field, s string) error {
	if s == "" {
		return fmt.Errorf("%w: %s: is required, as host:port", ErrInvalid, field)
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() > 0 && a.Addr().Zone() == "" {
		return nil // as nearly all are; what follows tells what is wrong with the others, if anything is
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return invalid(field, s, "is not host:port (an IPv6 host stands in brackets)")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return invalid(field, s, "has no port from 1 to 65535")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return invalid(field, s, "has an IPv6 zone, which means nothing on another host")
		}
		return nil
	}
	if len(host) > 253 {
		return invalid(field, s, "has a host name of more than 253 bytes")
	}
	for _, c := range host {
		if !letterOrDigit(c) && !strings.ContainsRune("._-", c) {
			return invalid(field, s, fmt.Sprintf("holds %q, which is in no IP address or DNS name", c))
		}
	}
	return nil
}
