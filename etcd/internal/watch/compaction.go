package watch

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/rollcall-go/rollcall/registry"
)

// ended returns why etcd has ended the watch with answer: etcd was compacted, or it refuses the watch. The source then reads the whole set
// again.
func (w *Watch) ended(answer *pb.WatchResponse) error {
	if answer.CompactRevision > 0 {
		return w.conn.Unavailable(w.what, fmt.Sprintf("etcd was compacted at revision %d while the watch was at %d", answer.CompactRevision, w.start))
	}
	return w.conn.Failure(w.kindOf(answer.CancelReason), w.what, "etcd ended the watch: "+answer.CancelReason)
}

// kindOf returns the kind of error for a reason, which etcd gives as text only.
func (w *Watch) kindOf(reason string) error {
	for _, denied := range []error{rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCUserEmpty} {
		if reason == denied.Error() {
			return registry.ErrDenied
		}
	}
	return registry.ErrUnavailable
}
