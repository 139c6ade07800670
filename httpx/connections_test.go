package httpx_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestTransport_SpeaksEachProtocol(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		l.listen(func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			name := ""
			if r.TLS != nil {
				name = r.TLS.ServerName
			}
			fmt.Fprint(w, r.ProtoMajor, r.Host, name, string(text), err)
		})
		client := l.client(&httpx.Transport{})
		want := "1greeter"
		if l.http2 {
			want = "2greeter"
		}
		if l.scheme == "https" {
			want += service
		}
		for range 3 {
			if text, err := read(client.Post(l.url("/"), "", newBody("hello"))); err != nil || text != want+"hello<nil>" {
				l.Errorf("the response is %q, %v, want %q", text, err, want)
			}
		}
	})
}

func TestTransport_InstanceThatLeavesLosesIdleConnectionsAtOnce(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		a := l.listen(func(http.ResponseWriter, *http.Request) {})
		b := l.listen(func(http.ResponseWriter, *http.Request) {})
		client := l.client(&httpx.Transport{})
		for range 4 {
			if _, err := read(client.Get(l.url("/"))); err != nil {
				l.Fatal(err)
			}
		}
		a.waitForConnections(l.T, "the first instance is connected", 1)
		b.waitForConnections(l.T, "the second instance is connected", 1)
		l.leave(a)
		a.waitForConnections(l.T, "the instance that has left has no connection", 0)
		if got := b.opened.Load(); got != 1 {
			l.Errorf("the other instance has %d connections", got)
		}
	})
}

func TestTransport_InstanceThatLeavesFinishesItsRequests(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		goOn := make(chan bool)
		a := l.listen(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "begin ")
			w.(http.Flusher).Flush()
			<-goOn
			fmt.Fprint(w, "end")
		})
		client := l.client(&httpx.Transport{})
		resp, err := client.Get(l.url("/"))
		if err != nil {
			l.Fatal(err)
		}
		defer resp.Body.Close()
		other := l.listen(func(http.ResponseWriter, *http.Request) {})
		l.leave(a)
		tr := client.Transport.(*httpx.Transport)
		watchtest.Eventually(l.T, "the instance has left", func() bool {
			all := tr.Snapshot().Services[0].Instances
			return len(all) == 1 && all[0].Address == other.Listener.Addr().String()
		})
		goOn <- true
		text, err := io.ReadAll(resp.Body)
		if string(text) != "begin end" || err != nil {
			l.Errorf("the response is %q, %v", text, err)
		}
		a.waitForConnections(l.T, "the connection ends after its request", 0)
	})
}

func TestTransport_CloseIdleConnectionsKeepsBusyOnes(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		goOn := make(chan bool)
		a := l.listen(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				w.(http.Flusher).Flush()
				<-goOn
			}
			fmt.Fprint(w, "hello")
		})
		client := l.client(&httpx.Transport{})
		if _, err := read(client.Get(l.url("/"))); err != nil {
			l.Fatal(err)
		}
		client.CloseIdleConnections()
		a.waitForConnections(l.T, "the idle connection is closed", 0)
		resp, err := client.Get(l.url("/slow"))
		if err != nil {
			l.Fatal(err)
		}
		client.CloseIdleConnections()
		goOn <- true
		if text, err := read(resp, nil); text != "hello" || err != nil {
			l.Errorf("the response is %q, %v", text, err)
		}
		if text, err := read(client.Get(l.url("/"))); text != "hello" || err != nil {
			l.Errorf("the next response is %q, %v", text, err)
		}
	})
}

func TestTransport_CloseEndsEverything(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		a := l.listen(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		client := l.client(&httpx.Transport{})
		resp, err := client.Get(l.url("/"))
		if err != nil {
			l.Fatal(err)
		}
		defer resp.Body.Close()
		tr := client.Transport.(*httpx.Transport)
		for range 2 {
			if err := tr.Close(); err != nil {
				l.Error(err)
			}
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			l.Error("a response goes on after Close")
		}
		a.waitForConnections(l.T, "the connection is closed", 0)
		b := newBody("hello")
		_, err = read(client.Post(l.url("/"), "", b))
		failsWith(l.T, err, registry.ErrClosed, "closed")
		if b.closed.Load() != 1 {
			l.Errorf("the body was closed %d times", b.closed.Load())
		}
		if got := tr.Snapshot().Services; len(got) != 0 {
			l.Errorf("the snapshot has %v", got)
		}
	})
}

func TestTransport_CloseBeforeTheFirstRequest(t *testing.T) {
	tr := &httpx.Transport{Discovery: memory.New()}
	tr.CloseIdleConnections()
	tr.Close()
	_, err := get(&http.Client{Transport: tr})
	failsWith(t, err, registry.ErrClosed)
}

func TestTransport_ClosingThousandDuringChangesLeavesNothing(t *testing.T) {
	p := protocols[0]
	reg := memory.New()
	l := &loopback{T: t, protocol: p, reg: reg}
	for range 3 {
		l.listen(func(http.ResponseWriter, *http.Request) {})
	}
	before := runtime.NumGoroutine()
	stop := make(chan struct{})
	var changes, clients sync.WaitGroup
	changes.Go(func() {
		for i := 0; ; i++ {
			r, err := reg.Register(t.Context(), registry.Instance{Service: service, Address: fmt.Sprintf("127.0.0.1:%d", 1+i%3)})
			if err != nil {
				t.Error(err)
				return
			}
			if err := r.Deregister(t.Context()); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range 10 {
		clients.Go(func() {
			for range 100 {
				client := httpx.NewClient(reg)
				for range 2 {
					if _, err := get(client); err != nil {
						t.Error(err)
					}
				}
				client.Transport.(*httpx.Transport).Close()
			}
		})
	}
	clients.Wait()
	close(stop)
	changes.Wait()
	watchtest.Eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+20 })
	reg.Close()
}

func TestTransport_CertificateMustBeForTheService(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		if l.scheme == "http" {
			return
		}
		wrong, _ := certificate(l.T, "another")
		right := l.cert
		l.cert = wrong
		l.listen(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "another service") })
		client := l.client(&httpx.Transport{})
		_, err := read(client.Get(l.url("/")))
		failsWith(l.T, err, registry.ErrUnavailable, "greeter", "certificate")
		l.cert = right
		l.listen(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "greeter") })
		watchtest.Eventually(l.T, "the second instance is found", func() bool {
			return len(client.Transport.(*httpx.Transport).Snapshot().Services[0].Instances) == 2
		})
		for range 10 { // a POST too goes elsewhere
			if text, err := read(client.Post(l.url("/"), "", newBody("hello"))); err != nil || text != "greeter" {
				l.Errorf("the response is %q, %v", text, err)
			}
		}
	})
}

func TestTransport_TLSName(t *testing.T) {
	for name, cert := range map[string]string{"host": "localhost", "meta.tls": "tls.example", "meta.none": service, "": service} {
		t.Run(name, func(t *testing.T) {
			l := &loopback{T: t, protocol: protocols[2], reg: memory.New()}
			t.Cleanup(func() { l.reg.Close() })
			l.cert, l.pool = certificate(t, cert)
			s := l.listen(func(http.ResponseWriter, *http.Request) {})
			l.leave(s)
			_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
			watchtest.Register(t, l.reg, registry.Instance{Service: service, Address: "localhost:" + port, Metadata: map[string]string{"tls": "tls.example"}})
			if _, err := read(l.client(&httpx.Transport{TLSName: name}).Get(l.url("/"))); err != nil {
				t.Error(err)
			}
		})
	}
	l := &loopback{T: t, protocol: protocols[2], reg: memory.New()}
	t.Cleanup(func() { l.reg.Close() })
	l.cert, l.pool = certificate(t, "mesh.internal")
	l.listen(func(http.ResponseWriter, *http.Request) {})
	client := l.client(&httpx.Transport{})
	client.Transport.(*httpx.Transport).Base.TLSClientConfig.ServerName = "mesh.internal"
	if _, err := read(client.Get(l.url("/"))); err != nil {
		t.Error(err)
	}
}

func TestTransport_DefaultsUseHTTP2AndNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	pool := x509.NewCertPool()
	for name, base := range map[string]*http.Transport{
		"none": nil, "zero": {}, "the default": http.DefaultTransport.(*http.Transport),
		"a config": {TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}, "HTTP/1": {TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}},
	} {
		l := &loopback{T: t, protocol: protocols[2], reg: memory.New()}
		t.Cleanup(func() { l.reg.Close() })
		cert, accepted := certificate(t, service)
		l.cert = cert
		l.listen(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.ProtoMajor) })
		if base != nil {
			base = base.Clone()
			if name == "zero" || name == "HTTP/1" {
				base = &http.Transport{TLSNextProto: base.TLSNextProto}
			}
		}
		tr := &httpx.Transport{Discovery: l.reg, Base: base}
		want := "2"
		switch name {
		case "none", "zero": // no root authority can be set
			_, err := (&http.Client{Transport: tr}).Get("https://greeter/")
			failsWith(t, err, registry.ErrUnavailable, "certificate")
			tr.Close()
			continue
		case "HTTP/1":
			base.TLSClientConfig = &tls.Config{RootCAs: accepted}
			base.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			want = "1"
		default:
			base.TLSClientConfig = &tls.Config{RootCAs: accepted}
		}
		if text, err := read((&http.Client{Transport: tr}).Get("https://greeter/")); err != nil || text != want {
			t.Errorf("with %s as Base the response is HTTP/%s, %v, want HTTP/%s", name, text, err, want)
		}
		tr.Close()
	}
}

func TestTransport_UpgradedConnectionsWork(t *testing.T) {
	for _, p := range protocols[:3] {
		t.Run(p.name, func(t *testing.T) {
			l := &loopback{T: t, protocol: p, reg: memory.New()}
			t.Cleanup(func() { l.reg.Close() })
			l.cert, l.pool = certificate(t, service)
			s := l.listen(echoLines)
			client := l.client(&httpx.Transport{})
			if l.http2 { // an HTTP/2 connection that is there already is of no use
				read(client.Get(l.url("/")))
			}
			req, err := http.NewRequest(http.MethodGet, l.url("/"), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			talk, ok := resp.Body.(io.ReadWriteCloser)
			if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
				t.Fatalf("the response is %v with a %T", resp.Status, resp.Body)
			}
			in := bufio.NewReader(talk)
			say := func(text string) {
				fmt.Fprintln(talk, text)
				if line, err := in.ReadString('\n'); err != nil || line != "echo "+text+"\n" {
					t.Errorf("the peer says %q, %v", line, err)
				}
			}
			say("hello")
			tr := client.Transport.(*httpx.Transport)
			if got := tr.Snapshot().Services[0].Instances[0].Outstanding; got != 1 {
				t.Errorf("%d requests are outstanding", got)
			}
			l.leave(s)
			watchtest.Eventually(t, "the instance has left", func() bool { return tr.Snapshot().Services[0].InGrace })
			say("still here")
			talk.Close()
		})
	}
}

func TestTransport_EarlyResponsesPass(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		l.listen(func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, string(text))
		})
		client := l.client(&httpx.Transport{})
		client.Transport.(*httpx.Transport).Base.ExpectContinueTimeout = time.Minute
		var codes []int
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				codes = append(codes, code)
				return nil
			},
		}), http.MethodPost, l.url("/"), newBody("hello"))
		if err != nil {
			l.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		if text, err := read(client.Do(req)); text != "hello" || err != nil {
			l.Errorf("the response is %q, %v", text, err)
		}
		if got := fmt.Sprint(codes); !strings.Contains(got, "103") {
			l.Errorf("the early responses are %s", got)
		}
	})
}

func TestTransport_CloseEndsRequestsOfInstancesThatHaveLeft(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		a := l.listen(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		client := l.client(&httpx.Transport{})
		resp, err := client.Get(l.url("/"))
		if err != nil {
			l.Fatal(err)
		}
		defer resp.Body.Close()
		l.listen(func(http.ResponseWriter, *http.Request) {})
		l.leave(a)
		tr := client.Transport.(*httpx.Transport)
		watchtest.Eventually(l.T, "the instance has left", func() bool {
			all := tr.Snapshot().Services[0].Instances
			return len(all) == 1 && all[0].Address != a.Listener.Addr().String()
		})
		tr.Close()
		if _, err := io.ReadAll(resp.Body); err == nil {
			l.Error("a response goes on after Close")
		}
		a.waitForConnections(l.T, "the connection is closed", 0)
	})
}
