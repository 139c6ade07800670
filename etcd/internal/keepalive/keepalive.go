// Package keepalive renews leases. All leases of a connection share one stream.
package keepalive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/registry"
)

// Streams open the stream that the leases of a connection share. A stream for each lease would cost etcd, and this process, a goroutine or more
// and its buffers, and a write to the socket for each renewal.
type Streams struct {
	conn    *conn.Conn
	opening chan struct{} // has a token while nothing opens a stream or fetches a token; guards refused
	refused string        // the last token that etcd has refused, and for which another one was fetched
	work    sync.WaitGroup

	mu      sync.Mutex
	users   int     // leases that have joined, and renewals in flight
	current *stream // for the next renewal; nil if that opens another
}

// New returns the streams of a connection. The first renewal opens one.
func New(c *conn.Conn) *Streams {
	s := &Streams{conn: c, opening: make(chan struct{}, 1)}
	s.opening <- struct{}{}
	return s
}

// Wait blocks until all streams have ended. They end with their connection.
func (s *Streams) Wait() { s.work.Wait() }

// Join keeps the stream open between renewals, until Leave.
func (s *Streams) Join() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
}

// Leave undoes Join. The last user ends the stream.
func (s *Streams) Leave() {
	s.mu.Lock()
	s.users--
	var last *stream
	if s.users == 0 {
		last, s.current = s.current, nil
	}
	s.mu.Unlock()
	if last != nil {
		last.retire()
	}
}

// Renew makes one attempt to renew the lease of the entry under key, for a caller that does so each third of ttl, the TTL of the lease. It may wait
// for other renewals, to be sent with them. It ends when the next renewal is due at the latest. At most one call for each lease runs at a
// time.
func (s *Streams) Renew(ctx context.Context, key string, id int64, ttl time.Duration) error {
	return s.renew(ctx, key, id, ttl, s.window(s.limit(ttl)))
}

// RenewNow is Renew without a wait for others.
func (s *Streams) RenewNow(ctx context.Context, key string, id int64, ttl time.Duration) error {
	return s.renew(ctx, key, id, ttl, 0)
}

func (s *Streams) renew(ctx context.Context, key string, id int64, ttl, window time.Duration) error {
	s.Join()
	defer s.Leave()
	what := "renew the lease of " + key
	limit := s.limit(ttl)
	for first := true; ; first = false {
		r := &renewal{id: id, ttl: ttl, done: make(chan struct{})}
		st, err := s.add(ctx, what, r, limit, window)
		if err != nil {
			return err
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			st.abandon(r, limit)
			return s.conn.Classify(ctx, what, limit, ctx.Err())
		}
		switch err := s.failure(ctx, what, limit, st, r); {
		case err == nil && r.unknown:
			return s.conn.Gone(what, "etcd does not know the lease")
		case err == nil:
			return nil
		case !first || ctx.Err() != nil:
			return err
		case conn.Stale(r.err):
			if err := s.refresh(ctx, key, st.token); err != nil {
				return err
			}
		case r.oldest, isOfMember(err):
			return err
		}
	}
}

// maxAdd is to how many streams a renewal is added that all end in the same moment.
const maxAdd = 3

// add has r sent on the current stream, or on a new one.
func (s *Streams) add(ctx context.Context, what string, r *renewal, limit, window time.Duration) (*stream, error) {
	for range maxAdd {
		st, err := s.get(ctx, what)
		if err != nil {
			return nil, err
		}
		r.deadline = time.Now().Add(limit)
		if st.add(r, window) {
			return st, nil
		}
	}
	return nil, s.conn.Unavailable(what, "etcd ends each stream at once")
}

// failure returns why r failed, or nil.
func (s *Streams) failure(ctx context.Context, what string, limit time.Duration, st *stream, r *renewal) error {
	if r.err != nil && st.late.Load() && ctx.Err() == nil {
		return s.conn.Unavailable(what, fmt.Sprintf("no answer within %v", limit))
	}
	return s.conn.Classify(ctx, what, limit, r.err)
}

// isOfMember reports whether err, which ended a stream, is a failure of the member, and so concerns all leases. If not, it concerns the lease
// whose renewal was the oldest: a member answers in order.
func isOfMember(err error) bool {
	return errors.Is(err, registry.ErrUnavailable) && !conn.IsGone(err) && !conn.IsMalformed(err)
}

const (
	// maxWindow is the longest time for which a renewal waits for others, to be sent with them. clientv3 has the same.
	maxWindow = 500 * time.Millisecond
	// fewUsers is how many renewals are never worth to wait for.
	fewUsers = 8
)

// limit returns within which time a renewal must be answered: before the next one is due.
func (s *Streams) limit(ttl time.Duration) time.Duration { return min(ttl/3, s.conn.Timeout) }

// window returns for how long a renewal may wait for others: a tenth of its limit at most. To send many at once saves both sides most of the
// wakes, which cost more than the renewals.
func (s *Streams) window(limit time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users <= fewUsers {
		return 0
	}
	return min(limit/10, maxWindow)
}

// get returns the stream for a renewal, and opens it if there is none.
func (s *Streams) get(ctx context.Context, what string) (st *stream, err error) {
	if s.conn.Username == "" { // no token has to be compared
		if st := s.usable(""); st != nil {
			return st, nil
		}
	}
	err = s.conn.Call(ctx, what, func(ctx context.Context) (err error) {
		st, err = s.open(ctx, conn.TokenOf(ctx))
		return err
	})
	return st, err
}

// usable returns the current stream if that began with this token and has not ended, or nil.
func (s *Streams) usable(token string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.current; st != nil && st.token == token && !st.hasEnded() {
		return st
	}
	return nil
}

// open returns the current stream, or a new one if that has ended, or has another token: a stream keeps its first token, and etcd refuses a
// token that has expired.
func (s *Streams) open(ctx context.Context, token string) (*stream, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	if st := s.usable(token); st != nil {
		return st, nil
	}
	st := &stream{token: token}
	var err error
	st.rpc, st.cancel, err = conn.OpenStream(ctx, &st.late, func(ctx context.Context) (pb.Lease_LeaseKeepAliveClient, error) {
		return s.conn.Leases.LeaseKeepAlive(ctx)
	})
	if err != nil {
		return nil, err
	}
	s.work.Go(st.receive)
	s.mu.Lock()
	before := s.current
	s.current = st
	s.mu.Unlock()
	if before != nil {
		before.retire()
	}
	return st, nil
}

// refresh fetches another token after etcd has refused one, by a read: a call does that by itself. The renewals of a stream, which all fail with
// its token, share the read.
func (s *Streams) refresh(ctx context.Context, key, refused string) error {
	if err := s.lock(ctx); err != nil {
		return s.conn.Classify(ctx, "read "+key, s.conn.Timeout, err)
	}
	defer s.unlock()
	if refused != "" && s.refused == refused {
		return nil
	}
	_, err := s.conn.Read(ctx, "read "+key, &pb.RangeRequest{Key: []byte(key)})
	if err == nil {
		s.refused = refused
	}
	return err
}

func (s *Streams) lock(ctx context.Context) error {
	select {
	case <-s.opening:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Streams) unlock() { s.opening <- struct{}{} }
