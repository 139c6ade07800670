package jsondiff

import "fmt"

// Bounds of an answer. A service of 50,000 instances with 1,500 bytes each is below all of them.
const (
	maxAnswer  = 128 << 20 // bytes of an answer with a set, after decompression
	maxEntries = 200_000   // of an answer
	maxEntry   = 4 << 20   // bytes of an entry; a larger one cannot be decoded in pieces, and so not be interrupted
	maxParts   = 2_000_000 // tags, endpoints and pairs of metadata of all entries together, which take more memory than text
)

var errTooLargeEntry = fmt.Errorf("it has more than %d bytes", maxEntry)

// tooLarge returns the error for something that exceeds one of the bounds.
func tooLarge(what string, bound int) error {
	return Error(fmt.Sprintf("%s has more than %d bytes, and is not read", what, bound))
}
