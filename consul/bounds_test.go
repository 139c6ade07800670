package consul

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/codectest"
	"github.com/rollcall-go/rollcall/internal/raced"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// repeated reads as head, and then as text n times, or for ever if n is negative.
type repeated struct {
	head, text string
	n          int
	rest       string
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.head != "" {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if r.rest == "" {
		if r.n == 0 {
			return 0, io.EOF
		}
		times := max(1, min(len(p)/len(r.text), 1<<12))
		if r.n > 0 {
			times = min(times, r.n)
			r.n -= times
		}
		r.rest = strings.Repeat(r.text, times)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// flood answers each read with a body that is made anew.
func flood(t *testing.T, status int, zipped bool, body func() io.Reader) string {
	t.Helper()
	var packed bytes.Buffer
	if zipped {
		z := gzip.NewWriter(&packed)
		if _, err := io.Copy(z, body()); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes are sent", packed.Len())
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status/leader" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Consul-Index", "10")
		w.Header().Set("X-Consul-LastContact", "0")
		if zipped {
			w.Header().Set("Content-Encoding", "gzip")
		}
		w.WriteHeader(status)
		if zipped {
			_, _ = w.Write(packed.Bytes())
			return
		}
		_, _ = io.Copy(w, body())
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// heapDuring returns the largest size of the heap of the process while f ran, in bytes.
func heapDuring(f func()) uint64 {
	now := func() uint64 {
		all := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(all)
		return all[0].Value.Uint64() - all[1].Value.Uint64()
	}
	var most uint64
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, now())
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	f()
	close(done)
	work.Wait()
	return most
}

const mostMemory = 512 << 20

func TestNext_BoundsAnAnswer(t *testing.T) {
	if raced.Enabled {
		t.Skip("it reads hundreds of MiB, which takes minutes with the race detector: internal/hostile runs it without")
	}
	of := func(head, text string, n int) func() io.Reader {
		return func() io.Reader { return &repeated{head: head, text: text, n: n} }
	}
	small := codectest.Entry("a", "")
	tags := func(n int) string { return codectest.Entry("a", `,"Tags":["`+strings.Repeat(`","`, n)+`"]`) }
	for name, c := range map[string]struct {
		status int
		zipped bool
		body   func() io.Reader
		want   string
	}{
		"endless entries":              {200, false, of("["+small, ","+small, -1), "more than 200000 entries"},
		"endless empty entries":        {200, false, of("[{}", ",{}", -1), ""},
		"endless space":                {200, false, of("[", " ", -1), "more than 134217728 bytes"},
		"endless space after the end":  {200, false, of("["+small+"]", " ", -1), "more than 134217728 bytes"},
		"an endless tag":               {200, false, of(`[{"Service":{"Tags":["`, "a", -1), "more than 134217728 bytes"},
		"an endless tag of quotes":     {200, false, of(`[{"Service":{"Tags":["`, `\\\"`, -1), "more than 134217728 bytes"},
		"endless depth":                {200, false, of("", "[", -1), "more than 134217728 bytes"},
		"entries with endless tags":    {200, false, of("["+tags(10_000), ","+tags(10_000), -1), "more than 2000000 tags"},
		"a packed body of empty ones":  {200, true, of("[{}", ",{}", 10<<20), ""},
		"a packed body of entries":     {200, true, of("["+small, ","+small, 1<<20), "more than 200000 entries"},
		"a packed body of space":       {200, true, of("[", " ", 160<<20), "more than 134217728 bytes"},
		"an endless error":             {500, false, of("", "words ", -1), "more than 65536 bytes"},
		"an endless refusal":           {403, false, of("", "words ", -1), "more than 65536 bytes"},
		"a packed error":               {500, true, of("", "words ", 4<<20), "more than 65536 bytes"},
		"an error with a line for all": {500, false, of("", "\n", -1), "more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := newDriver(Config{Address: flood(t, c.status, c.zipped, c.body), Timeout: watchtest.Timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			began := time.Now()
			most := heapDuring(func() { _, err = d.Watch(registry.Query{Service: "s"}).Next(t.Context()) })
			t.Logf("after %v, with at most %d MiB: %v", time.Since(began), most>>20, err)
			want := registry.ErrUnavailable
			if c.status == http.StatusForbidden {
				want = registry.ErrDenied
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 2*scrub.MaxLine {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
			if most > mostMemory {
				t.Errorf("there were %d MiB in use", most>>20)
			}
		})
	}
}

func TestServices_BoundsAnAnswer(t *testing.T) {
	if raced.Enabled {
		t.Skip("it reads hundreds of MiB, which takes minutes with the race detector: internal/hostile runs it without")
	}
	for name, body := range map[string]func() io.Reader{
		"an endless name": func() io.Reader { return &repeated{head: `{"`, text: "a", n: -1} },
		"endless tags":    func() io.Reader { return &repeated{head: `{"a":[""`, text: `,""`, n: -1} },
		"endless space":   func() io.Reader { return &repeated{text: " ", n: -1} },
	} {
		t.Run(name, func(t *testing.T) {
			d, err := newDriver(Config{Address: flood(t, http.StatusOK, false, body), Timeout: watchtest.Timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			most := heapDuring(func() { _, err = d.Services(t.Context()) })
			if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "more than 16777216 bytes") {
				t.Errorf("the error is %v", err)
			}
			if most > mostMemory {
				t.Errorf("there were %d MiB in use", most>>20)
			}
		})
	}
}

// A service with 50,000 instances is below the bounds.
func TestNext_TakesALargeService(t *testing.T) {
	const n = 50_000
	body := func() io.Reader {
		r, w := io.Pipe()
		go func() {
			text := "["
			for i := range n {
				e := fmt.Sprintf(`{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"s:%d","Service":"s","Port":80,"Tags":["a","b"],"Meta":{"k":"v"}},"Checks":[{"Output":"`, i)
				text += e + strings.Repeat("x", 1496-len(e)) + `"}]}`
				_, _ = io.WriteString(w, text)
				text = ","
			}
			_, _ = io.WriteString(w, "]")
			w.Close()
		}()
		return r
	}
	d, err := newDriver(Config{Address: flood(t, http.StatusOK, false, body), Timeout: watchtest.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var set []*registry.Instance
	most := heapDuring(func() {
		var got registry.Set
		got, err = d.Watch(registry.Query{Service: "s"}).Next(t.Context())
		set = got.Instances
	})
	if len(set) != n || err != nil || set[n-1].ID != fmt.Sprint(n-1) {
		t.Errorf("there are %d instances, %v", len(set), err)
	}
	t.Logf("%d MiB at the most", most>>20)
}

// drip writes one byte after another, with pauses, until the client has gone.
func drip(t *testing.T, status int, head string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status/leader" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Consul-Index", "10")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, head)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// A read that waits for a change may take minutes, but its answer must arrive at once.
func TestNext_EndsAnAnswerThatTrickles(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusInternalServerError} {
		d, err := newDriver(Config{Address: drip(t, status, "["), Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		src := d.newSource(registry.Query{Service: "s"})
		for _, index := range []uint64{0, 10} {
			began := time.Now()
			_, err = src.read(t.Context(), index, false)
			if !errors.Is(err, registry.ErrUnavailable) || time.Since(began) > watchtest.Timeout/2 {
				t.Errorf("status %d, index %d: after %v the error is %v", status, index, time.Since(began), err)
			}
			if index > 0 && status == http.StatusOK && !strings.Contains(err.Error(), "not complete within 200ms") {
				t.Errorf("the error is %v", err)
			}
		}
	}
}

// Close does not wait for the end of an answer, at the beginning of it or later.
func TestClose_DuringALargeAnswer(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"a large tag": func() io.Reader { return &repeated{head: `[{"Service":{"Tags":["`, text: "a", n: -1} },
		"many entries": func() io.Reader {
			return &repeated{head: "[" + codectest.Entry("a", ""), text: "," + codectest.Entry("a", ""), n: -1}
		},
		"space": func() io.Reader { return &repeated{text: " ", n: -1} },
		"large entries": func() io.Reader {
			e := codectest.Entry("a", `,"Tags":["`+strings.Repeat(`","`, 1<<20)+`"]`)
			return &repeated{head: "[" + e, text: "," + e, n: -1}
		},
	} {
		t.Run(name, func(t *testing.T) {
			reading := make(chan struct{})
			src := flood(t, http.StatusOK, false, func() io.Reader {
				return &signalling{r: body(), after: 5 << 20, reached: reading}
			})
			r := open(t, Config{Address: src, Timeout: 2 * watchtest.Timeout, Options: registry.Options{CloseTimeout: 2 * watchtest.Timeout}})
			done := make(chan error, 1)
			go func() {
				_, err := r.Lookup(context.Background(), registry.Query{Service: "s"})
				done <- err
			}()
			select {
			case <-reading:
			case err := <-done:
				t.Fatalf("the lookup has ended before, with %v", err)
			}
			closesAtOnce(t, r)
			<-done
		})
	}
}

// signalling closes a channel once so many bytes were read.
type signalling struct {
	r       io.Reader
	after   int
	reached chan struct{}
}

func (s *signalling) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.after > 0 && s.after <= n {
		close(s.reached)
	}
	s.after -= n
	return n, err
}
