package urlparam

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestParams_ReadEveryKind(t *testing.T) {
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

func TestParams_NameEveryFault(t *testing.T) {
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

func TestParams_OffAndZeroAreOff(t *testing.T) {
	for _, text := range []string{"off", "0", "0s", "-1ns"} {
		var o registry.Options
		p := Parse("linger=" + text + "&outage-grace=" + text)
		p.Options(&o)
		if err := p.Err(); err != nil || o.Linger != -1 || o.OutageGrace != -1 {
			t.Errorf("%s is %v and %v, %v", text, o.Linger, o.OutageGrace, err)
		}
	}
	p, limit, on := Parse("limit=off&x=off&y=on"), 7, true
	var other bool
	p.IntOrOff("limit", &limit)
	p.Bool("x", &on)
	p.Bool("y", &other)
	if err := p.Err(); err != nil || limit != 0 || on || !other {
		t.Errorf("off is %d, %v, %v, %v", limit, on, other, err)
	}
	p = Parse("d=off&i=off")
	var d time.Duration
	var i int
	p.Duration("d", &d)
	p.Int("i", &i)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), `"d": "off"`) || !strings.Contains(err.Error(), `"i": "off"`) {
		t.Errorf("what cannot be off says %v", err)
	}
}

func TestParams_RefusesANegativeDurationAndNamesOff(t *testing.T) {
	for _, name := range []string{"linger", "outage-grace"} {
		var o registry.Options
		p := Parse(name + "=-1s")
		p.Options(&o)
		want := fmt.Sprintf(`URL parameter %q: "-1s" is negative; to turn it off, write off`, name)
		if err := p.Err(); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is read with the error %v, want %s", name, err, want)
		}
	}
}

func TestParams_OptionsAreAllRead(t *testing.T) {
	p := Parse("cache-dir=c&linger=1s&outage-grace=2s&backoff-min=3s&backoff-max=4s&burst=5&spacing=6s&spacing-per-instance=7s")
	var o registry.Options
	p.Options(&o)
	want := registry.Options{CacheDir: "c", Linger: time.Second, OutageGrace: 2 * time.Second, BackoffMin: 3 * time.Second, BackoffMax: 4 * time.Second,
		Burst: 5, Spacing: 6 * time.Second, SpacingPerInstance: 7 * time.Second}
	if err := p.Err(); err != nil || o != want {
		t.Errorf("read %+v, %v", o, err)
	}
}

func TestParams_UnknownSuggestsTheNearest(t *testing.T) {
	for unknown, want := range map[string]string{
		"tags": `"tag"`, "token_file": `"token-file"`, "TokenFile": `"token-file"`, "tkoen": `"token"`, "deregister-afer": `"deregister-after"`,
		"met.k": "", "metas": `"meta.KEY"`, "nonsense": "", "x": "", "wiat": `"wait"`, "dcs": `"dc"`,
	} {
		p := Parse(unknown + "=1")
		var text string
		var meta map[string]string
		for _, known := range []string{"tag", "token-file", "token", "deregister-after", "wait", "dc"} {
			p.String(known, &text)
		}
		p.Prefixed("meta.", &meta)
		err := p.Err()
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("unknown URL parameter %q (known: ", unknown)) {
			t.Errorf("%s: %v", unknown, err)
			continue
		}
		_, hint, _ := strings.Cut(err.Error(), "did you mean ")
		if want == "" && hint != "" || want != "" && !strings.HasPrefix(hint, want) {
			t.Errorf("%s suggests %s, want %s", unknown, hint, want)
		}
	}
}

// What follows an unescaped character of a secret is shown neither as a name nor as a value.
func TestParams_ShowsNothingAfterASecret(t *testing.T) {
	for query, want := range map[string]string{
		"token=a&s3cret":                      "%26",
		"token=a&s3cret=1":                    "%26",
		"token=a&wait=s3cret":                 `"wait"`,
		"token=a+s3cret":                      "%2B",
		"token=a;s3cret":                      "%3B",
		"token=a%s3cret":                      "%25",
		"token=s3cret&token=s3cret":           "more than once",
		"s3cret@host/":                        "%40",
		"s3cret/x":                            "%2F",
		"wait=s3cret@host/":                   `"wait"`,
		"token=a&meta.s3cret=1&meta.s3cret=2": "more than once",
	} {
		p := Parse(query)
		var token registry.Secret
		var wait time.Duration
		var meta map[string]string
		p.Duration("wait", &wait)
		p.Prefixed("meta.", &meta)
		p.Secret("token", &token)
		err := p.Err()
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
	p := Parse("wait=soon&token=a")
	var wait time.Duration
	var token registry.Secret
	p.Duration("wait", &wait)
	p.Secret("token", &token)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), `"soon"`) {
		t.Errorf("a value before a secret is not shown: %v", err)
	}
}

// A URL may be written for another backend, or name the secret wrongly.
func TestParams_ShowsNothingAfterASecretOfAnotherBackend(t *testing.T) {
	for _, name := range []string{"token", "Token", "acl_token", "password", "client-secret"} {
		for _, rest := range []string{"s3cret", "s3cret=1", "wait=s3cret"} {
			p := Parse(name + "=a&" + rest)
			var wait time.Duration
			p.Duration("wait", &wait)
			if err := p.Err(); !errors.Is(err, registry.ErrInvalid) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s=a&%s: %v", name, rest, err)
			}
		}
	}
	p := Parse("token-file=a&wait=soon")
	var wait time.Duration
	p.Duration("wait", &wait)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), `"soon"`) {
		t.Errorf("what follows the name of a file is not shown: %v", err)
	}
}

func TestConceal_HidesWhatMayBelongToASecret(t *testing.T) {
	invalid := fmt.Errorf(`%w: Format (format): "s3cret" is none; open /s3cret: no such file`, registry.ErrInvalid)
	for raw, hidden := range map[string]bool{
		"x://h/?token=a&format=s3cret&ca-file=/s3cret": true, "x://h/?format=s3cret@x/&ca-file=/s3cret": true,
		"x://h/?format=s3cret&ca-file=/s3cret&token=a": false, "x://u:p@h/?format=s3cret": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := Conceal(u, invalid, "token")
		if !errors.Is(got, registry.ErrInvalid) || strings.Contains(got.Error(), "s3cret") == hidden || !strings.Contains(got.Error(), "Format (format)") {
			t.Errorf("%s: %v", raw, got)
		}
		if Conceal(u, nil, "token") != nil {
			t.Error("an error appears")
		}
	}
}

func TestParams_ListsAndPairs(t *testing.T) {
	p := Parse("l=a,%20b&m=k%3Dv,l%3D&n=k&o=a%3D1,a%3D2")
	var l []string
	var m, n, o map[string]string
	p.List("l", &l)
	p.Pairs("m", &m)
	p.Pairs("n", &n)
	p.Pairs("o", &o)
	err := p.Err()
	if !slices.Equal(l, []string{"a", "b"}) || !maps.Equal(m, map[string]string{"k": "v", "l": ""}) || n != nil || o != nil {
		t.Error(l, m, n, o)
	}
	if text := fmt.Sprint(err); !strings.Contains(text, `"n": "k" is not`) || !strings.Contains(text, `"o": "a=1,a=2" is not`) || strings.Contains(text, "\n") {
		t.Errorf("the error is %q", text)
	}
}

func TestErr_SuggestsSynonyms(t *testing.T) {
	for name, want := range map[string]string{"datacenter": "dc", "data_center": "dc", "insecure_skip_verify": "insecure", "cacert": "ca-file"} {
		p := Parse(name + "=x")
		var s string
		for _, known := range []string{"dc", "insecure", "ca-file", "wait"} {
			p.String(known, &s)
		}
		if err := p.Err(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("did you mean %q for %q?", want, name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := Parse("datacenter=x")
	if err := p.Err(); err == nil || strings.Contains(err.Error(), "did you mean") {
		t.Errorf("a parameter is suggested that does not exist: %v", err)
	}
}

func TestUser_RefusesUserThatHidesHost(t *testing.T) {
	for raw, want := range map[string]string{
		"consul://h/":                "",
		"consul://u:p@h,h2/":         "",
		"consul://:s3cret@h/":        "user is empty",
		"consul://h,s3cret:pw@h2/":   "before the first host",
		"consul://h:1,u:s3cret@h2/":  "", // u:s3cret belongs to the password: the server refuses the user h
		"consul://h%2Cs3cret:p@h2/":  "before the first host",
		"consul://h,i,u:s3cret@h2:1": "before the first host",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = User(u)
		if text := fmt.Sprint(err); (err != nil) != (want != "") || err != nil && !strings.Contains(text, want) || strings.Contains(text, "s3cret") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
