package httpx_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/registry"
)

func TestTransport_LeavesOutWhatCannotBeDialled(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		n.listen("b:1", nil)
		client := n.connected(nil, passing("a:1", "b:1", "c:1")...)
		count(client, 10)
		dials := n.dialled("c:1")
		if dials != 1 {
			n.Errorf("at first it is dialled %d times", dials)
		}
		if s := client.Transport.(*httpx.Transport).Snapshot().Services[0].Instances[2]; !s.LeftOut || s.RetryIn != time.Second || s.Connections != 0 {
			n.Errorf("the snapshot has %+v", s)
		}
		for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} { // seconds
			time.Sleep(pause*time.Second - time.Millisecond)
			count(client, 10)
			if got := n.dialled("c:1"); got != dials {
				n.Errorf("before %v s it was dialled %d times", int64(pause), got-dials)
			}
			time.Sleep(time.Millisecond)
			if got := count(client, 10); got["failed"] != 0 {
				n.Errorf("requests: %v", got)
			}
			if dials++; n.dialled("c:1") != dials {
				n.Errorf("after %v s it was dialled %d times, want once", int64(pause), n.dialled("c:1")-dials+1)
			}
		}
		n.listen("c:1", nil)
		time.Sleep(30 * time.Second)
		get(client)
		n.same("when it is back", count(client, 9), map[string]int{"a:1": 3, "b:1": 3, "c:1": 3})
	})
}

func TestTransport_TriesWhatWasLeftOutWithOneRequest(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		n.listen("b:1", nil)
		client := n.connected(nil, passing("a:1", "b:1", "c:1")...)
		count(client, 3)
		n.hang(true)
		time.Sleep(time.Second)
		began := time.Now()
		probe := make(chan error)
		go func() {
			_, err := get(client)
			probe <- err
		}()
		synctest.Wait()
		n.same("while it is tried", count(client, 10), map[string]int{"a:1": 5, "b:1": 5})
		if took := time.Since(began); took != 0 {
			n.Errorf("the others took %v", took)
		}
		if err := <-probe; err != nil || time.Since(began) != 5*time.Second {
			n.Errorf("after %v the request that tried it ends with %v", time.Since(began), err)
		}
	})
}

func TestTransport_LeavesOutNoMoreThanThePanicThreshold(t *testing.T) {
	for threshold, want := range map[float64]int{0: 1, 0.25: 2, -1: 2, 1: 0} {
		inANetwork(t, func(n *network) {
			n.listen("c:1", nil)
			client := n.connected(&httpx.Transport{PanicThreshold: threshold}, passing("a:1", "b:1", "c:1")...)
			if got := count(client, 30); got["c:1"] != 30 {
				n.Errorf("requests: %v", got)
			}
			before := n.dialled("a:1") + n.dialled("b:1")
			count(client, 30)
			if tried := n.dialled("a:1") + n.dialled("b:1") - before; (tried == 0) != (want == 2) || want == 0 && tried < 20 {
				n.Errorf("with PanicThreshold %v the instances that are away were dialled %d times", threshold, tried)
			}
		})
	}
}

func TestTransport_InstanceThatPassesAgainIsDialledAtOnce(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		n.listen("b:1", nil)
		client := n.connected(nil, passing("a:1", "b:1", "c:1")...)
		count(client, 3)
		n.says(nil, append(passing("a:1", "b:1"), critical("c:1")...)...)
		n.listen("c:1", nil)
		n.says(nil, passing("a:1", "b:1", "c:1")...)
		n.same("requests", count(client, 9), map[string]int{"a:1": 3, "b:1": 3, "c:1": 3})
	})
}

// Requests that run at the same time find out together that an instance has crashed. It counts once.
func TestTransport_CrashUnderLoadFailsOnlyWhatIsInFlight(t *testing.T) {
	inANetwork(t, func(n *network) {
		inFlight := make(chan bool)
		slow := func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == "/slow" {
				<-inFlight
			}
		}
		a := n.listen("a:1", slow)
		n.listen("b:1", nil)
		n.listen("c:1", nil)
		client := n.connected(nil, passing("a:1", "b:1", "c:1")...)
		failed := make(chan error, 100)
		post := func(path string) {
			resp, err := client.Post("http://greeter"+path, "", newBody("hello"))
			_, err = read(resp, err)
			failed <- err
		}
		for range 3 {
			go post("/slow")
		}
		synctest.Wait()
		go func() { // after the connections are closed, so that their requests have failed
			time.Sleep(time.Second)
			close(inFlight)
		}()
		n.crash(a)
		var work sync.WaitGroup
		for range 50 {
			work.Go(func() { post("/") })
		}
		work.Wait()
		failures := 0
		for range 53 {
			if <-failed != nil {
				failures++
			}
		}
		if failures != 1 || n.dialled("a:1") > 60 {
			n.Errorf("%d requests failed, want 1, which was in flight at a; a was dialled %d times", failures, n.dialled("a:1"))
		}
		if s := client.Transport.(*httpx.Transport).Snapshot().Services[0].Instances[0]; !s.LeftOut || s.RetryIn > time.Second {
			n.Errorf("the snapshot has %+v", s)
		}
	})
}

func TestTransport_HandshakeThatHangsIsAFailure(t *testing.T) {
	inANetwork(t, func(n *network) {
		lis := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		n.servers["a:1"] = &server{lis: lis} // accepts, and says nothing
		go func() {
			for {
				c, err := lis.Accept()
				if err != nil {
					return
				}
				go io.Copy(io.Discard, c)
			}
		}()
		defer lis.Close()
		tr := n.transport(nil)
		failed := make(chan error)
		began := time.Now()
		go func() {
			_, err := read((&http.Client{Transport: tr}).Get("https://greeter/"))
			failed <- err
		}()
		n.pairs <- said{passing("a:1"), nil}
		failsWith(n.T, <-failed, registry.ErrUnavailable, "greeter/at-a:1")
		state := tr.Snapshot().Services[0].Instances[0]
		if took := time.Since(began); took != 5*time.Second || state.Connections != 0 || state.Outstanding != 0 {
			n.Errorf("after %v the snapshot has %+v", took, state)
		}
	})
}

func TestTransport_DrainedInstanceIsTriedIfNoneMayBeLeftOut(t *testing.T) {
	for _, policy := range []string{"round_robin", "weighted", "zone", "p2c"} {
		inANetwork(t, func(n *network) {
			n.listen("b:1", nil)
			set := passing("a:1", "b:1")
			set[1].Weight = registry.Drained
			client := n.connected(&httpx.Transport{Policy: policy, PanicThreshold: 1}, set...)
			n.same(policy, count(client, 10), map[string]int{"b:1": 10})
		})
	}
}
