package otel_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"slices"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel/callotel"
)

// Two of three servers have the stable version, and one has a canary version that fails. The counts of a client tell which.
func Example_canary() {
	reg := memory.New()
	defer reg.Close()
	for _, s := range []struct {
		version string
		fail    error
	}{{"1.4.0", nil}, {"1.4.0", nil}, {"1.5.0", status.Error(codes.Internal, "nil pointer")}} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		gs := grpc.NewServer()
		testpb.RegisterTestServiceServer(gs, server{fail: s.fail})
		go gs.Serve(lis)
		defer gs.Stop()
		in := registry.Instance{Service: "greeter", Address: lis.Addr().String(), Version: s.version}
		if _, err := reg.Register(context.Background(), in); err != nil {
			log.Fatal(err)
		}
	}

	reader := metric.NewManualReader()
	recorder, err := callotel.New(callotel.Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	if err != nil {
		log.Fatal(err)
	}
	defer recorder.Close()
	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(recorder.UnaryInterceptor))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for range 90 {
		_, _ = testpb.NewTestServiceClient(conn).EmptyCall(context.Background(), new(testpb.Empty), grpc.WaitForReady(true))
	}

	for _, line := range callsByVersion(reader) {
		fmt.Println(line)
	}
	// Output:
	// version 1.4.0: OK
	// version 1.5.0: INTERNAL
}

// callsByVersion lists with which status the calls to each version ended.
func callsByVersion(reader *metric.ManualReader) (lines []string) {
	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		log.Fatal(err)
	}
	for _, p := range data.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		version, _ := p.Attributes.Value("rollcall.instance.version")
		code, _ := p.Attributes.Value("rpc.response.status_code")
		lines = append(lines, fmt.Sprintf("version %s: %s", version.String(), code.String()))
	}
	slices.Sort(lines)
	return lines
}
