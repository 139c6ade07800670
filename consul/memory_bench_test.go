package consul

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// answers is a transport that answers each read of a service with its body. A read that waits for a change ends with its context.
type answers map[string][]byte

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if isBlocking(r) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	h := http.Header{}
	h.Set("X-Consul-Index", "10")
	h.Set("X-Consul-LastContact", "0")
	h.Set("X-Consul-KnownLeader", "true")
	body := a[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

// answerOf returns an answer with n instances, as an agent writes it. own are pairs of metadata that the instance i has to itself.
func answerOf(service string, n int, own func(i int) string) []byte {
	var b bytes.Buffer
	b.WriteString("[")
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		address := fmt.Sprintf("10.1.%d.%d", i/256, i%256)
		id := fmt.Sprintf("%s:%s-%s-8080", service, service, address)
		fmt.Fprintf(&b, `{"Node":{"ID":"4a1c7f0e-7d8a-2f0b-9c61-1d8f0a6b2c3d","Node":"node-%[1]d","Address":"10.0.0.1","Datacenter":"dc1",`+
			`"TaggedAddresses":{"lan":"10.0.0.1","lan_ipv4":"10.0.0.1","wan":"10.0.0.1","wan_ipv4":"10.0.0.1"},"Meta":{"consul-network-segment":"","consul-version":"1.21.4"},"CreateIndex":13,"ModifyIndex":15},`+
			`"Service":{"ID":%[2]q,"Service":%[3]q,"Tags":["http","blue"],"Address":%[4]q,"TaggedAddresses":{"lan_ipv4":{"Address":%[4]q,"Port":8080},"wan_ipv4":{"Address":%[4]q,"Port":8080}},`+
			`"Meta":{%[5]s"build":"4711","commit":"9fceb02d0ae598e95dc970b74767f19372d61af8",%[6]q:"ABCDEFGHIJKLMNOPQRSTUVWXYZ","team":"payments","version":"1.4.2","zone":"eu-1a"},`+
			`"Port":8080,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"PeerName":"","CreateIndex":%[7]d,"ModifyIndex":%[7]d},`+
			`"Checks":[{"Node":"node-%[1]d","CheckID":"rollcall:%[1]d","Name":"Rollcall","Status":"passing","Notes":"","Output":"","ServiceID":%[2]q,"ServiceName":%[3]q,"ServiceTags":["http","blue"],"Type":"ttl","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"PeerName":"","CreateIndex":%[7]d,"ModifyIndex":%[7]d}]}`,
			i, id, service, address, own(i), codec.MetaOwner, 20+i)
	}
	b.WriteString("]")
	return b.Bytes()
}

// BenchmarkMemory measures the memory of a watch for each instance of its set: the set, and what is kept to read the next answer. The metadata of
// all instances are equal, or each has its own pod and start time as well. Run
//
//	go test -run '^$' -bench Memory -benchtime 3x ./consul
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for _, kind := range []struct {
			name string
			own  func(i int) string
		}{
			{"Equal", func(int) string { return "" }},
			{"Own", func(i int) string {
				started := time.Unix(1.7e9+int64(i)*7, 0).UTC().Format(time.RFC3339)
				return fmt.Sprintf(`"pod":"web-6d4cf56db6-%05d","started":%q,`, i, started)
			}},
		} {
			b.Run(fmt.Sprintf("%s-%d", kind.name, n), func(b *testing.B) {
				from := answers{"web": answerOf("web", n, kind.own), "few": answerOf("few", 1, kind.own)}
				var sizes []float64
				for range b.N {
					d, err := newDriver(Config{Address: "127.0.0.1:1"})
					if err != nil {
						b.Fatal(err)
					}
					if err := d.agent.SetTransport(from); err != nil {
						b.Fatal(err)
					}
					r := watchtest.NewRegistry(b, d, registry.Options{})
					sizes = append(sizes, watchtest.InstanceSize(b, r, "few", "web", n))
					r.Close()
				}
				b.ReportMetric(middle(sizes), "B/instance") // the first round can free what an earlier benchmark has left
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
