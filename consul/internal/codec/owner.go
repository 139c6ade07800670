package codec

import (
	"fmt"
	"strconv"
	"strings"
)

// Owner is the owner tag of an entry: it says which write the entry is of. Consul has no conditional registration. So a write that seems to have
// failed can be delayed instead: an agent that hung reads it when it continues, and replaces what was written meanwhile. The owner tag shows
// that.
type Owner struct {
	Client string // of a driver
	Lease  uint64 // counts the leases of the driver
	Seq    uint64 // the sequence number: counts the contents of one lease
}

// String returns the text of the tag in the meta.
func (o Owner) String() string { return fmt.Sprintf("%s.%d.%d", o.Client, o.Lease, o.Seq) }

// ParseOwner reads what String writes. It returns the zero tag for malformed input.
func ParseOwner(text string) Owner {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return Owner{}
	}
	lease, err1 := strconv.ParseUint(parts[1], 10, 64)
	seq, err2 := strconv.ParseUint(parts[2], 10, 64)
	if err1 != nil || err2 != nil {
		return Owner{}
	}
	return Owner{parts[0], lease, seq}
}

// IsNewerThan reports whether other is the tag of an earlier write of the same client.
func (o Owner) IsNewerThan(other Owner) bool {
	return o.Client == other.Client && (other.Lease < o.Lease || other.Lease == o.Lease && other.Seq < o.Seq)
}

// Covers reports whether other is a tag of the same lease, or of an earlier lease of the same client.
func (o Owner) Covers(other Owner) bool { return o.Client == other.Client && other.Lease <= o.Lease }
