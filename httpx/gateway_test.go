package httpx_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// echoLines is a handler that takes the connection over, as one of WebSockets does, and answers each line.
func echoLines(w http.ResponseWriter, _ *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	rw.Flush()
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		rw.WriteString("echo " + line)
		rw.Flush()
	}
}

func TestTransport_WebSocketsPassThroughReverseProxy(t *testing.T) {
	for _, p := range protocols[:3] {
		t.Run(p.name, func(t *testing.T) {
			onProtocol(t, p, func(l *loopback) {
				backend := l.listen(echoLines)
				transport := l.client(&httpx.Transport{}).Transport.(*httpx.Transport)
				gateway := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
					r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = l.scheme, service, ""
				}})
				defer gateway.Close()
				c, err := net.Dial("tcp", gateway.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				in := bufio.NewReader(c)
				resp, err := http.ReadResponse(in, nil)
				if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("the response is %v, %v", resp, err)
				}
				outstanding := func() int { return transport.Snapshot().Services[0].Instances[0].Outstanding }
				for _, text := range []string{"hello", "again"} {
					fmt.Fprintln(c, text)
					if line, err := in.ReadString('\n'); err != nil || line != "echo "+text+"\n" || outstanding() != 1 {
						t.Errorf("the peer says %q, %v; %d requests are outstanding", line, err, outstanding())
					}
				}
				c.Close()
				watchtest.Eventually(t, "the request to end", func() bool { return outstanding() == 0 })
				backend.waitForConnections(t, "the connection to the backend to end", 0)
			})
		})
	}
}
