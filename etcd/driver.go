package etcd

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registry"
)

// driver is the registry.Driver of one etcd.
type driver struct {
	settings *settings
	format   format
	conn     *grpc.ClientConn
	kv       pb.KVClient
	leases   pb.LeaseClient
	streams  *streams
	tokens   *tokens
	silence  time.Duration // longSilence, but for tests

	urged      urged
	waiting    atomic.Int64 // watches that wait for a connection
	recent     recent
	left       leftovers
	unreadable unreadable
}

var (
	_ registry.Driver            = (*driver)(nil)
	_ registry.Locator           = (*driver)(nil)
	_ registry.Pusher            = (*driver)(nil)
	_ registry.UnreadableCounter = (*driver)(nil)
)

func driverOn(conn *grpc.ClientConn, s *settings) *driver {
	return &driver{
		settings: s,
		format:   formats[s.Format],
		conn:     conn,
		kv:       pb.NewKVClient(conn),
		leases:   pb.NewLeaseClient(conn),
		streams:  newStreams(pb.NewWatchClient(conn)),
		tokens:   newTokens(pb.NewAuthClient(conn), s.Username, s.Password),
		silence:  longSilence,
	}
}

// String names the members, the prefix, and a format that is not our own.
func (d *driver) String() string {
	name := "etcd " + strings.Join(d.settings.members, ",")
	if d.settings.Prefix != "" {
		name += " " + d.settings.Prefix
	}
	if d.settings.Format != FormatRollcall {
		name += " " + d.settings.Format
	}
	return name
}

// Pushes implements [registry.Pusher]: a watch brings each change by itself.
func (d *driver) Pushes() bool { return true }

// place names the members, for errors.
func (d *driver) place() string { return "etcd at " + strings.Join(d.settings.members, ",") }

// Locate implements [registry.Locator].
func (d *driver) Locate() string { return d.settings.members[0] }

// Follow implements [registry.Driver].
func (d *driver) Follow(q registry.Query) registry.Source {
	return &source{d: d, service: q.Service, prefix: d.prefixOf(q.Service)}
}

// Close implements [registry.Driver].
func (d *driver) Close() error {
	err := d.conn.Close()
	d.streams.wait()
	return err
}

// call makes one call within the limit of a call that does not wait.
func (d *driver) call(ctx context.Context, what string, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, d.settings.Timeout)
	defer cancel()
	return d.classify(ctx, what, d.settings.Timeout, d.tokens.authorize(limited, f))
}
