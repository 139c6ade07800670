package codec

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// maxIDBytes bounds IDs. Other tools write long ones, with the names of a task, a group and a port in them.
const maxIDBytes = 1024

var (
	errNoObject  = errors.New("it is not a JSON object")
	errNoService = errors.New("Service.Service is missing")
	errNoID      = errors.New("Service.ID is missing")
	errBadID     = errors.New("Service.ID has a character that cannot be printed")
	errLongID    = errors.New("Service.ID is longer than " + strconv.Itoa(maxIDBytes) + " bytes")
	errBadName   = errors.New("Service.Service is not the name of a service, as registry.Query has it")
	errNoPort    = errors.New("it has no port from 1 to 65535")
	errBadHost   = errors.New("its address is neither an IP address nor a DNS name")
	errZone      = errors.New("its address has an IPv6 zone, which means nothing on another host")
	errNoHost    = errors.New("its address is unspecified")
)

// Usable returns an error for an instance that cannot be queried or dialled. It removes endpoints that cannot be dialled. name is a
// valid name of a service, which need not be checked again. IDs may have characters that [registry.Instance.Validate] refuses, as
// the IDs of Nomad have.
func Usable(in *registry.Instance, name string) error {
	switch {
	case in.Service == "":
		return errNoService
	case in.Service != name && registry.Query{Service: in.Service}.Validate() != nil:
		return errBadName
	case in.ID == "":
		return errNoID
	case len(in.ID) > maxIDBytes:
		return errLongID
	case !IsPrintable(in.ID):
		return errBadID
	}
	for name, address := range in.Endpoints {
		if !utf8.ValidString(name) || name == "" || dialable(address) != nil {
			delete(in.Endpoints, name)
		}
	}
	if len(in.Endpoints) == 0 {
		in.Endpoints = nil
	}
	return dialable(in.Address)
}

// IsPrintable reports whether s is valid UTF-8 without a character that cannot be printed.
func IsPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
		}
	}
	return true
}

// dialable returns an error for an address that cannot be dialled from another host. It has the rules of [registry.Instance.Validate].
func dialable(address string) error {
	if a, err := netip.ParseAddrPort(address); err == nil {
		return dialableIP(a.Addr(), a.Port())
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errBadHost
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return errNoPort
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return dialableIP(ip, uint16(n))
	}
	if host == "" || len(host) > 253 || strings.Trim(host, ".-_") == "" {
		return errBadHost
	}
	for i := range len(host) {
		c := host[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return errBadHost
		}
	}
	return nil
}

func dialableIP(ip netip.Addr, port uint16) error {
	switch {
	case port == 0:
		return errNoPort
	case ip.Zone() != "":
		return errZone
	case ip.IsUnspecified():
		return errNoHost
	}
	return nil
}
