package consul

import (
	"fmt"
	"maps"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// parseMeta reads the pairs of [Config].Meta, such as "team=payments,rack=7".
func parseMeta(text string) (map[string]string, error) {
	pairs := map[string]string{}
	if text == "" {
		return pairs, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		fail := func(why string) (map[string]string, error) {
			return nil, invalid("Meta (meta)", fmt.Sprintf("%q", pair), why)
		}
		switch _, twice := pairs[key]; {
		case !ok || key == "":
			return fail("is no pair such as team=payments")
		case twice:
			return fail("has a key that stands there twice")
		case !plainPair(key, value):
			return fail(fmt.Sprintf("is none that Consul takes and that has no other meaning: letters, digits, '-' and '_', %d bytes of key and %d of value, and neither version nor zone nor what begins with %s or %s",
				maxKey, maxValue, ownPrefix, consulPrefix))
		}
		pairs[key] = value
	}
	if len(pairs) > maxPairs/2 {
		return nil, invalid("Meta (meta)", fmt.Sprintf("%d pairs", len(pairs)), fmt.Sprintf("are more than %d, half of what Consul takes with an instance", maxPairs/2))
	}
	return pairs, nil
}

// withMeta is in with the pairs of Config.Meta that it has no own value for.
func (s *settings) withMeta(in *registry.Instance) *registry.Instance {
	if len(s.meta) == 0 {
		return in
	}
	in = in.Clone()
	own := in.Metadata
	in.Metadata = maps.Clone(s.meta)
	maps.Copy(in.Metadata, own)
	return in
}
