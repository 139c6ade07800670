package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRate(10)
		time.Sleep(time.Hour) // without a read, which earns no more than a second's worth
		began := time.Now()
		var work sync.WaitGroup
		for range 35 {
			work.Go(func() {
				if err := r.wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if took := time.Since(began); took != 2500*time.Millisecond {
			t.Errorf("35 reads at 10 a second took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reader that gave up got %v", err)
		}
	})
}

// Whoever gave up has read nothing, so nobody waits for it.
func TestARateLeftByManyIsThereForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRate(10)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			var work sync.WaitGroup
			for range 50 {
				work.Go(func() { r.wait(ctx) })
			}
			work.Wait()
			cancel()
		}
		began := time.Now()
		if err := r.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("one that waits for its turn waited %v", took)
		}
	})
}

func TestNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := newRate(0)
		for range 1000 {
			if err := r.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("without a bound it took %v", took)
		}
	})
}

// The bound holds for all that a client reads: watches, lookups and lists together.
func TestRateOfAClient(t *testing.T) {
	clearEnvironment(t)
	var reads atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", fmt.Sprint(10+reads.Add(1))) // and never waits
		if strings.Contains(r.URL.Path, "/catalog/") {
			fmt.Fprint(w, "{}")
			return
		}
		fmt.Fprint(w, set("", "a").body)
	}))
	defer srv.Close()
	const perSecond = 20
	d, err := newDriver(Config{Address: srv.URL, Rate: perSecond})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	began := time.Now()
	var work sync.WaitGroup
	for i := range 3 {
		work.Go(func() {
			src := d.Follow(registry.Query{Service: fmt.Sprint("s", i)})
			for range perSecond {
				if got := next(t, src); got != "a" {
					t.Error(got)
				}
			}
		})
	}
	if _, err := d.Services(t.Context()); err != nil {
		t.Error(err)
	}
	work.Wait()
	// A second's worth comes at once.
	if took := time.Since(began); reads.Load() != 3*perSecond+1 || took < 2*time.Second {
		t.Errorf("%d reads took %v, want no more than %d a second", reads.Load(), took, perSecond)
	}
}
