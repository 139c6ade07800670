package watch

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// No answer makes a stream panic, and no watch gets a change of a key outside its range.
func FuzzStream_Dispatch(f *testing.F) {
	add := func(answers ...*pb.WatchResponse) {
		var all []byte
		for _, a := range answers {
			raw, err := proto.Marshal(a)
			if err != nil {
				f.Fatal(err)
			}
			all = append(append(all, byte(len(raw))), raw...)
		}
		f.Add(all)
	}
	created := func(id int64) *pb.WatchResponse {
		return &pb.WatchResponse{Header: etcdtest.Header(7), Created: true, WatchId: id}
	}
	change := func(id int64, keys ...string) *pb.WatchResponse {
		a := &pb.WatchResponse{Header: etcdtest.Header(8), WatchId: id}
		for _, k := range keys {
			a.Events = append(a.Events, etcdtest.Event(k, `{"address":"h:1"}`))
		}
		return a
	}
	add(created(0), created(1), created(2), change(0, "/rollcall/s/a"), change(1, "/rollcall/ss/a"), change(2, "/rollcall/s/a"))
	add(created(firstNumber+1), created(firstNumber+3), created(firstNumber+2), change(firstNumber+3, "/rollcall/s/a"))
	add(created(0), change(0, "/", "/rollcall/s"), change(conn.EveryWatch))
	add(created(0), &pb.WatchResponse{Header: etcdtest.Header(9), Fragment: true, Events: change(0, "/rollcall/s/b").Events}, change(0))
	add(created(0), &pb.WatchResponse{Canceled: true}, &pb.WatchResponse{WatchId: conn.EveryWatch, Created: true, Canceled: true})
	add(created(0), &pb.WatchResponse{Header: etcdtest.Header(9), Canceled: true, CompactRevision: 5, CancelReason: "\x1b[2J"})

	c, streams := connect(f, "127.0.0.1:2379")
	c.Close() // so that reads fail at once
	f.Fuzz(func(t *testing.T, raw []byte) {
		st := newStream(nil, func() {}, watchtest.Timeout)
		defer func() {
			st.mu.Lock()
			st.end(nil)
			st.mu.Unlock()
		}()
		all := []*Watch{
			streams.unopened("watch", "/rollcall/s/", "/rollcall/s0", 0), streams.unopened("watch", "/rollcall/ss/", "/rollcall/ss0", 0),
			streams.unopened("watch", "/rollcall/s/a", "", 0),
		}
		for _, w := range all {
			st.add(w)
		}
		for len(raw) > 0 {
			n := min(int(raw[0]), len(raw)-1)
			answer := new(pb.WatchResponse)
			if proto.Unmarshal(raw[1:1+n], answer) != nil || conn.CheckWatch(answer) != nil {
				return
			}
			raw = raw[1+n:]
			st.mu.Lock()
			err := st.dispatch(answer)
			st.mu.Unlock()
			if err != nil {
				return
			}
			for _, w := range all {
				pollAll(t, w)
			}
		}
	})
}

// pollAll takes the changes that have come, and checks that they are of keys that w asked for.
func pollAll(t *testing.T, w *Watch) {
	t.Helper()
	for {
		changes, more, err := w.Poll(t.Context())
		if !more || err != nil {
			return
		}
		for _, e := range changes {
			if !w.covers(e.Kv.Key) {
				t.Fatalf("the watch of %s gets %s", w.key, e.Kv.Key)
			}
		}
	}
}
