package connect_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/rollcall-go/rollcall/httpx"
	pingv1 "github.com/rollcall-go/rollcall/interop/connect/ping/v1"
	"github.com/rollcall-go/rollcall/interop/connect/ping/v1/pingv1connect"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// pinger is the server.
type pinger struct {
	name  string
	calls map[string]int // by the text of the request; tests call one after another
}

func (p *pinger) Ping(_ context.Context, r *connect.Request[pingv1.PingRequest]) (*connect.Response[pingv1.PingResponse], error) {
	p.calls[r.Msg.Text]++
	return connect.NewResponse(&pingv1.PingResponse{Text: p.name + " " + r.Msg.Text}), nil
}

func (p *pinger) Count(_ context.Context, r *connect.Request[pingv1.PingRequest], stream *connect.ServerStream[pingv1.PingResponse]) error {
	for i := range len(r.Msg.Text) {
		if err := stream.Send(&pingv1.PingResponse{Text: r.Msg.Text[:i+1]}); err != nil {
			return err
		}
	}
	return nil
}

// serve starts an instance of the service ping. It speaks HTTP/1.1, and HTTP/2 without TLS.
func serve(reg registry.Registrar, name string) (*httptest.Server, error) {
	mux := http.NewServeMux()
	mux.Handle(pingv1connect.NewPingServiceHandler(&pinger{name: name, calls: map[string]int{}}))
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	_, err := reg.Register(context.Background(), registry.Instance{ID: name, Service: "ping", Address: s.Listener.Addr().String()})
	return s, err
}

func Example() {
	reg := memory.New() // in production: consul.New or etcd.New
	defer reg.Close()
	server, err := serve(reg, "ping-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client := pingv1connect.NewPingServiceClient(httpx.NewClient(reg), "http://ping")
	answer, err := client.Ping(context.Background(), connect.NewRequest(&pingv1.PingRequest{Text: "hello"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Msg.Text)
	// Output: ping-1 hello
}

// start starts two instances.
func start(t *testing.T) (*memory.Registry, []*httptest.Server) {
	t.Helper()
	reg := memory.New()
	t.Cleanup(func() { reg.Close() })
	var all []*httptest.Server
	for _, name := range []string{"ping-1", "ping-2"} {
		s, err := serve(reg, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		all = append(all, s)
	}
	return reg, all
}

func TestClient_SpreadsCallsOfEachProtocol(t *testing.T) {
	reg, _ := start(t)
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	for name, c := range map[string]struct {
		base    *http.Transport
		options []connect.ClientOption
	}{
		"Connect":  {nil, nil},
		"GET":      {nil, []connect.ClientOption{connect.WithHTTPGet()}},
		"gRPC-Web": {nil, []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC":     {h2c, []connect.ClientOption{connect.WithGRPC()}},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &httpx.Transport{Discovery: reg, Base: c.base}
			defer transport.Close()
			client := pingv1connect.NewPingServiceClient(&http.Client{Transport: transport}, "http://ping", c.options...)
			got := map[string]int{}
			for range 10 {
				answer, err := client.Ping(t.Context(), connect.NewRequest(&pingv1.PingRequest{Text: "hello"}))
				if err != nil {
					t.Fatal(err)
				}
				got[answer.Msg.Text]++
			}
			if len(got) != 2 || got["ping-1 hello"] != 5 {
				t.Errorf("the calls were answered by %v", got)
			}
			stream, err := client.Count(t.Context(), connect.NewRequest(&pingv1.PingRequest{Text: "abc"}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			var texts []string
			for stream.Receive() {
				texts = append(texts, stream.Msg().Text)
			}
			if err := stream.Err(); err != nil || strings.Join(texts, " ") != "a ab abc" {
				t.Errorf("the stream has %q, %v", texts, err)
			}
		})
	}
}

func TestClient_CallsGoOnAfterACrash(t *testing.T) {
	reg, all := start(t)
	httpClient := httpx.NewClient(reg)
	defer httpClient.Transport.(*httpx.Transport).Close()
	client := pingv1connect.NewPingServiceClient(httpClient, "http://ping")
	ping := func() error {
		_, err := client.Ping(t.Context(), connect.NewRequest(&pingv1.PingRequest{Text: "hello"}))
		return err
	}
	for range 4 {
		if err := ping(); err != nil {
			t.Fatal(err)
		}
	}
	all[0].CloseClientConnections()
	all[0].Close()
	// A POST may be on its way over the connection that the crash has cut. It is not sent again, since the server may have executed it.
	var failures []error
	for range 20 {
		if err := ping(); err != nil {
			failures = append(failures, err)
		}
	}
	if len(failures) > 1 {
		t.Errorf("%d calls failed: %v", len(failures), failures)
	}
}

func TestClient_UnknownServiceIsUnavailable(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	client := pingv1connect.NewPingServiceClient(httpx.NewClient(reg), "http://ping")
	_, err := client.Ping(t.Context(), connect.NewRequest(&pingv1.PingRequest{}))
	var typed *registry.Error
	if connect.CodeOf(err) != connect.CodeUnavailable || !errors.As(err, &typed) || !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
}
