package registry

import (
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

// Validate returns an error that wraps [ErrInvalid] and names every field that no registry should be given, with its value. It accepts
// what Register fills in: an empty ID, and a wildcard host.
//
//   - Service has 1 to 128 ASCII letters, digits, '.', '_' and '-', and starts with a letter or digit. Case counts.
//   - ID has up to 255 of the same characters and ':'.
//   - Address and each of Endpoints is host:port with a port from 1 to 65535. The host is an IP address or a DNS name. An IPv6 address
//     is in brackets, and without a zone, which means nothing on another host.
//   - Tags, and the names in Endpoints and Metadata, are not empty.
//   - All texts are valid UTF-8, which JSON needs.
//   - Weight is from [Drained] to 65535.
//
// The other characters of Service and ID are refused because some backend would change their meaning: '/' separates the keys of etcd,
// '?', '#', '%' and spaces have a meaning in a URL, a name of dots alone is a path, and ':' separates service and ID in Consul.
func (in *Instance) Validate() error {
	errs := reasons{checkName("Service", in.Service, maxService, "")}
	if in.ID != "" {
		errs = append(errs, checkName("ID", in.ID, maxID, ":"))
	}
	errs = append(errs, checkAddress("Address", in.Address), checkEndpoints(in.Endpoints), checkText("Version", in.Version),
		checkText("Zone", in.Zone), checkTags(in.Tags), checkMetadata(in.Metadata))
	if in.Weight < Drained || in.Weight > maxWeight {
		errs = append(errs, invalid("Weight", in.Weight, fmt.Sprintf("is not from %d (drained) to %d", Drained, maxWeight)))
	}
	if in.Status < Passing || in.Status > Maintenance {
		errs = append(errs, invalid("Status", int(in.Status), "is none of Passing, Warning, Critical, Maintenance"))
	}
	return errs.join()
}

// Validate returns an error that wraps [ErrInvalid] and names every field that no instance can match because of its form, with its
// value. The rules of [Instance.Validate] apply.
func (q Query) Validate() error {
	return reasons{
		checkName("Service", q.Service, maxService, ""), checkText("Version", q.Version), checkTags(q.Tags), checkMetadata(q.Metadata),
	}.join()
}

// reasons are errors that wrap ErrInvalid, one for each fault, or nil.
type reasons []error

// join returns the reasons as one error, or nil if all are nil.
func (r reasons) join() error {
	var all []error
	for _, err := range r {
		if several, ok := err.(*invalidError); ok {
			all = append(all, several.reasons...)
		} else if err != nil {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return &invalidError{all}
}

// invalidError is several reasons on one line.
type invalidError struct{ reasons []error }

// Error returns "invalid: ", and the reasons with "; " between them.
func (e *invalidError) Error() string {
	prefix := ErrInvalid.Error() + ": "
	var texts []string
	for _, err := range e.reasons {
		texts = append(texts, strings.TrimPrefix(err.Error(), prefix))
	}
	return prefix + strings.Join(texts, "; ")
}

// Unwrap returns the reasons.
func (e *invalidError) Unwrap() []error { return e.reasons }

func invalid(field string, value any, why string) error {
	if s, ok := value.(string); ok {
		value = strconv.Quote(s)
	}
	return fmt.Errorf("%w: %s: %v %s", ErrInvalid, field, value, why)
}

func missing(field string) error { return fmt.Errorf("%w: %s is required", ErrInvalid, field) }

func checkName(field, s string, most int, also string) error {
	switch {
	case s == "":
		return missing(field)
	case len(s) > most:
		return invalid(field, s, fmt.Sprintf("has %d bytes, more than %d", len(s), most))
	case !letterOrDigit(rune(s[0])):
		return invalid(field, s, "does not start with an ASCII letter or digit")
	}
	for _, c := range s {
		if !letterOrDigit(c) && !strings.ContainsRune("._-", c) && !strings.ContainsRune(also, c) {
			return invalid(field, s, fmt.Sprintf("contains %q, which is no ASCII letter, no digit and none of %q", c, "._-"+also))
		}
	}
	return nil
}

func letterOrDigit(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func checkText(field, s string) error {
	if !utf8.ValidString(s) {
		return invalid(field, s, "is not valid UTF-8")
	}
	return nil
}

func checkTextNotEmpty(field, s string) error {
	if s == "" {
		return fmt.Errorf("%w: %s is empty", ErrInvalid, field)
	}
	return checkText(field, s)
}

// The functions below allocate nothing for valid input: a list of thousands of instances is checked whenever it is read.

func isText(s string) bool { return s != "" && utf8.ValidString(s) }

func checkTags(tags []string) error {
	var errs reasons
	for i, t := range tags {
		if !isText(t) {
			errs = append(errs, checkTextNotEmpty(fmt.Sprintf("Tags[%d]", i), t))
		}
	}
	return errs.join()
}

// checkEndpoints names the faults in the order of the names.
func checkEndpoints(m map[string]string) error {
	valid := true
	for name, address := range m {
		valid = valid && isText(name) && checkAddress("", address) == nil
	}
	if valid {
		return nil
	}
	var errs reasons
	for _, name := range slices.Sorted(maps.Keys(m)) {
		errs = append(errs, checkTextNotEmpty("A name in Endpoints", name), checkAddress(fmt.Sprintf("Endpoints[%q]", name), m[name]))
	}
	return errs.join()
}

// checkMetadata names the key, and not the value, which may be private and must not show in an error.
func checkMetadata(m map[string]string) error {
	valid := true
	for k, v := range m {
		valid = valid && isText(k) && utf8.ValidString(v)
	}
	if valid {
		return nil
	}
	var errs reasons
	for _, k := range slices.Sorted(maps.Keys(m)) {
		errs = append(errs, checkTextNotEmpty("A key in Metadata", k))
		if !utf8.ValidString(m[k]) {
			errs = append(errs, fmt.Errorf("%w: Metadata[%q]: the value is not valid UTF-8", ErrInvalid, k))
		}
	}
	return errs.join()
}

func checkAddress(field, s string) error {
	if s == "" {
		return fmt.Errorf("%w, as host:port", missing(field))
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() > 0 && a.Addr().Zone() == "" {
		return nil // nearly all are like that; the code below finds out about the others
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return invalid(field, s, "is not host:port (an IPv6 host must be in brackets)")
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
			return invalid(field, s, fmt.Sprintf("contains %q, which is in no IP address or DNS name", c))
		}
	}
	return nil
}
