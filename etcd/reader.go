package etcd

import (
	"context"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// batch is what a watch says at once; an error is the last.
type batch struct {
	changes  []*mvccpb.Event
	revision int64
	err      error
}

// readAhead is how many batches are taken from the network before the source asks for them.
const readAhead = 64

// reader takes what a watch says, so that a source can wait for other things beside.
type reader struct {
	watch   *watch
	batches chan batch
	over    chan struct{} // closed by close
	work    sync.WaitGroup
}

func startReader(w *watch) *reader {
	r := &reader{watch: w, batches: make(chan batch, readAhead), over: make(chan struct{})}
	r.work.Go(r.run)
	return r
}

func (r *reader) run() {
	for {
		changes, revision, err := r.watch.next(context.Background())
		select {
		case r.batches <- batch{changes, revision, err}:
		case <-r.over:
			return
		}
		if err != nil {
			return
		}
	}
}

// close ends the watch and the goroutine. It does not block on the store.
func (r *reader) close() {
	close(r.over)
	r.watch.close()
	r.work.Wait()
}
