package urlparam

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestEveryKindIsRead(t *testing.T) {
	p := Parse("s=a%20b&tag=x&tag=y&d=1m30s&i=-7&b=true&meta.k=v&meta.l=w&cache-dir=%2Fc&linger=1s")
	var (
		s    string
		tags []string
		d    time.Duration
		i    int
		b    bool
		meta map[string]string
		o    registry.Options
		none = "default"
	)
	p.String("s", &s)
	p.Strings("tag", &tags)
	p.Duration("d", &d)
	p.Int("i", &i)
	p.Bool("b", &b)
	p.Prefixed("meta.", &meta)
	p.String("absent", &none)
	p.Options(&o)
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	if s != "a b" || !slices.Equal(tags, []string{"x", "y"}) || d != 90*time.Second || i != -7 || !b || none != "default" ||
		!maps.Equal(meta, map[string]string{"k": "v", "l": "w"}) || o.CacheDir != "/c" || o.Linger != time.Second {
		t.Error(s, tags, d, i, b, meta, none, o)
	}
}

func TestEveryFaultIsNamed(t *testing.T) {
	p := Parse("d=soon&i=1.5&b=maybe&s=1&s=2&metal=1&meta.=x&meta.k=1&meta.k=2")
	var (
		s    string
		d    time.Duration
		i    int
		b    bool
		meta map[string]string
	)
	p.String("s", &s)
	p.Duration("d", &d)
	p.Int("i", &i)
	p.Bool("b", &b)
	p.Prefixed("meta.", &meta)
	err := p.Err()
	if !errors.Is(err, registry.ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"d": "soon" is not a duration`, `"i": "1.5" is not a whole number`, `"b": "maybe" is not true or false`, `"s": given more than once`,
		`unknown URL parameter "metal" (known: b, d, i, meta.…, s)`, `"meta.": a key must follow`, `"meta.k": given more than once`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
