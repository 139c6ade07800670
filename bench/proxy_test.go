package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

func TestProxy_CountsRequests(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer web.Close()
	p, err := newProxy(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client := &http.Client{Transport: &http.Transport{}}
	for i := range 5 {
		// A body that looks like a request is none.
		answer, err := client.Post("http://"+p.address(), "text/plain", bytes.NewReader(bytes.Repeat([]byte("x GET / "), 1+i)))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	if c := p.counts(); c.requests != 5 || c.connections != 1 || c.open != 1 || c.bytes == 0 {
		t.Errorf("%+v, want 5 requests over 1 connection", c)
	}
	client.CloseIdleConnections()
}

func TestProxy_CountsMessages(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gs := grpc.NewServer()
	pb.RegisterTestServiceServer(gs, testService{})
	go gs.Serve(lis)
	defer gs.Stop()
	p, err := newProxy(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	cc, err := grpc.NewClient(p.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for range 7 {
		if _, err := pb.NewTestServiceClient(cc).EmptyCall(context.Background(), &pb.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	if c := p.counts(); c.requests != 7 || c.connections != 1 {
		t.Errorf("%+v, want 7 messages over 1 connection", c)
	}
	p.sever()
	if _, err := pb.NewTestServiceClient(cc).EmptyCall(context.Background(), &pb.Empty{}); err == nil {
		t.Error("a call got through a severed connection")
	}
	p.mend()
	if _, err := pb.NewTestServiceClient(cc).EmptyCall(context.Background(), &pb.Empty{}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}

// Frames are counted however the bytes are cut.
func TestRequestCounter_CountsFrames(t *testing.T) {
	var sent []byte
	sent = append(sent, preface...)
	frame := func(kind byte, n int) {
		sent = append(sent, byte(n>>16), byte(n>>8), byte(n), kind, 0, 0, 0, 0, 1)
		sent = append(sent, make([]byte, n)...)
	}
	want := int64(0)
	for i := range 50 {
		frame(1, i) // HEADERS
		frame(0, i*7)
		frame(0, 0) // the end of a stream
		if i > 0 {
			want++
		}
	}
	for range 20 {
		var n atomic.Int64
		c := &requestCounter{count: &n}
		for rest := sent; len(rest) > 0; {
			k := min(len(rest), 1+rand.IntN(200))
			c.Write(rest[:k])
			rest = rest[k:]
		}
		if n.Load() != want {
			t.Fatal(fmt.Sprint(n.Load(), " messages, want ", want))
		}
	}
}
