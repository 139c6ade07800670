package grpcx_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// proxyTest makes the test binary a client behind HTTPS_PROXY, which net/http reads once a process: its value is "ours" or
// "grpc's", the dial options to use, followed by the addresses to call.
const proxyTest = "ROLLCALL_TEST_BEHIND_PROXY"

// proxy passes connections on, as an HTTP proxy does for CONNECT.
func proxy(t *testing.T) (address string) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { lis.Close(); work.Wait() })
	work.Go(func() {
		for {
			client, err := lis.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer client.Close()
				from := bufio.NewReader(client)
				req, err := http.ReadRequest(from)
				if err != nil {
					return
				}
				server, err := net.Dial("tcp", req.Host)
				if err != nil {
					return
				}
				defer server.Close()
				fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n")
				work.Go(func() { io.Copy(server, from); server.Close() })
				io.Copy(client, server)
			})
		}
	})
	return lis.Addr().String()
}

// With HTTPS_PROXY set, a round_robin of gRPC's own sends every call to one backend; the defaults of NewClient do not.
func TestNewClient_IgnoresHTTPSProxy(t *testing.T) {
	var backends []*backend
	var addresses []string
	for range 3 {
		b := newBackend(t).serve(t)
		backends = append(backends, b)
		// gRPC asks the proxy for no loopback address, unless it does not see that it is one.
		addresses = append(addresses, strings.Replace(b.address(), "127.0.0.1", "LOCALHOST", 1))
	}
	env := "HTTPS_PROXY=http://" + proxy(t)
	for options, want := range map[string]int{"ours": 3, "grpc's": 1} {
		for _, b := range backends {
			b.calls.Store(0)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), env, proxyTest+"="+options+" "+strings.Join(addresses, " "))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		called := 0
		for _, b := range backends {
			if b.calls.Load() > 0 {
				called++
			}
		}
		if called != want {
			t.Errorf("behind a proxy and with %s options %d of 3 backends were called, want %d", options, called, want)
		}
	}
}

// behindProxy makes calls until all backends have answered, or two hundred.
func behindProxy(arguments string) int {
	fields := strings.Fields(arguments)
	ctx, cancel := context.WithTimeout(context.Background(), watchtest.Timeout)
	defer cancel()
	store := memory.New()
	defer store.Close()
	for _, address := range fields[1:] {
		if _, err := store.Register(ctx, registry.Instance{Service: service, Address: address}); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	creds := grpc.WithTransportCredentials(insecure.NewCredentials())
	conn, err := grpcx.NewClient(target, store, creds)
	if fields[0] != "ours" {
		conn, err = grpc.NewClient(target, creds, grpc.WithResolvers(grpcx.NewBuilder(store, grpcx.ResolverConfig{})),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer conn.Close()
	answered := map[string]bool{}
	for range 200 {
		who, err := call(ctx, conn, grpc.WaitForReady(true))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if answered[who] = true; len(answered) == 3 {
			return 0
		}
		time.Sleep(time.Millisecond) // the other connections are being made
	}
	return 0
}
