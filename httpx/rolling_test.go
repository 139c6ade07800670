package httpx_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// traffic makes requests, GET and POST in turn, until it is stopped.
type traffic struct {
	work     sync.WaitGroup
	stop     chan struct{}
	requests atomic.Int64
	failed   atomic.Int64

	mu       sync.Mutex
	executed map[string]int // how often servers got each POST
	errors   []error
}

func (f *traffic) handle(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if r.Method == http.MethodPost && err == nil {
		f.mu.Lock()
		f.executed[string(text)]++
		f.mu.Unlock()
	}
}

func (f *traffic) start(client *http.Client, url string) {
	for i := range 8 {
		f.work.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-f.stop:
					return
				default:
				}
				f.request(client, url, strconv.Itoa(i)+"-"+strconv.Itoa(j), j%2 == 0)
			}
		})
	}
}

func (f *traffic) request(client *http.Client, url, id string, isGet bool) {
	f.requests.Add(1)
	var err error
	if isGet {
		_, err = read(client.Get(url))
	} else {
		_, err = read(client.Post(url, "", io.NopCloser(strings.NewReader(id))))
	}
	if err != nil {
		f.failed.Add(1)
		f.mu.Lock()
		f.errors = append(f.errors, err)
		f.mu.Unlock()
	}
}

// more waits for further requests.
func (f *traffic) more(t *testing.T, n int64) {
	want := f.requests.Load() + n
	watchtest.Eventually(t, "requests go on", func() bool { return f.requests.Load() >= want })
}

func newTraffic() *traffic { return &traffic{stop: make(chan struct{}), executed: map[string]int{}} }

func (f *traffic) end(t *testing.T, mayFail int64) {
	t.Helper()
	close(f.stop)
	f.work.Wait()
	if got := f.failed.Load(); got > mayFail {
		t.Errorf("%d of %d requests failed, such as %v", got, f.requests.Load(), f.errors[0])
	}
	for id, times := range f.executed {
		if times > 1 {
			t.Errorf("POST %s was executed %d times", id, times)
		}
	}
}

func TestTransport_RollingRestartFailsNothing(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		f := newTraffic()
		client := l.client(&httpx.Transport{MaxAttempts: 1})
		var all []*listener
		for range 5 {
			all = append(all, l.listen(f.handle))
		}
		f.start(client, l.url("/"))
		f.more(l.T, 100)
		tr := client.Transport.(*httpx.Transport)
		for _, s := range all {
			l.listen(f.handle)
			l.leave(s)
			address := s.Listener.Addr().String()
			watchtest.Eventually(l.T, "the client does not use the instance", func() bool {
				for _, in := range tr.Snapshot().Services[0].Instances {
					if in.Address == address {
						return false
					}
				}
				return true
			})
			s.waitForConnections(l.T, "the instance has no connection", 0)
			if err := s.Config.Shutdown(watchtest.Context(l.T)); err != nil {
				l.Error(err)
			}
			f.more(l.T, 100)
		}
		f.end(l.T, 0)
	})
}

func TestTransport_CrashFailsOnlyWhatIsInFlight(t *testing.T) {
	onLoopback(t, func(l *loopback) {
		f := newTraffic()
		client := l.client(&httpx.Transport{})
		l.listen(f.handle)
		l.listen(f.handle)
		crashes := l.listen(f.handle)
		f.start(client, l.url("/"))
		f.more(l.T, 100)
		crashes.Listener.Close()
		crashes.CloseClientConnections()
		f.more(l.T, 1000)
		f.end(l.T, 8) // each of the senders may have had a POST in flight
	})
}

func TestTransport_RegistryOutageUnderLoadFailsNothing(t *testing.T) {
	l := &loopback{T: t, protocol: protocols[0]}
	store := memory.New()
	t.Cleanup(func() { store.Close() })
	l.reg = store
	f := newTraffic()
	for range 3 {
		l.listen(f.handle)
	}
	client, reader := l.client(&httpx.Transport{MaxAttempts: 1}), store.Client()
	t.Cleanup(func() { reader.Close() })
	tr := client.Transport.(*httpx.Transport)
	tr.Discovery = reader
	f.start(client, l.url("/"))
	f.more(t, 100)
	reader.Fail(registry.ErrUnavailable)
	watchtest.Eventually(t, "the outage is noticed", func() bool { return tr.Snapshot().Services[0].Err != "" })
	f.more(t, 1000)
	reader.Heal()
	f.end(t, 0)
}
