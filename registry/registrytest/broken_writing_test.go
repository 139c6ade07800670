package registrytest_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenWriting registers or updates something else than it is given.
var brokenWriting = []broken{
	{
		name:   "drops metadata",
		driver: func() *faulty { return edited(func(in *registry.Instance) { in.Metadata = nil }) },
		fails:  []string{"select by metadata", "every field", "unicode", "long values", "reserved keys", "empty and nil", "update replaces all", "as registered", "drained"},
	},
	{
		name:   "drops the zone",
		driver: func() *faulty { return edited(func(in *registry.Instance) { in.Zone = "" }) },
		fails:  []string{"every field", "unicode", "reserved keys", "update replaces all", "as registered", "drained"},
	},
	{
		name: "writes metadata in ASCII",
		driver: func() *faulty {
			return edited(func(in *registry.Instance) {
				for k, v := range in.Metadata {
					in.Metadata[k] = strings.ToValidUTF8(strings.Map(func(r rune) rune {
						if r > 127 {
							return '?'
						}
						return r
					}, v), "?")
				}
			})
		},
		fails: []string{"unicode", "long values"},
	},
	{
		name: "cuts metadata at 512 bytes",
		driver: func() *faulty {
			return edited(func(in *registry.Instance) {
				for k, v := range in.Metadata {
					in.Metadata[k] = v[:min(len(v), 512)]
				}
			})
		},
		fails: []string{"long values"},
	},
	{
		name: "keeps the version among the metadata",
		driver: func() *faulty {
			return edited(func(in *registry.Instance) {
				if v, ok := in.Metadata["version"]; ok {
					in.Version = v
				}
			})
		},
		fails: []string{"reserved keys"},
	},
	{
		name:   "sorts tags",
		driver: func() *faulty { return edited(func(in *registry.Instance) { slices.Sort(in.Tags) }) },
		fails:  []string{"every field", "unicode", "long values", "reserved keys", "update replaces all", "as registered", "drained"},
	},
	{
		name: "takes the brackets off IPv6 addresses",
		driver: func() *faulty {
			return edited(func(in *registry.Instance) {
				in.Address = strings.NewReplacer("[", "", "]", "").Replace(in.Address)
			})
		},
		fails: []string{"addresses"},
	},
	{
		name: "adds a tag of its own",
		driver: func() *faulty {
			return edited(func(in *registry.Instance) {
				if len(in.Tags) == 0 {
					in.Tags = []string{"rollcall"}
				}
			})
		},
		fails: []string{"unicode", "addresses", "empty and nil", "update replaces all", "reserved keys", "long values"},
	},
	{
		name:   "knows passing and critical alone",
		driver: func() *faulty { return edited(func(in *registry.Instance) { in.Status = in.Status / 2 * 2 }) },
		fails:  []string{"select by status", "status changes", "every field", "reserved keys", "update replaces all", "as registered", "drained"},
	},
	{
		name: "changes what it is given",
		driver: func() *faulty {
			return &faulty{register: func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				l, err := right(ctx, in.Clone(), prev)
				if in.Metadata != nil {
					in.Metadata["rollcall"] = "was here"
				}
				return l, err
			}}
		},
		fails: []string{"as registered"},
	},
	{
		name:   "folds the case of IDs",
		driver: func() *faulty { return edited(func(in *registry.Instance) { in.ID = strings.ToLower(in.ID) }) },
		fails:  []string{"order", "case counts", "every field"},
	},
	{
		name: "folds the case of services",
		driver: func() *faulty {
			d := edited(func(in *registry.Instance) { in.Service = strings.ToLower(in.Service) })
			d.watch = func(q registry.Query) registry.Query {
				q.Service = strings.ToLower(q.Service)
				return q
			}
			return d
		},
		fails: []string{"case counts", "services"},
	},
	{
		name: "drops updates",
		driver: func() *faulty {
			return &faulty{update: func(context.Context, *registry.Instance, *faultyLease) error { return nil }}
		},
		fails: []string{"update in place", "select by tags", "status changes", "update replaces all", "slow reader"},
		broad: true,
	},
	{
		name: "merges an update into what was there",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				in = in.Clone()
				if in.Metadata == nil {
					in.Metadata = map[string]string{}
				}
				for k, v := range l.in.Metadata {
					if _, ok := in.Metadata[k]; !ok {
						in.Metadata[k] = v
					}
				}
				return l.Update(ctx, in)
			}}
		},
		fails: []string{"update replaces all"},
	},
	{
		name: "registers by removing first",
		driver: func() *faulty {
			return &faulty{register: func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				l, err := right(ctx, in, prev)
				if err != nil {
					return nil, err
				}
				if err := l.Release(ctx); err != nil {
					return nil, err
				}
				time.Sleep(gap)
				return right(ctx, in, prev)
			}}
		},
		fails: []string{"one ID twice in one client", "one ID twice in two clients", "register again"},
		broad: true, // what is registered again after a loss flaps too
	},
	{
		name: "updates by removing first",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				if err := l.Release(ctx); err != nil {
					return err
				}
				time.Sleep(gap)
				other, err := l.d.Driver.Register(ctx, in, l.Lease)
				if other != nil {
					l.Lease = other
				}
				return err
			}}
		},
		fails: []string{"update in place"},
		broad: true, // a large set may be seen with a gap, too
	},
}

// gap is longer than a watch that was busy pauses, so that every watch has a look meanwhile. It passes in no time in a bubble.
const gap = time.Second
