package testbed

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// sees waits until the client agent finds the service in its catalog under the parameters.
func (c *ConsulCluster) sees(service, parameters string) {
	c.tb.Helper()
	c.until("the service is seen", func(ctx context.Context) error {
		var found []struct{ Service struct{ Address string } }
		err := c.rest(ctx, http.MethodGet, "/v1/health/service/"+service+parameters, nil, &found)
		if err == nil && (len(found) != 1 || found[0].Service.Address != "10.0.0.9") {
			err = errors.New("it is not there")
		}
		return err
	})
}

func (c *ConsulCluster) register(service string) {
	c.tb.Helper()
	err := c.rest(context.Background(), http.MethodPut, "/v1/agent/service/register", map[string]string{"Name": service, "Address": "10.0.0.9"}, nil)
	if err != nil {
		c.tb.Fatal(err)
	}
}

func TestStartConsulDatacenters_ReadEachOther(t *testing.T) {
	t.Parallel()
	dc1, dc2 := StartConsulDatacenters(t)
	dc1.register("one")
	dc2.register("two")
	dc2.sees("one", "?dc=dc1")
	dc1.sees("two", "?dc=dc2")
}

func TestStartConsulPeers_ReadExportedServices(t *testing.T) {
	t.Parallel()
	near, far := StartConsulPeers(t)
	far.register("s")
	near.sees("s", "?peer=far")
}
