package rolling

import (
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestTransport_LosesNoRequestInRollingRestart(t *testing.T) {
	onEachBackend(t, func(t *testing.T, b *backend) {
		const servers = 5
		e := newExecutions()
		var fleet []*server
		for range servers {
			fleet = append(fleet, startServer(t, b, e))
		}
		reg := b.open(t)
		t.Cleanup(func() { reg.Close() })
		// Requests before all servers are registered may fail.
		watchtest.Watch(t, reg, registry.Query{Service: service}).Until("all servers", watchtest.Healthy(servers))
		l := startLoad(newClients(t, reg))
		for _, s := range fleet {
			s.answers(t)
		}
		for i, s := range fleet {
			s.leaves(t)
			fleet[i] = startServer(t, b, e)
			fleet[i].answers(t)
		}
		l.stop(t)
		l.failsNothing(t, e)
		for _, r := range l.all {
			if r.connections != 1 {
				t.Errorf("request %s with %s needed %d connections", r.id, r.client.name, r.connections)
			}
		}
		for _, s := range fleet {
			s.stop() // all at once, since the requests have ended
		}
	})
}
