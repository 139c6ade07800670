package etcd

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/registry"
)

// valuesPage bounds an answer with values of which most may be anything.
const valuesPage = 100

// Services implements [registry.Driver]. Under our own prefix it reads keys alone; where others write it reads values too,
// since a key of another program may look like that of an instance. Of a service with many instances it reads about one page.
func (d *driver) Services(ctx context.Context) ([]string, error) {
	d.urge(ctx)
	var names []string
	ours := d.settings.Format == FormatRollcall
	limit := int64(valuesPage)
	if ours {
		limit = pageSize
	}
	next, end := span(d.settings.Prefix)
	for revision := int64(0); ; {
		page, err := d.page(ctx, "list services", &pb.RangeRequest{
			Key: []byte(next), RangeEnd: []byte(end), Revision: revision, Limit: limit, KeysOnly: ours,
		})
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			key := string(kv.Key)
			next = key + "\x00"
			service, id, ok := strings.Cut(strings.TrimPrefix(key, d.settings.Prefix), "/")
			if !ok {
				continue
			}
			if canBeAskedFor(service) && (len(names) == 0 || names[len(names)-1] != service) {
				if ours && !isID(id) || !ours && !d.isInstance(service, id, kv.Value) {
					continue
				}
				names = append(names, service)
			}
			next = prefixEnd(d.prefixOf(service))
		}
		if !page.More || end != everything && next >= end {
			return names, nil
		}
	}
}

func canBeAskedFor(service string) bool { return registry.Query{Service: service}.Validate() == nil }

func isID(id string) bool { return id != "" && !strings.Contains(id, "/") }

func (d *driver) isInstance(service, id string, value []byte) bool {
	_, err := d.format.decode(service, id, value)
	return err == nil
}
