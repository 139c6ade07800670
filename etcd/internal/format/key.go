package format

// Span returns the range of all keys that begin with prefix, which ends in a slash or is empty.
func Span(prefix string) (first, end string) {
	if prefix == "" {
		return Everything, Everything
	}
	return prefix, PrefixEnd(prefix)
}

// Everything is the first possible key, and as the end of a range, no end.
const Everything = "\x00"

// PrefixEnd returns the first key after all keys that begin with prefix, which ends in a slash.
func PrefixEnd(prefix string) string { return prefix[:len(prefix)-1] + string('/'+1) }
