package consul

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/registry"
)

// checkMeta returns an error for [Config].Meta that Consul would refuse, or that has a meaning of its own in an entry.
func checkMeta(meta map[string]string) error {
	fail := func(value, why string) error { return invalid("Meta (meta)", value, why) }
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if key == "" || !codec.IsPlainPair(key, meta[key]) {
			return fail(strconv.Quote(key+"="+meta[key]), fmt.Sprintf("cannot be metadata of every instance: a key has letters, digits, '-' and '_', "+
				"at most %d bytes of key and %d of value, is neither version nor zone, and does not begin with %s or %s", codec.MaxKey, codec.MaxValue, codec.OwnPrefix, codec.ConsulPrefix))
		}
	}
	if len(meta) > codec.MaxPairs/2 {
		return fail(fmt.Sprintf("%d pairs", len(meta)), fmt.Sprintf("are more than %d, half of the pairs that Consul allows an instance", codec.MaxPairs/2))
	}
	return nil
}

// withMeta returns in with the pairs of Config.Meta that it has no value of its own for.
func (s *settings) withMeta(in *registry.Instance) *registry.Instance {
	if len(s.Meta) == 0 {
		return in
	}
	in = in.Clone()
	own := in.Metadata
	in.Metadata = maps.Clone(s.Meta)
	maps.Copy(in.Metadata, own)
	return in
}
