package etcd

import "github.com/rollcall-go/rollcall/etcd/internal/format"

// The values of [Config].Format.
const (
	FormatRollcall = format.Rollcall // Rollcall's own
	FormatNaming   = format.Naming   // etcd's own client: go.etcd.io/etcd/client/v3/naming
	FormatKratos   = format.Kratos
	FormatGoZero   = format.GoZero
	FormatGoMicro  = format.GoMicro // read only
)
