package testbed

import (
	"context"
	"errors"
	"testing"
)

// StartEtcdLearner adds a learner to the cluster of e and blocks until it runs. A learner follows the others without a vote, and
// refuses nearly every call. It stays one: nothing promotes it. It fails the test if that does not happen, and ends with the test.
func StartEtcdLearner(tb testing.TB, e *Etcd) *Etcd {
	tb.Helper()
	l := &Etcd{name: uniqueName()}
	added := false
	l.server = server{
		tb: tb,
		configure: func() ([]string, error) {
			peers := "http://" + loopback(l.ports[1])
			if !added {
				question := map[string]any{"peerURLs": []string{peers}, "isLearner": true}
				if err := e.rpc(context.Background(), "/v3/cluster/member/add", question, &struct{}{}); err != nil {
					return nil, err
				}
				added = true
			}
			args, err := l.configure()
			return append(args, "--initial-cluster-state=existing",
				"--initial-cluster="+e.name+"=http://"+loopback(e.ports[1])+","+l.name+"="+peers), err
		},
		ready: func(ctx context.Context) error {
			var status struct {
				IsLearner bool
				Leader    string
			}
			if err := l.rpc(ctx, "/v3/maintenance/status", nil, &status); err != nil {
				return err
			}
			if !status.IsLearner || status.Leader == "" || status.Leader == "0" {
				return errors.New("it is no learner with a leader")
			}
			return nil
		},
	}
	l.launch(&etcdProgram, 2)
	return l
}
