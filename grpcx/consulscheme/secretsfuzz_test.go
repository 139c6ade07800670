package consulscheme

import (
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"
)

// The error for a target shows no part of a secret, even if an unescaped character makes the rest of the secret another part of the URL.
func FuzzOpen_ErrorsShowNoSecret(f *testing.F) {
	const planted = "PlantedXyzzy"
	for _, s := range [][2]string{
		{"", ""}, {"12#", ""}, {"12/", ""}, {"12?", ""}, {"12&", ""}, {"12?wait=", ""}, {"a&", ""}, {"a&wait=", ""}, {"a&tag=", ""}, {"a#", ""}, {"a;", ""}, {"a+", ""}, {"a%", ""},
		{"a:", ""}, {"a@", ""}, {"12/", "?x"}, {"1/a?b#", "@"}, {"12/a ", ""}, {"1?near=", ","}, {"a&healthy=", ""}, {"a&max-backoff=-", ""}, {"a&dc=", ""},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		secret := before + planted + after
		for _, target := range []string{
			"consul://user:" + secret + "@host/greeter", "consul://user:" + secret + "@host/greeter?tags=x", "consul://" + secret + "@host/greeter", "consul://user:" + secret + "@host/a/b",
			"consul://host/greeter?token=" + secret, "consul://host/greeter?limit=-1&token=" + secret, "consul://host/a/b?token=" + secret, "consul://host:0/greeter?token=" + secret,
		} {
			u, err := url.Parse(target)
			if err != nil {
				continue // gRPC takes it for a target of its default scheme
			}
			_, _, release, err := open(resolver.Target{URL: *u})
			if err == nil {
				release()
			} else if strings.Contains(err.Error(), planted) {
				t.Errorf("%s: %v", target, err)
			}
		}
	})
}
