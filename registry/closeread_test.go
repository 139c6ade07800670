package registry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestClose_WaitsLittleForARead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &deaf{fake: newFake(), decoding: make(chan struct{})}
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		start := time.Now()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took >= time.Second {
			t.Errorf("Close took %v", took)
		}
		<-w.Done()
		d.mu.Lock()
		closed := d.closed
		d.mu.Unlock()
		if closed != 0 {
			t.Error("the driver is closed under a read")
		}
		close(d.decoding)
		synctest.Wait()
		if d.closed != 1 || d.sourcesClosed != 1 {
			t.Errorf("when the read has ended the driver was closed %d times and its source %d times, want 1 and 1", d.closed, d.sourcesClosed)
		}
	})
}

// deaf is a fake whose sources decode for as long as the test wants, and ignore their context.
type deaf struct {
	*fake
	decoding chan struct{}
}

type deafSource struct {
	registry.Source
	d *deaf
}

func (d *deaf) Watch(q registry.Query) registry.Source { return &deafSource{d.fake.Watch(q), d} }

func (s *deafSource) Next(context.Context) (registry.Set, error) {
	<-s.d.decoding
	return registry.Set{}, nil
}
