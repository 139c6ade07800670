// Package urlparam reads the parameters of a registry URL or a gRPC target, for every backend in one manner: each
// parameter is asked for by name, and what nobody asked for is an error, so that a misspelt one is never ignored.
package urlparam

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Params are the parameters of one URL. Call the getters, then Err.
type Params struct {
	values url.Values
	known  []string // the names asked for, in that order
	errs   []error
}

// Parse takes the query part of a URL as it stands in url.URL.RawQuery.
func Parse(rawQuery string) *Params {
	v, err := url.ParseQuery(rawQuery)
	p := &Params{values: v}
	if err != nil {
		// The text of the error quotes the part that is wrong, which may be a token.
		p.errs = append(p.errs, fmt.Errorf("%w: URL parameters: malformed percent-encoding or separator", registry.ErrInvalid))
	}
	return p
}

// String sets *to to the parameter where it is there.
func (p *Params) String(name string, to *string) {
	if v, ok := p.one(name); ok {
		*to = v
	}
}

// Strings appends every value of the parameter to *to.
func (p *Params) Strings(name string, to *[]string) {
	p.known = append(p.known, name)
	*to = append(*to, p.values[name]...)
}

// Duration sets *to to the parameter where it is there: a number with a unit, such as 30s.
func (p *Params) Duration(name string, to *time.Duration) {
	parse(p, name, to, time.ParseDuration, "a duration such as 30s or 500ms")
}

// Int sets *to to the parameter where it is there.
func (p *Params) Int(name string, to *int) {
	parse(p, name, to, strconv.Atoi, "a whole number")
}

// Bool sets *to to the parameter where it is there: true or false, 1 or 0.
func (p *Params) Bool(name string, to *bool) {
	parse(p, name, to, strconv.ParseBool, "true or false")
}

// Prefixed puts every parameter whose name starts with prefix into *to, under the rest of its name.
func (p *Params) Prefixed(prefix string, to *map[string]string) {
	p.known = append(p.known, prefix+"…")
	for name, v := range p.values {
		key, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		switch {
		case key == "":
			p.errs = append(p.errs, fmt.Errorf("%w: URL parameter %q: a key must follow", registry.ErrInvalid, name))
			continue
		case len(v) > 1:
			p.errs = append(p.errs, repeated(name))
			continue
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = v[0]
	}
}

// Options sets the options that every backend takes by URL: cache-dir and linger.
func (p *Params) Options(to *registry.Options) {
	p.String("cache-dir", &to.CacheDir)
	p.Duration("linger", &to.Linger)
}

// Err returns an error that wraps registry.ErrInvalid and names every parameter that was malformed, given twice or not
// asked for, and nil where there is none.
func (p *Params) Err() error {
	var unknown []string
	for name := range p.values {
		if !slices.ContainsFunc(p.known, func(k string) bool { return matches(k, name) }) {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	errs := p.errs
	if len(unknown) > 0 {
		slices.Sort(unknown)
		known := "none is known"
		if len(p.known) > 0 {
			known = "known: " + strings.Join(slices.Sorted(slices.Values(p.known)), ", ")
		}
		errs = append(slices.Clone(errs), fmt.Errorf("%w: unknown URL parameter %s (%s)", registry.ErrInvalid, strings.Join(unknown, ", "), known))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func matches(known, name string) bool {
	prefix, ok := strings.CutSuffix(known, "…")
	return known == name || (ok && strings.HasPrefix(name, prefix))
}

func (p *Params) one(name string) (string, bool) {
	p.known = append(p.known, name)
	v, ok := p.values[name]
	if len(v) > 1 {
		p.errs = append(p.errs, repeated(name))
	}
	return p.values.Get(name), ok
}

func repeated(name string) error {
	return fmt.Errorf("%w: URL parameter %q: given more than once", registry.ErrInvalid, name)
}

// parse is for parameters whose values are no secret: it shows a malformed one.
func parse[T any](p *Params, name string, to *T, f func(string) (T, error), want string) {
	s, ok := p.one(name)
	if !ok {
		return
	}
	v, err := f(s)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%w: URL parameter %q: %q is not %s", registry.ErrInvalid, name, s, want))
		return
	}
	*to = v
}
