package httpx_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// staticList is a plain http.Client that goes round a list of addresses.
type staticList struct {
	addresses []string
	turn      atomic.Uint32
	transport *http.Transport
}

func (s *staticList) RoundTrip(req *http.Request) (*http.Response, error) {
	out, u := *req, *req.URL
	u.Host = s.addresses[s.turn.Add(1)%uint32(len(s.addresses))]
	out.URL = &u
	return s.transport.RoundTrip(&out)
}

// contenders returns a client over Transport and a plain one, for three servers.
func contenders(tb testing.TB) (ours, plain *http.Client) {
	reg := memory.New()
	tb.Cleanup(func() { reg.Close() })
	list := &staticList{transport: http.DefaultTransport.(*http.Transport).Clone()}
	list.transport.MaxIdleConnsPerHost = 100
	tb.Cleanup(list.transport.CloseIdleConnections)
	for range 3 {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "hello")
		})}
		go s.Serve(lis)
		tb.Cleanup(func() { s.Close() })
		watchtest.Register(tb, reg, registry.Instance{Service: service, Address: lis.Addr().String()})
		list.addresses = append(list.addresses, lis.Addr().String())
	}
	client := httpx.NewClient(reg)
	tb.Cleanup(func() { client.Transport.(*httpx.Transport).Close() })
	return client, &http.Client{Transport: list}
}

// request makes one request and reads the response.
func request(tb testing.TB, client *http.Client, method string) {
	var b io.Reader
	if method == http.MethodPost {
		b = strings.NewReader("hello")
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://greeter/hello", b)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := read(client.Do(req)); err != nil {
		tb.Error(err)
	}
}

func TestTransport_MakesAtMostTwoMoreAllocations(t *testing.T) {
	ours, plain := contenders(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		allocs := func(client *http.Client) float64 {
			for range 10 {
				request(t, client, method)
			}
			return testing.AllocsPerRun(1000, func() { request(t, client, method) })
		}
		// The static list itself allocates a request and a URL, which a client of one fixed address does not.
		const ofTheList = 2
		if got, base := allocs(ours), allocs(plain)-ofTheList; got > base+2.5 {
			t.Errorf("a %s allocates %v times, %v without Transport", method, got, base)
		}
	}
}

// BenchmarkTransport compares a Transport with a plain http.Client that goes round a static list. Both take turns, so that other
// programs on the machine slow both.
func BenchmarkTransport(b *testing.B) {
	ours, plain := contenders(b)
	const slice = 500
	took := map[*http.Client][]time.Duration{}
	spent := map[*http.Client]time.Duration{}
	for b.Loop() {
		for _, client := range []*http.Client{ours, plain} {
			began := time.Now()
			took[client] = append(took[client], slices.Concat(inParallel(b, client, slice)...)...)
			spent[client] += time.Since(began)
		}
	}
	for name, client := range map[string]*http.Client{"ours": ours, "plain": plain} {
		all := took[client]
		slices.Sort(all)
		b.ReportMetric(float64(len(all))/spent[client].Seconds(), "requests/s-"+name)
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "µs-p99-"+name)
	}
	b.ReportMetric(0, "ns/op")
}

// inParallel makes requests by several goroutines, and returns how long each took.
func inParallel(b *testing.B, client *http.Client, requests int) [][]time.Duration {
	took := make([][]time.Duration, 8)
	var work sync.WaitGroup
	for i := range took {
		work.Go(func() {
			for range requests {
				began := time.Now()
				request(b, client, http.MethodGet)
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	work.Wait()
	return took
}

// BenchmarkRequest has the time and the allocations of one request after another.
func BenchmarkRequest(b *testing.B) {
	ours, plain := contenders(b)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, c := range []struct {
			name   string
			client *http.Client
		}{{"Transport", ours}, {"static", plain}} {
			b.Run(method+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					request(b, c.client, method)
				}
			})
		}
	}
}
