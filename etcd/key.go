package etcd

// prefixOf begins the keys of a service, and of no other: it ends in a slash.
func (d *driver) prefixOf(service string) string { return d.settings.Prefix + service + "/" }

// keyOf is the key of an instance.
func (d *driver) keyOf(service, id string) string { return d.prefixOf(service) + id }

// span is the range of all keys that begin with prefix, which ends in a slash or is empty.
func span(prefix string) (first, end string) {
	if prefix == "" {
		return everything, everything
	}
	return prefix, prefixEnd(prefix)
}

// everything is the first key that there can be, and as the end of a range none.
const everything = "\x00"

// prefixEnd is the first key after all that begin with prefix, which ends in a slash.
func prefixEnd(prefix string) string { return prefix[:len(prefix)-1] + string('/'+1) }
