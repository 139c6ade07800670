package httpx

import (
	"net/http"
	"strings"
	"time"
)

// defaultMaxIdle is how many idle connections an instance may have by default. The default of net/http, 2, closes and opens connections all
// the time under load.
const defaultMaxIdle = 100

// template returns the http.Transport that each instance gets a clone of. base may be nil.
func template(base *http.Transport) *http.Transport {
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
	}
	if base == nil { // the program has replaced it
		base = &http.Transport{ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second}
	}
	t := base.Clone() // first, since it waits until net/http has set up base
	protocols := protocolsOf(base)
	t.Proxy, t.ProxyConnectHeader, t.GetProxyConnectHeader, t.OnProxyConnectResponse = nil, nil, nil, nil
	t.Protocols = &protocols
	t.TLSNextProto = nil // its connections would be shared by all instances
	if t.MaxIdleConnsPerHost == 0 {
		t.MaxIdleConnsPerHost = defaultMaxIdle
	}
	return t
}

// protocolsOf returns the protocols that net/http uses for t. A clone of t, which has a DialContext, would use others.
func protocolsOf(t *http.Transport) http.Protocols {
	if t.Protocols != nil {
		return *t.Protocols
	}
	var p http.Protocols
	p.SetHTTP1(true)
	if t.TLSNextProto != nil {
		p.SetHTTP2(t.TLSNextProto["h2"] != nil)
	} else {
		//lint:ignore SA1019 a deprecated field counts too
		p.SetHTTP2(t.ForceAttemptHTTP2 || t.TLSClientConfig == nil && t.Dial == nil && t.DialContext == nil)
	}
	return p
}

// newTransport returns the http.Transport of n.
func (n *node) newTransport() *http.Transport {
	t := n.service.core.base.Clone()
	//lint:ignore SA1019 a deprecated field works too
	d := &dialer{node: n, dial: t.DialContext, deprecated: t.Dial, handshakeTimeout: t.TLSHandshakeTimeout, transport: t}
	//lint:ignore SA1019 DialContext replaces it
	t.Dial = nil
	t.DialContext, t.DialTLSContext = d.dialPlain, d.dialTLS
	return t
}

// needsHTTP1 reports whether net/http sends req by HTTP/1 only.
func needsHTTP1(req *http.Request) bool {
	return strings.EqualFold(req.Header.Get("Upgrade"), "websocket") && hasToken(req.Header.Get("Connection"), "upgrade")
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(t), token) {
			return true
		}
	}
	return false
}
