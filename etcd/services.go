package etcd

import (
	"context"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/registry"
)

// valuesPage bounds the entries of one answer of Services with values, which may belong to other programs.
const valuesPage = 100

// Services implements [registry.Driver]. In Rollcall's own format it reads keys only. In other formats it also reads values, since a key of
// another program may look like the key of an instance. It reads about one page of a service, however many instances that has.
func (d *driver) Services(ctx context.Context) ([]string, error) {
	d.conn.ReconnectNow(ctx)
	var names []string
	own := d.settings.Format == FormatRollcall
	p := paging{most: valuesPage, limit: valuesPage}
	if own {
		p = paging{most: pageSize, limit: pageSize}
	}
	next, end := format.Span(d.settings.Prefix)
	size := 0
	for revision := int64(0); ; {
		page, err := d.conn.Read(ctx, "list services", &pb.RangeRequest{
			Key: []byte(next), RangeEnd: []byte(end), Revision: revision, Limit: p.limit, KeysOnly: own || p.keysOnly,
		})
		if p.smaller(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p.read()
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			key := string(kv.Key)
			next = key + "\x00"
			service, id, ok := strings.Cut(strings.TrimPrefix(key, d.settings.Prefix), "/")
			if !ok {
				continue
			}
			if isName(service) && (len(names) == 0 || names[len(names)-1] != service) {
				if own && !isID(id) || !own && !d.isInstance(service, id, kv.Value) {
					continue
				}
				size += len(service) + conn.EntryCost
				if size > maxSet {
					return nil, d.conn.Unavailable("list services", fmt.Sprintf("the names have more than %d MiB, counting %d bytes more for each", maxSet>>20, conn.EntryCost))
				}
				names = append(names, service)
			}
			next = format.PrefixEnd(d.prefixOf(service))
		}
		if !page.More || end != format.Everything && next >= end {
			return names, nil
		}
	}
}

// isName reports whether a query can have this service.
func isName(service string) bool { return registry.Query{Service: service}.Validate() == nil }

func isID(id string) bool { return id != "" && !strings.Contains(id, "/") }

func (d *driver) isInstance(service, id string, value []byte) bool {
	_, err := d.format.Decode(service, id, value)
	return err == nil
}
