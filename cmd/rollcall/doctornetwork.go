package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// unixScheme begins an address that is a Unix socket.
const unixScheme = "unix://"

var proxyVariables = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"}

// checkProxy finds out whether a proxy of the environment is between this host and the registry.
func (d *doctor) checkProxy(context.Context) finding {
	var set []string
	for _, name := range proxyVariables {
		if os.Getenv(name) != "" {
			set = append(set, name)
		}
	}
	names := strings.Join(set, ", ")
	switch {
	case len(set) == 0:
		return passed("no proxy variables are set")
	case !d.target.usesProxy:
		return passed("%s: not used for etcd", names)
	}
	for _, address := range d.target.addresses {
		if proxy := d.target.proxyOf(address); proxy != "" {
			host, _, _ := net.SplitHostPort(address)
			return warned(adviseProxy.with(host), "%s: connections to %s go through the proxy %s", names, address, proxy)
		}
	}
	return passed("%s: not used for %s", names, strings.Join(d.target.addresses, ", "))
}

// proxyOf returns the host:port of the proxy to address, or "" if there is none. It uses the same function as package consul.
func (t *checkTarget) proxyOf(address string) string {
	if !t.usesProxy || strings.HasPrefix(address, unixScheme) {
		return ""
	}
	scheme := "http"
	if t.tls != nil {
		scheme = "https"
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: address}})
	if err != nil || proxy == nil {
		return ""
	}
	if proxy.Port() != "" {
		return proxy.Host
	}
	port := map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// dialled returns the host:port that connections to address go to: a proxy, or address itself.
func (t *checkTarget) dialled(address string) string {
	if proxy := t.proxyOf(address); proxy != "" {
		return proxy
	}
	return address
}

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// resolve returns the addresses of the host in hostPort, and whether the host is a name.
func (d *doctor) resolve(ctx context.Context, hostPort string) (all []netip.AddrPort, isName bool, err error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, false, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, false, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, uint16(number))}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	ips, err := d.lookup(ctx, host)
	if err == nil && len(ips) == 0 {
		err = errors.New("it has no address")
	}
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), uint16(number)))
	}
	return all, true, err
}

// checkName finds out what the names of the registry resolve to.
func (d *doctor) checkName(ctx context.Context) finding {
	return d.eachAddress(func(address string) finding {
		if strings.HasPrefix(address, unixScheme) {
			return passed("a Unix socket needs no name")
		}
		address = d.target.dialled(address)
		all, isName, err := d.resolve(ctx, address)
		host, _, _ := net.SplitHostPort(address)
		switch {
		case err != nil:
			return failed(adviseName, "%s does not resolve: %s", host, resolveError(err))
		case !isName:
			return passed("%s needs no name", host)
		case onlyIPv4Listens(ctx, all):
			return warned(adviseLoopback.with(host), "%s is %s first, and nothing listens there, but at 127.0.0.1. A program that tries only the first address fails", host, all[0].Addr())
		}
		return passed("%s is %s", host, listed(all))
	})
}

func resolveError(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Err
	}
	return err.Error()
}

func listed(all []netip.AddrPort) string {
	var ips []string
	for _, a := range all {
		ips = append(ips, a.Addr().String())
	}
	if n := len(ips); n > 4 {
		ips = append(ips[:4], fmt.Sprintf("%d more", n-4))
	}
	return strings.Join(ips, ", ")
}

// onlyIPv4Listens reports whether the first address is ::1, which refuses connections, and a later one is 127.0.0.1, which accepts them.
func onlyIPv4Listens(ctx context.Context, all []netip.AddrPort) bool {
	if len(all) == 0 || all[0].Addr() != netip.IPv6Loopback() || connect(ctx, all[0].String()) == nil {
		return false
	}
	return slices.ContainsFunc(all[1:], func(a netip.AddrPort) bool {
		return a.Addr().Is4() && a.Addr().IsLoopback() && connect(ctx, a.String()) == nil
	})
}

// connect connects to address, and closes the connection.
func connect(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	network := "tcp"
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		network, address = "unix", path
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// checkTCP connects to each address of the registry.
func (d *doctor) checkTCP(ctx context.Context) finding {
	return d.eachAddress(func(address string) finding {
		began := time.Now()
		var err error
		if strings.HasPrefix(address, unixScheme) {
			err = connect(ctx, address)
		} else {
			address = d.target.dialled(address)
			err = d.connectAny(ctx, address)
		}
		switch {
		case err == nil:
			return passed("%s accepts connections, after %s", address, brief(time.Since(began)))
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
			return failed(adviseRefused, "%s: %s", address, networkReason(err))
		}
		return failed(adviseNoRoute, "%s: %s", address, networkReason(err))
	})
}

// connectAny connects to the first address of hostPort that accepts, as net.Dialer does.
func (d *doctor) connectAny(ctx context.Context, hostPort string) error {
	all, _, err := d.resolve(ctx, hostPort)
	for _, a := range all {
		if err = connect(ctx, a.String()); err == nil {
			return nil
		}
	}
	return err
}

// networkReason returns the last part of an error of the network, such as "connection refused".
func networkReason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Sprintf("no answer within %v", stepTimeout)
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	return err.Error()
}

// brief rounds a duration up for people, to milliseconds or seconds.
func brief(took time.Duration) time.Duration {
	unit := time.Millisecond
	if took > 10*time.Second {
		unit = time.Second
	}
	return took.Truncate(unit) + unit
}

// eachAddress makes a check for all addresses at once. It fails only if all fail: the others are used meanwhile.
func (d *doctor) eachAddress(run func(address string) finding) finding {
	all := make([]finding, len(d.target.addresses))
	var running sync.WaitGroup
	for i, address := range d.target.addresses {
		running.Go(func() { all[i] = run(address) })
	}
	running.Wait()
	return d.target.combined(all)
}

// combined makes one finding of the findings of all addresses: it has the worst outcome, and the facts with that outcome.
func (t *checkTarget) combined(all []finding) finding {
	if len(all) == 1 {
		return all[0]
	}
	worst := all[0]
	rank := []outcome{outcomeSkipped, outcomePassed, outcomeWarning, outcomeFailed}
	failures := 0
	for _, f := range all {
		if slices.Index(rank, f.Result) > slices.Index(rank, worst.Result) {
			worst = f
		}
		if f.Result == outcomeFailed {
			failures++
		}
	}
	var facts []string
	for i, f := range all {
		if f.Result == worst.Result {
			facts = append(facts, t.located(i, strings.TrimPrefix(f.Fact, t.addresses[i]+": ")))
		}
	}
	worst.Fact = strings.Join(facts, "; ")
	if len(facts) < len(all) {
		worst.Fact = fmt.Sprintf("%d of %d: %s", len(facts), len(all), worst.Fact)
	}
	if worst.Result == outcomeFailed && failures < len(all) {
		worst.Result = outcomeWarning
		worst.Hint += ". " + adviseSomeFail.text
	}
	return worst
}
