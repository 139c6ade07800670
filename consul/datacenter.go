package consul

import "github.com/rollcall-go/rollcall/consul/internal/codec"

// MetaDatacenter is the key of the metadata that names the datacenter of an instance, if [Config].Failover is set. Consul does not let
// anyone register a key that begins so.
const MetaDatacenter = codec.MetaDatacenter
