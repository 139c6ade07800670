package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// check finds out whether a program answers.
type check struct {
	address string // host:port, as this host reaches it
	url     string // "": a connection is enough
	timeout time.Duration
}

// maxCheckTimeout bounds one check if the interval is longer.
const maxCheckTimeout = 5 * time.Second

// newCheck returns the check that text describes, of a program that clients reach at address.
func newCheck(text, address string, interval time.Duration) (check, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return check{}, usage("--address: %v", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if err == nil && ip.Is6() {
			host = "::1"
		}
	}
	c := check{address: net.JoinHostPort(host, port), timeout: min(interval, maxCheckTimeout)}
	switch path, isHTTP := strings.CutPrefix(text, "http:"); {
	case text == "tcp":
	case isHTTP && strings.HasPrefix(path, "/"):
		c.url = "http://" + c.address + path
	default:
		return check{}, usage("--check: %q is neither tcp nor http:/PATH", text)
	}
	return c, nil
}

func (c check) String() string {
	if c.url != "" {
		return "GET " + c.url
	}
	return "a connection to " + c.address
}

// run makes the check once.
func (c check) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if c.url == "" {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", c.address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return err
	}
	resp, err := checkClient.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	err = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return cmp.Or(fmt.Errorf("GET %s: %s", c.url, resp.Status), err)
	}
	return nil
}

// withoutURL returns err without the URL that package net/http puts before it.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// checkClient uses no proxy, follows no redirection, and makes a connection for each check, as a client of the program would.
var checkClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
