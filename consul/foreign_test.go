package consul

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// foreignInstances are registrations as other frameworks send them to the agent, and the instances that they mean.
var foreignInstances = map[string]struct {
	body string
	want registry.Instance
}{
	"kratos": {
		`{"ID":"k-1","Name":"kratos","Tags":["version=v1.2","extra"],"Address":"10.0.0.7","Port":8000,"Meta":{"team":"x"},
		"TaggedAddresses":{"http":{"Address":"http://10.0.0.7:8000?isSecure=false","Port":8000},"grpc":{"Address":"grpc://10.0.0.7:9000?isSecure=false","Port":9000}}}`,
		registry.Instance{ID: "k-1", Service: "kratos", Address: "10.0.0.7:9000", Version: "v1.2", Tags: []string{"extra"}, Weight: 1,
			Endpoints: map[string]string{"http": "10.0.0.7:8000", "grpc": "10.0.0.7:9000"}, Metadata: map[string]string{"team": "x"}},
	},
	"kratos, HTTP alone, no version, IPv6": {
		`{"ID":"k-2","Name":"kratos-http","Tags":["version="],"Address":"2001:db8::7","Port":8000,
		"TaggedAddresses":{"http":{"Address":"http://[2001:db8::7]:8000","Port":8000}}}`,
		registry.Instance{ID: "k-2", Service: "kratos-http", Address: "[2001:db8::7]:8000", Weight: 1,
			Endpoints: map[string]string{"http": "[2001:db8::7]:8000"}},
	},
	"a URL that cannot be used": {
		`{"ID":"k-3","Name":"broken","Address":"10.0.0.7","Port":8000,"TaggedAddresses":{"grpc":{"Address":"grpc://:x","Port":1}}}`,
		registry.Instance{ID: "k-3", Service: "broken", Address: "10.0.0.7:8000", Weight: 1},
	},
	"kitex": {
		`{"ID":"kitex:10.0.0.8:8888","Name":"kitex","Tags":["env:prod","url:http://x","odd"],"Address":"10.0.0.8","Port":8888,"Weights":{"Passing":7,"Warning":7}}`,
		registry.Instance{ID: "10.0.0.8:8888", Service: "kitex", Address: "10.0.0.8:8888", Weight: 7, Tags: []string{"env:prod", "url:http://x", "odd"},
			Metadata: map[string]string{"env": "prod", "url": "http://x"}},
	},
	"Spring Cloud": {
		`{"ID":"myApp-8080","Name":"myApp","Tags":["a","b"],"Address":"10.0.0.9","Port":8080,"Meta":{"secure":"false","zone":"z1","group":"g","my":"own"}}`,
		registry.Instance{ID: "myApp-8080", Service: "myApp", Address: "10.0.0.9:8080", Zone: "z1", Weight: 1, Tags: []string{"a", "b"},
			Metadata: map[string]string{"secure": "false", "zone": "z1", "group": "g", "my": "own"}},
	},
	"plain, tags that look like tags of kratos and kitex": {
		`{"ID":"p-1","Name":"plain","Tags":["version=1","a:b"],"Address":"10.0.0.9","Port":80}`,
		registry.Instance{ID: "p-1", Service: "plain", Address: "10.0.0.9:80", Weight: 1, Tags: []string{"version=1", "a:b"}},
	},
}

func TestWatch_ReadsForeignInstances(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	for name, c := range foreignInstances {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPut, "http://"+agent.Addr()+"/v1/agent/service/register", strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Close = true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			p := watchtest.Watch(t, r, registry.Query{Service: c.want.Service}).Until("the instance", watchtest.Healthy(1))
			if !p.Set[0].Equal(&c.want) {
				t.Errorf("got  %+v\nwant %+v", p.Set[0], &c.want)
			}
		})
	}
}
