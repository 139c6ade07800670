package urlparam

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// unknown returns an error that names the parameters that were not asked for, each with the nearest known one. It returns nil if
// there are none.
func (p *Params) unknown() error {
	var shown, hints []string
	hidden := false
	for name := range p.values {
		if slices.ContainsFunc(p.known, func(k string) bool { return matches(k, name) }) {
			continue
		}
		near := p.nearest(name)
		if !p.canShow(name) {
			hidden = true
			if near != "" {
				hints = append(hints, fmt.Sprintf("%q", near))
			}
			continue
		}
		shown = append(shown, strconv.Quote(name))
		if near != "" {
			hints = append(hints, fmt.Sprintf("%q for %q", near, name))
		}
	}
	if len(shown) == 0 && !hidden {
		return nil
	}
	slices.Sort(shown)
	if hidden {
		shown = append(shown, notShown)
	}
	known := "none is known"
	if len(p.known) > 0 {
		known = "known: " + strings.Join(slices.Sorted(slices.Values(p.known)), ", ")
	}
	text := fmt.Sprintf("unknown URL parameter %s (%s)", strings.Join(shown, ", "), known)
	if len(hints) > 0 {
		slices.Sort(hints)
		text += "; did you mean " + strings.Join(slices.Compact(hints), ", ") + "?"
	}
	if hidden {
		text += "; " + howToEncode
	}
	return fmt.Errorf("%w: %s", registry.ErrInvalid, text)
}

func matches(known, name string) bool {
	prefix, ok := strings.CutSuffix(known, "…")
	return known == name || (ok && strings.HasPrefix(name, prefix))
}

// synonyms maps names that users try to the names of parameters: the name of the field in a file, if the parameter has another name,
// and names that other clients have. All are in lower case, with '-' between words.
var synonyms = map[string]string{
	"addr": "address", "ca-cert": "ca-file", "cacert": "ca-file", "cacert-file": "ca-file", "checks": "check", "data-center": "dc",
	"datacenter": "dc", "endpoints": "endpoint", "insecure-skip-verify": "insecure", "kinds": "check", "ssl": "tls", "tags": "tag",
}

// nearest returns the known name that is the nearest to an unknown one, or "" if none is near. Case and the separator do not
// count, since a file of settings has ca_file for ca-file.
func (p *Params) nearest(unknown string) string {
	const far = 1 << 30
	best, least := "", far
	plain := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(unknown))
	if synonym := synonyms[plain]; slices.Contains(p.known, synonym) {
		return synonym
	}
	for _, known := range slices.Sorted(slices.Values(p.known)) {
		name := known
		if prefix, ok := strings.CutSuffix(known, "…"); ok {
			name, known = strings.TrimRight(prefix, "."), prefix+"KEY"
		}
		if d := distance(plain, name); d < least {
			best, least = known, d
		}
	}
	if least > max(1, min(len(unknown), 9)/3) {
		return ""
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their neighbour that make b of a.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
