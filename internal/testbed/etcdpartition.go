package testbed

import (
	"context"
	"net/http"
	"strconv"
)

// EtcdClusterOptions changes how a cluster is set up. The zero value is one whose members talk to one another directly.
type EtcdClusterOptions struct {
	// Separable makes the members talk to one another through proxies, so that Separate can come between them. It costs
	// some speed.
	Separable bool
}

// Separate cuts a member off from the others, in both directions, and blocks no client: the others go on without it, and it
// finds that it has no leader. It lasts until Reunite. The cluster has to be Separable, and the member must run.
func (c *EtcdCluster) Separate(member *Etcd) {
	c.tb.Helper()
	id := c.peerID(member)
	for _, other := range c.Members {
		p := c.proxies[other]
		// What flows is cut first. The other two find each other again long before they miss each other.
		p.Refuse()
		if other == member {
			continue
		}
		p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("X-Server-From") != id {
				return false
			}
			w.WriteHeader(http.StatusBadGateway)
			return true
		})
	}
}

// Reunite ends what Separate began.
func (c *EtcdCluster) Reunite() {
	for _, p := range c.proxies {
		p.Heal()
	}
}

// peerID is how a member names itself to its peers.
func (c *EtcdCluster) peerID(member *Etcd) string {
	c.tb.Helper()
	if c.proxies == nil {
		c.tb.Fatal("testbed: the etcd cluster is not separable")
	}
	var status struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
	}
	if err := member.rpc(context.Background(), "/v3/maintenance/status", nil, &status); err != nil {
		c.tb.Fatalf("testbed: etcd: %v", err)
	}
	id, err := strconv.ParseUint(status.Header.MemberID, 10, 64)
	if err != nil {
		c.tb.Fatalf("testbed: etcd: member ID %q: %v", status.Header.MemberID, err)
	}
	return strconv.FormatUint(id, 16)
}
