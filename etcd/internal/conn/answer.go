package conn

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/scrub"
)

// The program behind an endpoint may be broken, or may not be an etcd. The two interceptors of this file check every answer before it is used.
// So the rest of the code relies on this: there is a header, an event has an entry, and the keys are in the requested range. A
// malformed answer fails the call, or the whole stream.

const (
	// MaxMessage bounds one answer, in bytes. Decoded, it may take 60 times as much memory. It differs from the 4 MiB that a gRPC server
	// allows for a request by default, so that the errors for the two differ. etcd limits a request to 1.5 MiB by default, and a fragment
	// of events to a little more. A list that does not fit is read in smaller pages.
	MaxMessage = 5 << 20
	// EntryCost is what one entry costs in memory in addition to its key and value, in bytes.
	EntryCost = 512

	// maxRevision is more than a store can reach, and small enough that arithmetic on revisions does not overflow.
	maxRevision = 1 << 62
	// maxGrant is how much a granted TTL may exceed the requested one. etcd grants up to 75 s more if its election timeout is long.
	maxGrant = time.Hour
)

// EveryWatch is the watch number of an answer that is for all watches of a stream.
const EveryWatch = -1

// malformedError is the failure of a call because no etcd gives such an answer.
type malformedError struct{ why string }

func (e *malformedError) Error() string { return "malformed answer: " + e.why }

// unsentError is the failure of a call for which no member was chosen, since none is connected.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// GRPCStatus makes [status.Convert] return the status of the call as it is.
func (e *unsentError) GRPCStatus() *status.Status { return status.Convert(e.error) }

// Malformed returns the failure of a call because no etcd gives such an answer.
func Malformed(format string, args ...any) error {
	return &malformedError{fmt.Sprintf(format, args...)}
}

// Cost is what a key-value counts for the bounds of memory.
func Cost(kv *mvccpb.KeyValue) int { return len(kv.Key) + len(kv.Value) + EntryCost }

// checkUnary is an interceptor that checks the answers of calls.
func checkUnary(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	ctx, to := withChosen(ctx)
	if err := invoke(ctx, method, request, answer, conn, o...); err != nil {
		if to.Load() == nil {
			err = &unsentError{err}
		}
		return err
	}
	if a, ok := answer.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		if err := checkCluster(to, a.GetHeader()); err != nil {
			return err
		}
	}
	return checkAnswer(request, answer)
}

func checkAnswer(request, answer any) error {
	switch answer := answer.(type) {
	case *pb.RangeResponse:
		if err := checkHeader(answer.Header); err != nil {
			return err
		}
		return checkRange(request.(*pb.RangeRequest), answer, answer.Header.Revision)
	case *pb.TxnResponse:
		if err := checkHeader(answer.Header); err != nil {
			return err
		}
		return checkTxn(request.(*pb.TxnRequest), answer)
	case *pb.LeaseGrantResponse:
		if err := checkHeader(answer.Header); err != nil {
			return err
		}
		return checkGrant(request.(*pb.LeaseGrantRequest), answer)
	}
	return nil
}

func checkHeader(h *pb.ResponseHeader) error {
	switch {
	case h == nil:
		return Malformed("the header is missing")
	case h.Revision < 0 || h.Revision > maxRevision:
		return Malformed("the revision is %d", h.Revision)
	}
	return nil
}

// checkRange checks that the entries of an answer are in the requested range and that their keys are in ascending order. So each page begins
// after the one before it, and a list ends.
func checkRange(r *pb.RangeRequest, answer *pb.RangeResponse, revision int64) error {
	if r.CountOnly {
		return nil // the entries are not used
	}
	if r.Limit > 0 && int64(len(answer.Kvs)) > r.Limit {
		return Malformed("%d entries although at most %d were requested", len(answer.Kvs), r.Limit)
	}
	if answer.More && len(answer.Kvs) == 0 {
		return Malformed("it has no entries, and says that there are more")
	}
	var last []byte
	for _, kv := range answer.Kvs {
		if err := checkKeyValue(kv, r.Key, r.RangeEnd, revision); err != nil {
			return err
		}
		if last != nil && bytes.Compare(kv.Key, last) <= 0 {
			return Malformed("key %q comes after key %q", scrub.Line(string(kv.Key)), scrub.Line(string(last)))
		}
		last = kv.Key
	}
	return nil
}

func checkKeyValue(kv *mvccpb.KeyValue, first, end []byte, revision int64) error {
	switch {
	case kv == nil:
		return Malformed("an entry is missing")
	case !InRange(kv.Key, first, end):
		return Malformed("key %q was not requested", scrub.Line(string(kv.Key)))
	case kv.ModRevision < 0 || kv.ModRevision > revision:
		return Malformed("an entry was written at revision %d, but the store is at %d", kv.ModRevision, revision)
	}
	return nil
}

// everything is the end of a range without an end.
const everything = "\x00"

// InRange reports whether key is in the range from first up to end, as etcd defines it: an empty end means first alone, and "\x00" means
// all keys from first on.
func InRange(key, first, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, first)
	case bytes.Compare(key, first) < 0:
		return false
	}
	return string(end) == everything || bytes.Compare(key, end) < 0
}

// checkTxn checks that each part of an answer fits its operation.
func checkTxn(r *pb.TxnRequest, answer *pb.TxnResponse) error {
	operations := r.Failure
	if answer.Succeeded {
		operations = r.Success
	}
	if len(answer.Responses) != len(operations) {
		return Malformed("it answers %d operations of %d", len(answer.Responses), len(operations))
	}
	for i, o := range operations {
		part := answer.Responses[i]
		switch o := o.Request.(type) {
		case *pb.RequestOp_RequestPut:
			if part.GetResponsePut() == nil {
				return Malformed("it does not answer a write")
			}
		case *pb.RequestOp_RequestRange:
			if part.GetResponseRange() == nil {
				return Malformed("it does not answer a read")
			}
			if err := checkRange(o.RequestRange, part.GetResponseRange(), answer.Header.Revision); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkGrant(r *pb.LeaseGrantRequest, answer *pb.LeaseGrantResponse) error {
	most := r.TTL + int64(maxGrant/time.Second)
	switch {
	case answer.Error != "":
		return Malformed("it has a lease and an error: %s", answer.Error)
	case answer.ID <= 0:
		return Malformed("lease %d was granted", answer.ID)
	case answer.TTL <= 0 || answer.TTL > most:
		return Malformed("it has a lease with a TTL of %d s, but %d s were requested", answer.TTL, r.TTL)
	}
	return nil
}

// CheckRenewal checks the answer to a renewal. A TTL of 0 means that etcd does not know the lease.
func CheckRenewal(id int64, ttl time.Duration, answer *pb.LeaseKeepAliveResponse) error {
	switch {
	case answer.ID != id:
		return Malformed("lease %d was renewed instead of %d", answer.ID, id)
	case answer.TTL < 0 || answer.TTL > int64((ttl+maxGrant)/time.Second):
		return Malformed("the lease has a TTL of %d s instead of %v", answer.TTL, ttl)
	}
	return nil
}

// checkStream is an interceptor that checks the answers on streams.
func checkStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, to := withChosen(ctx)
	stream, err := open(ctx, desc, conn, method, o...)
	if err != nil {
		return nil, err
	}
	return checkedStream{stream, to}, nil
}

type checkedStream struct {
	grpc.ClientStream
	to *atomic.Pointer[member]
}

func (s checkedStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	if a, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		if err := checkCluster(s.to, a.GetHeader()); err != nil {
			return err
		}
	}
	if answer, ok := m.(*pb.WatchResponse); ok {
		return CheckWatch(answer)
	}
	return nil
}

// CheckWatch checks an answer by itself. Whether there is such a watch, and whether the keys are in its range, is checked by the stream.
func CheckWatch(answer *pb.WatchResponse) error {
	// etcd's proxy sends no header if it ends a watch to which it has sent nothing, and none is needed for that.
	if answer.Header != nil || !answer.Canceled {
		if err := checkHeader(answer.Header); err != nil {
			return err
		}
	}
	switch {
	case answer.WatchId < EveryWatch:
		return Malformed("it is for watch %d", answer.WatchId)
	case answer.Fragment && len(answer.Events) == 0:
		return Malformed("a fragment has no event")
	case len(answer.Events) > 0 && (answer.Created || answer.Canceled || answer.WatchId == EveryWatch):
		return Malformed("it has events, but is not for an open watch")
	}
	for _, e := range answer.Events {
		if err := checkEvent(e, answer.Header.Revision); err != nil {
			return err
		}
	}
	return nil
}

func checkEvent(e *mvccpb.Event, revision int64) error {
	switch {
	case e == nil || e.Kv == nil:
		return Malformed("an event has no entry")
	case e.Type != mvccpb.Event_PUT && e.Type != mvccpb.Event_DELETE:
		return Malformed("an event has type %d", e.Type)
	case e.Kv.ModRevision < 0 || e.Kv.ModRevision > revision:
		return Malformed("an event has revision %d, but the store is at %d", e.Kv.ModRevision, revision)
	}
	return nil
}
