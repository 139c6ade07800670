package watch

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/registry"
)

// The unread changes of all watches of a stream are bounded together, in bytes.
func TestStream_BoundsWhatIsQueued(t *testing.T) {
	c, streams := connect(t, "127.0.0.1:2379")
	st := new(stream)
	one := func() *Watch {
		w := streams.unopened("watch", "", "", 0)
		w.stream = st
		return w
	}
	first, second := one(), one()
	change := &pb.WatchResponse{Header: etcdtest.Header(7), Events: []*mvccpb.Event{{Kv: etcdtest.KeyValue("/rollcall/s/a", strings.Repeat("x", 1<<20))}}}
	const half = maxQueue >> 21
	for range half {
		first.enqueue(change)
	}
	if first.err != nil {
		t.Fatalf("%d MiB are too many: %v", half, first.err)
	}
	for range half {
		second.enqueue(change)
	}
	etcdtest.WantKind(t, c.Classify(t.Context(), "watch", 0, second.err), registry.ErrUnavailable)
	if first.err != nil || st.queued > maxQueue {
		t.Errorf("the other watch has %v, and %d bytes are queued", first.err, st.queued)
	}
}
