// Package urlparam reads the parameters of a registry URL or a gRPC target, in the same way for every backend: each parameter is
// asked for by name, and a parameter that was not asked for is an error, so that a misspelt one is never ignored.
package urlparam

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/document"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/tlsfiles"
	"github.com/rollcall-go/rollcall/registry"
)

// Params are the parameters of one URL. Call the getters, then Err.
type Params struct {
	raw     string
	values  url.Values
	known   []string // the names asked for, in that order
	secrets []string // the names in known whose values are secrets
	faults  []fault
}

// fault says what is wrong with a parameter. Whether its value can be shown is known when all parameters have been asked for.
type fault struct {
	name  string  // "" if it is the query as a whole
	value *string // the malformed value, or nil
	why   string
}

// Parse takes the query part of a URL, as in url.URL.RawQuery.
func Parse(rawQuery string) *Params {
	v, err := url.ParseQuery(rawQuery)
	p := &Params{raw: rawQuery, values: v}
	if err != nil {
		// The text of the error quotes the part that is wrong, which may be a token.
		p.faults = append(p.faults, fault{why: "malformed percent-encoding or separator: " + howToEncode})
	}
	return p
}

// String sets *to to the parameter if the URL has it.
func (p *Params) String(name string, to *string) {
	if v, ok := p.one(name); ok {
		*to = v
	}
}

// Secret sets *to to the parameter if the URL has it. No error shows it, or the parameters after it: an unescaped '&' in a
// secret makes a parameter of the rest.
func (p *Params) Secret(name string, to *registry.Secret) {
	p.secrets = append(p.secrets, name)
	v, ok := p.one(name)
	if !ok {
		return
	}
	if strings.Contains(v, " ") {
		p.faults = append(p.faults, fault{name: name, why: "contains a blank; a + has to be written %2B"})
		return
	}
	*to = registry.NewSecret(v)
}

// List sets *to to the parameter if the URL has it: a text with commas between its parts.
func (p *Params) List(name string, to *[]string) {
	parse(p, name, to, func(text string) ([]string, error) { return document.ParseList(text), nil }, "a list")
}

// Pairs sets *to to the parameter if the URL has it: a text with commas between its pairs.
func (p *Params) Pairs(name string, to *map[string]string) {
	parse(p, name, to, document.ParsePairs, "a list of different pairs such as team=payments,rack=7")
}

// Strings appends every value of the parameter to *to. The parameter may be there several times.
func (p *Params) Strings(name string, to *[]string) {
	p.known = append(p.known, name)
	*to = append(*to, p.values[name]...)
}

// Duration sets *to to the parameter if the URL has it: a number with a unit, such as 30s.
func (p *Params) Duration(name string, to *time.Duration) {
	parse(p, name, to, time.ParseDuration, "a duration such as 30s or 500ms")
}

// DurationOrOff is Duration for a setting that can be off: "off" and 0 set *to to a negative duration. A negative duration is refused.
func (p *Params) DurationOrOff(name string, to *time.Duration) {
	negative := false
	parse(p, name, to, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if text == "off" || err == nil && d == 0 {
			return document.Off, nil
		}
		negative = d < 0 && d != document.Off
		return d, err
	}, "a duration such as 30s or 500ms, or off")
	if negative {
		p.Refuse(name, p.values.Get(name), "is negative; to turn it off, write off")
	}
}

// Int sets *to to the parameter if the URL has it.
func (p *Params) Int(name string, to *int) {
	parse(p, name, to, strconv.Atoi, "a whole number")
}

// IntOrOff is Int for a bound that 0 turns off: "off" is 0.
func (p *Params) IntOrOff(name string, to *int) {
	parse(p, name, to, func(text string) (int, error) {
		if text == "off" {
			return 0, nil
		}
		return strconv.Atoi(text)
	}, "a whole number, or off")
}

// Bool sets *to to the parameter if the URL has it: true or false, 1 or 0, on or off.
func (p *Params) Bool(name string, to *bool) {
	parse(p, name, to, ParseBool, "true or false")
}

// ParseBool reads a text as Bool does.
func ParseBool(text string) (bool, error) {
	switch text {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return strconv.ParseBool(text)
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
			p.faults = append(p.faults, fault{name: name, why: "a key must follow"})
			continue
		case len(v) > 1:
			p.faults = append(p.faults, fault{name: name, why: repeated})
			continue
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = v[0]
	}
}

// Options sets the options that every backend takes by URL.
func (p *Params) Options(to *registry.Options) {
	p.String("cache-dir", &to.CacheDir)
	p.DurationOrOff("linger", &to.Linger)
	p.DurationOrOff("outage-grace", &to.OutageGrace)
	p.Bool("keep-on-close", &to.KeepOnClose)
	p.Duration("close-timeout", &to.CloseTimeout)
	p.Duration("backoff-min", &to.BackoffMin)
	p.Duration("backoff-max", &to.BackoffMax)
	p.Int("burst", &to.Burst)
	p.Duration("spacing", &to.Spacing)
	p.Duration("spacing-per-instance", &to.SpacingPerInstance)
	p.IntOrOff("rate", &to.Rate)
}

// TLS sets the settings of a connection with TLS.
func (p *Params) TLS(to *tlsfiles.Settings) {
	p.Bool("tls", &to.Enable)
	p.String("ca-file", &to.CAFile)
	p.String("ca-path", &to.CAPath)
	p.String("cert-file", &to.CertFile)
	p.String("key-file", &to.KeyFile)
	p.String("server-name", &to.ServerName)
	p.Bool("insecure", &to.InsecureSkipVerify)
}

// Refuse makes Err report a value that its getter accepted.
func (p *Params) Refuse(name, value, why string) {
	p.faults = append(p.faults, fault{name, &value, why})
}

// Err returns an error that wraps registry.ErrInvalid and names every parameter that is malformed, is given twice or was not
// asked for. It returns nil if there is none.
func (p *Params) Err() error {
	var errs []error
	for _, f := range p.faults {
		errs = append(errs, p.errorOf(f))
	}
	if unknown := p.unknown(); unknown != nil {
		errs = append(errs, unknown)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return oneline.Join(errs...)
}

func (p *Params) errorOf(f fault) error {
	name, why := fmt.Sprintf(" %q", f.name), f.why
	if f.value != nil {
		shown := "the value " + notShown
		if p.canShow(f.name) {
			shown = strconv.Quote(*f.value)
		}
		why = shown + " " + why
	}
	switch {
	case f.name == "":
		name = "s"
	case !slices.Contains(p.known, f.name) && !p.canShow(f.name): // only one with a prefix
		name = " " + notShown
	}
	return fmt.Errorf("%w: URL parameter%s: %s", registry.ErrInvalid, name, why)
}

func (p *Params) one(name string) (string, bool) {
	p.known = append(p.known, name)
	v, ok := p.values[name]
	if len(v) > 1 {
		p.faults = append(p.faults, fault{name: name, why: repeated})
	}
	return p.values.Get(name), ok
}

const repeated = "given more than once"

// parse reads a parameter that is no secret: the error shows a malformed value.
func parse[T any](p *Params, name string, to *T, f func(string) (T, error), want string) {
	s, ok := p.one(name)
	if !ok {
		return
	}
	v, err := f(s)
	if err != nil {
		p.Refuse(name, s, "is not "+want)
		return
	}
	*to = v
}
