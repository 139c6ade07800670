package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/raced"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// maxReads bounds the reads from the first good answer until a watch has recovered.
const maxReads = 5

// of returns a script that changes the answers of one type.
func of[T proto.Message](change func(T) []T) bend {
	return func(_, answer any) []any {
		a, ok := answer.(T)
		if !ok {
			return nil
		}
		all := []any{}
		for _, b := range change(proto.CloneOf(a)) {
			all = append(all, b)
		}
		return all
	}
}

// list returns a script that changes the answers to reads.
func list(change func(*pb.RangeResponse)) bend {
	return of(func(a *pb.RangeResponse) []*pb.RangeResponse { change(a); return []*pb.RangeResponse{a} })
}

// events returns a script that creates a watch correctly, and then sends it the given answers.
func events(more ...*pb.WatchResponse) bend {
	return of(func(a *pb.WatchResponse) []*pb.WatchResponse {
		all := []*pb.WatchResponse{a}
		for _, m := range more {
			m = proto.CloneOf(m)
			if m.WatchId == 0 {
				m.WatchId = a.WatchId
			}
			all = append(all, m)
		}
		return all
	})
}

func manyOf(n int, key func(i int) string, value string) (all []*mvccpb.KeyValue) {
	for i := range n {
		all = append(all, etcdtest.KeyValue(key(i), value))
	}
	return all
}

func eventsOf(all []*mvccpb.KeyValue) (events []*mvccpb.Event) {
	for _, kv := range all {
		kv.ModRevision = 8
		events = append(events, &mvccpb.Event{Kv: kv})
	}
	return events
}

const hostileValue = `{"address":"6.6.6.6:1"}`

// hostileReads are answers to reads and watches that no etcd gives.
func hostileReads() map[string]bend {
	in := func(id string) string { return DefaultPrefix + "s/" + id }
	big := strings.Repeat("x", 1<<20)
	return map[string]bend{
		"list: no header":               list(func(a *pb.RangeResponse) { a.Header = nil }),
		"list: negative revision":       list(func(a *pb.RangeResponse) { a.Header.Revision = -5 }),
		"list: greatest revision":       list(func(a *pb.RangeResponse) { a.Header.Revision = 1<<63 - 1 }),
		"list: a short key":             list(func(a *pb.RangeResponse) { a.Kvs = append(a.Kvs, etcdtest.KeyValue("/", hostileValue)) }),
		"list: no key":                  list(func(a *pb.RangeResponse) { a.Kvs = append(a.Kvs, new(mvccpb.KeyValue)) }),
		"list: a key of another prefix": list(func(a *pb.RangeResponse) { a.Kvs = append(a.Kvs, etcdtest.KeyValue("/rollcall/z/x", hostileValue)) }),
		"list: keys out of order":       list(func(a *pb.RangeResponse) { a.Kvs = append(a.Kvs, a.Kvs...) }),
		"list: more, and nothing":       list(func(a *pb.RangeResponse) { a.Kvs, a.More = nil, true }),
		"list: the same page for ever":  list(func(a *pb.RangeResponse) { a.More = true }),
		"list: more than requested": list(func(a *pb.RangeResponse) {
			a.Kvs = manyOf(pageSize+1, func(i int) string { return in(fmt.Sprintf("%05d", i)) }, hostileValue)
		}),
		"list: an entry of the future": list(func(a *pb.RangeResponse) { a.Kvs[0].ModRevision = 1 << 40 }),
		"list: larger than allowed": list(func(a *pb.RangeResponse) {
			a.Kvs = []*mvccpb.KeyValue{etcdtest.KeyValue(in("x"), strings.Repeat(big, 20))}
		}),
		"list: a cluster without a name":  list(func(a *pb.RangeResponse) { a.Header = &pb.ResponseHeader{Revision: -1} }),
		"watch: no header":                of(func(a *pb.WatchResponse) []*pb.WatchResponse { a.Header = nil; return []*pb.WatchResponse{a} }),
		"watch: events without a header":  events(&pb.WatchResponse{Events: []*mvccpb.Event{etcdtest.Event(in("x"), hostileValue)}}),
		"watch: an event without entry":   events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{{}}}),
		"watch: a short key":              events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{etcdtest.Event("/", hostileValue)}}),
		"watch: no key":                   events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{etcdtest.Event("", hostileValue)}}),
		"watch: a key of another service": events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{etcdtest.Event("/rollcall/z/x", hostileValue)}}),
		"watch: the key of all":           events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{etcdtest.Event("/rollcall/s0", hostileValue)}}),
		"watch: another number":           events(&pb.WatchResponse{WatchId: 77, Header: etcdtest.Header(9), Events: []*mvccpb.Event{etcdtest.Event(in("x"), hostileValue)}}),
		"watch: a negative number":        events(&pb.WatchResponse{WatchId: -9, Header: etcdtest.Header(9)}),
		"watch: all watches are ended":    events(&pb.WatchResponse{WatchId: conn.EveryWatch, Canceled: true}),
		"watch: created twice":            events(&pb.WatchResponse{WatchId: 78, Created: true, Header: etcdtest.Header(9)}),
		"watch: an event of the future":   events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte(in("a")), ModRevision: 1 << 50}}}}),
		"watch: an unknown event":         events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{{Type: 9, Kv: etcdtest.KeyValue(in("a"), "")}}}),
		"watch: an empty fragment":        events(&pb.WatchResponse{Header: etcdtest.Header(9), Fragment: true}),
		"watch: fragments without end": events(slices.Repeat([]*pb.WatchResponse{{
			Header: etcdtest.Header(9), Fragment: true, Events: eventsOf(manyOf(8, func(int) string { return in("x") }, big)),
		}}, 10)...),
		"watch: larger than allowed": events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: eventsOf(manyOf(20, func(i int) string { return in(fmt.Sprint(i)) }, big))}),
		"watch: compacted for ever": of(func(a *pb.WatchResponse) []*pb.WatchResponse {
			a.Canceled, a.CompactRevision = true, 1<<62
			return []*pb.WatchResponse{a}
		}),
		"watch: refused with control characters": of(func(a *pb.WatchResponse) []*pb.WatchResponse {
			a.Canceled, a.CancelReason = true, "\x1b[31mno\x07\n"
			return []*pb.WatchResponse{a}
		}),
	}
}

// endlessPages returns a script in which each page has a next one.
func endlessPages(in func(string) string) bend {
	value := hostileValue + strings.Repeat(" ", 4<<10)
	n := 0
	return func(request, answer any) []any {
		if a, ok := answer.(*pb.RangeResponse); ok && !request.(*pb.RangeRequest).CountOnly {
			n++
			return []any{&pb.RangeResponse{Header: a.Header, More: true, Kvs: manyOf(pageSize, func(i int) string { return in(fmt.Sprintf("%08d-%05d", n, i)) }, value)}}
		}
		return nil
	}
}

// No answer of a server makes a watch panic, end or lose the last good set. The watch recovers soon after the server does.
func TestWatch_KeepsLastGoodSetUnderHostileAnswers(t *testing.T) {
	for name, script := range hostileReads() {
		t.Run(name, func(t *testing.T) {
			f := startScripted(t)
			f.put("/rollcall/s/a", `{"address":"10.0.0.1:80"}`)
			r := connect(t, Config{Endpoints: []string{f.addr}, Timeout: 2 * time.Second})
			w := watchtest.Watch(t, r, registry.Query{Service: "s"})
			w.Until("the set", watchtest.Healthy(1))
			f.watched(t)
			f.behave(script)
			f.played(t, 3) // so the watch has yielded a failure by now
			w.Until("the set beside an error", func(p watchtest.Pair) bool { return p.Err != nil && len(p.Set) == 1 })
			for _, p := range w.All() {
				if p.Err != nil {
					wantKind(t, p.Err, registry.ErrUnavailable)
					if strings.ContainsFunc(p.Err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || len(p.Err.Error()) > 2*scrub.MaxLine {
						t.Errorf("the error has control characters, or is long: %q", p.Err)
					}
				}
				if len(p.Set) != 1 || p.Set[0].Address != "10.0.0.1:80" {
					t.Fatalf("the watch yields %v", p)
				}
			}
			f.put("/rollcall/s/b", `{"address":"10.0.0.2:80"}`)
			before := f.called("Range")
			f.behave(nil)
			w.Until("a good answer", watchtest.Healthy(2))
			if n := f.called("Range") - before; n > maxReads {
				t.Errorf("the watch read %d times until it had recovered", n)
			}
			closesAtOnce(t, r)
		})
	}
}

// outlasting makes calls last for longer than a test waits for anything. Without probes, since the server would end the connection because
// of them.
func outlasting(c Config) Config {
	c.Timeout, c.Options.CloseTimeout, c.KeepAliveTime = 2*watchtest.Timeout, 2*watchtest.Timeout, -1
	return c
}

// closesAtOnce reports an error if Close of an outlasting Registry waits for reads.
func closesAtOnce(t *testing.T, r *registry.Registry) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	if err := watchtest.Receive(t, "the end of Close", closed); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// hostileWrites are answers to writes that no etcd gives.
func hostileWrites() map[string]bend {
	grant := func(change func(*pb.LeaseGrantResponse)) bend {
		return of(func(a *pb.LeaseGrantResponse) []*pb.LeaseGrantResponse { change(a); return []*pb.LeaseGrantResponse{a} })
	}
	txn := func(change func(*pb.TxnResponse)) bend {
		return of(func(a *pb.TxnResponse) []*pb.TxnResponse { change(a); return []*pb.TxnResponse{a} })
	}
	entry := func(kv *mvccpb.KeyValue) bend {
		return txn(func(a *pb.TxnResponse) {
			a.Succeeded = false
			a.Responses = []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}}}}
		})
	}
	return map[string]bend{
		"grant: no header":           grant(func(a *pb.LeaseGrantResponse) { a.Header = nil }),
		"grant: no lease":            grant(func(a *pb.LeaseGrantResponse) { a.ID = 0 }),
		"grant: a negative lease":    grant(func(a *pb.LeaseGrantResponse) { a.ID = -1 }),
		"grant: a TTL of 0":          grant(func(a *pb.LeaseGrantResponse) { a.TTL = 0 }),
		"grant: a negative TTL":      grant(func(a *pb.LeaseGrantResponse) { a.TTL = -15 }),
		"grant: a TTL without end":   grant(func(a *pb.LeaseGrantResponse) { a.TTL = 1 << 61 }),
		"grant: an error inside":     grant(func(a *pb.LeaseGrantResponse) { a.Error = "no\x1b[2J" }),
		"write: no header":           txn(func(a *pb.TxnResponse) { a.Header = nil }),
		"write: no answer inside":    txn(func(a *pb.TxnResponse) { a.Responses = nil }),
		"write: an empty answer":     txn(func(a *pb.TxnResponse) { a.Responses = []*pb.ResponseOp{{}} }),
		"write: too many answers":    txn(func(a *pb.TxnResponse) { a.Responses = append(a.Responses, a.Responses...) }),
		"write: a negative revision": txn(func(a *pb.TxnResponse) { a.Header.Revision = -1 }),
		"write: another key":         entry(etcdtest.KeyValue("x", "")),
		"write: no key":              entry(new(mvccpb.KeyValue)),
		"write: written since":       entry(&mvccpb.KeyValue{Key: []byte("/rollcall/s/a"), ModRevision: 3}),
	}
}

// No answer of a server makes a write panic or wrongly succeed. The instance is registered soon after the server recovers.
func TestRegister_HostileAnswers(t *testing.T) {
	for name, script := range hostileWrites() {
		t.Run(name, func(t *testing.T) {
			f := startScripted(t)
			f.behave(script)
			r := connect(t, Config{Endpoints: []string{f.addr}, Timeout: 2 * time.Second})
			in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
			_, err := r.Register(watchtest.Within(t, 300*time.Millisecond), in)
			if err == nil {
				t.Fatal("it is registered")
			}
			if n := f.called("Txn") + f.called("LeaseGrant"); n > 100 {
				t.Errorf("%d requests", n)
			}
			f.behave(nil)
			g := watchtest.Register(t, r, in)
			if err := g.Deregister(watchtest.Context(t)); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			if len(f.entries) > 0 {
				t.Errorf("etcd still has %v", f.entries)
			}
			f.mu.Unlock()
			closesAtOnce(t, r)
		})
	}
}

// No answer of a server makes a renewal panic or keep a lease that etcd does not know.
func TestLease_HostileRenewals(t *testing.T) {
	renewal := func(change func(*pb.LeaseKeepAliveResponse)) bend {
		return of(func(a *pb.LeaseKeepAliveResponse) []*pb.LeaseKeepAliveResponse {
			change(a)
			return []*pb.LeaseKeepAliveResponse{a}
		})
	}
	for name, script := range map[string]bend{
		"another lease":      renewal(func(a *pb.LeaseKeepAliveResponse) { a.ID = 99 }),
		"a negative TTL":     renewal(func(a *pb.LeaseKeepAliveResponse) { a.TTL = -1 }),
		"a TTL without end":  renewal(func(a *pb.LeaseKeepAliveResponse) { a.TTL = 1 << 61 }),
		"a lease it forgot":  renewal(func(a *pb.LeaseKeepAliveResponse) { a.TTL = 0 }),
		"the entry is empty": list(func(a *pb.RangeResponse) { a.Kvs = nil }),
		"deleted again and again": events(slices.Repeat([]*pb.WatchResponse{{
			Header: etcdtest.Header(9), Events: []*mvccpb.Event{{Type: mvccpb.Event_DELETE, Kv: etcdtest.KeyValue("/rollcall/s/a", "")}},
		}}, 50)...),
	} {
		t.Run(name, func(t *testing.T) {
			f := startScripted(t)
			d := driverFor(t, Config{Endpoints: []string{f.addr}, TTL: minTTL, Timeout: time.Second})
			t.Cleanup(func() { d.Close() })
			l, err := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			f.behave(script)
			if name == "the entry is empty" {
				f.behave(func(q, a any) []any {
					if k, ok := a.(*pb.LeaseKeepAliveResponse); ok {
						k.TTL = 0
						return nil
					}
					return script(q, a)
				})
			}
			wantKind(t, keep(watchtest.Context(t), l, time.Millisecond), registry.ErrUnavailable)
			if n := f.called("Range"); n > 10 {
				t.Errorf("%d reads", n)
			}
			f.behave(nil)
			if _, err := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}, l); err != nil {
				t.Error(err)
			}
		})
	}
}

// If the store says each time that the entry was written since, the attempt ends, and Registry pauses before the next one.
func TestUpdate_IsBoundedIfTheEntryWasAlwaysWrittenSince(t *testing.T) {
	f := startScripted(t)
	d := driverFor(t, Config{Endpoints: []string{f.addr}})
	t.Cleanup(func() { d.Close() })
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	l, err := d.Register(watchtest.Context(t), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.behave(of(func(a *pb.TxnResponse) []*pb.TxnResponse {
		a.Succeeded = false
		a.Responses = []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{
			Kvs: []*mvccpb.KeyValue{{Key: []byte("/rollcall/s/a"), ModRevision: 3, Lease: l.(*lease).id}},
		}}}}
		return []*pb.TxnResponse{a}
	}))
	for what, attempt := range map[string]func() error{
		"Update":   func() error { return l.Update(watchtest.Context(t), in) },
		"Register": func() error { _, err := d.Register(watchtest.Context(t), in, nil); return err },
	} {
		before := f.called("Txn")
		wantKind(t, attempt(), registry.ErrUnavailable)
		if n := f.called("Txn") - before; n > writeAttempts {
			t.Errorf("%s made %d requests", what, n)
		}
	}
}

// Close does not wait for a long queue of changes or a long list to be read.
func TestClose_WhileMuchIsRead(t *testing.T) {
	in := func(i int) string { return fmt.Sprintf("/rollcall/s/%08d", i) }
	batch := func(n int) *pb.WatchResponse {
		return &pb.WatchResponse{Header: etcdtest.Header(9), Events: eventsOf(manyOf(20_000, func(i int) string { return in(n*20_000 + (i*7919)%20_000) }, hostileValue))}
	}
	var flood []*pb.WatchResponse
	for n := range 20 {
		flood = append(flood, batch(n))
	}
	for name, script := range map[string]bend{
		"400,000 events": events(flood...),
		"endless pages":  endlessPages(func(s string) string { return "/rollcall/s/" + s }),
	} {
		t.Run(name, func(t *testing.T) {
			f := startScripted(t)
			f.put("/rollcall/s/a", `{"address":"10.0.0.1:80"}`)
			r := connect(t, outlasting(Config{Endpoints: []string{f.addr}}))
			w := watchtest.Watch(t, r, registry.Query{Service: "s"})
			w.Until("the set", watchtest.Healthy(1))
			f.watched(t)
			f.behave(script)
			f.mu.Lock()
			before := f.calls["Range"]
			f.mu.Unlock()
			watchtest.Eventually(t, "it reads", func() bool { return f.called("Range") > before })
			closesAtOnce(t, r)
		})
	}
}

// Many changes cost little more than sorting them once.
func TestEdition_IsNotQuadratic(t *testing.T) {
	const n = 200_000
	var e setChanges
	for i := range n {
		id := fmt.Sprintf("%08d", (i*7919)%n)
		e.put(id, &registry.Instance{ID: id})
	}
	sorted := slices.Clone(e.edits)
	began := time.Now()
	slices.SortStableFunc(sorted, func(a, b edit) int { return strings.Compare(a.id, b.id) })
	sorting := time.Since(began)
	began = time.Now()
	set, changed := e.of(nil)
	if took := time.Since(began); took > 20*sorting {
		t.Errorf("%d insertions took %v, and to sort them %v", n, took, sorting)
	}
	if !changed || len(set) != n || !slices.IsSortedFunc(set, func(a, b *registry.Instance) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("the set has %d instances", len(set))
	}
}

func TestEdition_LastChangeCounts(t *testing.T) {
	at := func(id, address string) *registry.Instance { return &registry.Instance{ID: id, Address: address} }
	before := []*registry.Instance{at("b", "1"), at("d", "1"), at("f", "1")}
	for name, c := range map[string]struct {
		edits []edit
		want  string
	}{
		"nothing":                   {nil, "b1 d1 f1"},
		"the same":                  {[]edit{{"d", at("d", "1")}}, "b1 d1 f1"},
		"one before":                {[]edit{{"a", at("a", "1")}}, "a1 b1 d1 f1"},
		"one after":                 {[]edit{{"g", at("g", "1")}}, "b1 d1 f1 g1"},
		"changed twice":             {[]edit{{"d", at("d", "2")}, {"d", at("d", "3")}}, "b1 d3 f1"},
		"deleted":                   {[]edit{{"b", nil}, {"x", nil}}, "d1 f1"},
		"deleted and back":          {[]edit{{"b", nil}, {"b", at("b", "2")}}, "b2 d1 f1"},
		"came and went":             {[]edit{{"c", at("c", "1")}, {"c", nil}}, "b1 d1 f1"},
		"changed and back":          {[]edit{{"d", at("d", "2")}, {"d", at("d", "1")}}, "b1 d1 f1"},
		"all are deleted":           {[]edit{{"f", nil}, {"d", nil}, {"b", nil}}, ""},
		"in an order of their own":  {[]edit{{"g", at("g", "1")}, {"d", nil}, {"a", at("a", "1")}, {"c", at("c", "1")}}, "a1 b1 c1 f1 g1"},
		"between two and the first": {[]edit{{"e", at("e", "1")}, {"b", at("b", "9")}}, "b9 d1 e1 f1"},
	} {
		set, changed := (&setChanges{c.edits}).of(before)
		var have []string
		for _, in := range set {
			have = append(have, in.ID+in.Address)
		}
		if got := strings.Join(have, " "); got != c.want || changed != (c.want != "b1 d1 f1") {
			t.Errorf("%s: %q, %v", name, got, changed)
		}
		if before[0].Address != "1" || len(before) != 3 {
			t.Fatalf("%s: the set before was changed", name)
		}
	}
}

// A list that never ends is an error that names the limit.
func TestList_EndlessPages(t *testing.T) {
	if raced.Enabled {
		t.Skip("it reads hundreds of MiB, which takes minutes with the race detector: internal/hostile runs it without")
	}
	f := startScripted(t)
	d := driverFor(t, Config{Endpoints: []string{f.addr}})
	t.Cleanup(func() { d.Close() })
	s := d.Watch(registry.Query{Service: "s"})
	t.Cleanup(func() { s.Close() })
	f.put("/rollcall/s/a", hostileValue)
	f.behave(endlessPages(func(id string) string { return "/rollcall/s/" + id }))
	_, err := s.Next(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)
	if !strings.Contains(fmt.Sprint(err), "128 MiB") {
		t.Errorf("it does not name the limit: %v", err)
	}
	f.behave(nil)
	if set, err := next(watchtest.Context(t), s); err != nil || len(set) != 1 {
		t.Errorf("and then %v, %v", ids(set), err)
	}
}

// A list that is too large for one answer is read in smaller pages. Only an entry that is too large is left out.
func TestList_LargeEntries(t *testing.T) {
	if raced.Enabled {
		t.Skip("it reads hundreds of MiB, which takes minutes with the race detector: internal/hostile runs it without")
	}
	f := startScripted(t)
	padding := strings.Repeat(" ", 60<<10)
	for i := range pageSize {
		f.put(fmt.Sprintf("/rollcall/s/%04d", i), hostileValue+padding)
	}
	f.put("/rollcall/s/huge", hostileValue+strings.Repeat(" ", maxValue))
	f.put("/rollcall/s/0500-vast", hostileValue+strings.Repeat(" ", 2*conn.MaxMessage)) // larger than one answer may be
	d := driverFor(t, Config{Endpoints: []string{f.addr}, Timeout: watchtest.Timeout})
	t.Cleanup(func() { d.Close() })
	s := d.Watch(registry.Query{Service: "s"})
	t.Cleanup(func() { s.Close() })
	set, err := s.Next(watchtest.Context(t))
	if err != nil || len(set.Instances) != pageSize {
		t.Fatalf("%d instances, %v", len(set.Instances), err)
	}
	if u := set.Unreadable; len(u) != 2 || !strings.HasSuffix(u[0].Entry, "/0500-vast") || !strings.HasSuffix(u[1].Entry, "/huge") {
		t.Errorf("left out: %v", u)
	}
	if names, err := d.Services(watchtest.Context(t)); err != nil || !slices.Equal(names, []string{"s"}) {
		t.Errorf("services: %v, %v", names, err)
	}
}

// A request that is too large for etcd is the fault of the caller, but an answer that is too large is not.
func TestKindOf_LargerThanMax(t *testing.T) {
	f := startScripted(t)
	d := driverFor(t, Config{Endpoints: []string{f.addr}, Timeout: watchtest.Timeout})
	t.Cleanup(func() { d.Close() })
	f.behave(list(func(a *pb.RangeResponse) {
		a.Kvs = []*mvccpb.KeyValue{etcdtest.KeyValue("/rollcall/s/a", strings.Repeat("x", 2*conn.MaxMessage))}
	}))
	s := d.Watch(registry.Query{Service: "s"})
	t.Cleanup(func() { s.Close() })
	_, err := s.Next(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)
	if want := fmt.Sprintf("larger than %d MiB", conn.MaxMessage>>20); !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("it does not name the limit: %v", err)
	}
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: string(bytes.Repeat([]byte("x"), 6<<20))}
	_, err = d.Register(watchtest.Context(t), &in, nil)
	wantKind(t, err, registry.ErrInvalid)
	if errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
}
