package urlparam

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

const notShown = "(not shown, since it may be a part of a secret)"

// howToEncode names the characters that end a secret in a URL unless they are encoded.
const howToEncode = "in a user, a password, a token and other values the characters / ? # @ : & ; + % and blanks must be " +
	"percent-encoded: %2F %3F %23 %40 %3A %26 %3B %2B %25 %20"

// canShow reports whether an error may show the name of an unknown parameter, or the value of a known one. It must not if that may
// be the rest of a secret with an unescaped character:
//
//   - of a user or a password, if there is an '@' in the query;
//   - of a token, if the parameter comes after one.
func (p *Params) canShow(name string) bool {
	return !strings.Contains(p.raw, "@") && !slices.Contains(afterSecret(p.raw, p.secrets), name) && plainName(name)
}

// afterSecret returns the names of the parameters after the first secret, or possible secret.
func afterSecret(rawQuery string, secrets []string) (names []string) {
	found := false
	for pair := range strings.SplitSeq(rawQuery, "&") {
		raw, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(raw)
		if err != nil {
			name = raw
		}
		if found {
			names = append(names, name)
		}
		found = found || slices.Contains(secrets, name) || mayBeSecret(name)
	}
	return names
}

// mayBeSecret reports whether a parameter of that name may be a secret, even if the backend does not have it: the name may be
// misspelt, or the URL was written for another backend.
func mayBeSecret(name string) bool {
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "file") {
		return false
	}
	return strings.Contains(name, "token") || strings.Contains(name, "passw") || strings.Contains(name, "secret")
}

// plainName reports whether name has only characters that names of parameters have.
func plainName(name string) bool {
	return len(name) <= 40 && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})
}

// User returns the user and the password of u. The error wraps registry.ErrInvalid and quotes neither.
//
// A URL has one user, before the first host. In consul://host,user:password@host2/ the first host would become a part of the user,
// so a user with a comma is refused.
func User(u *url.URL) (user, password string, err error) {
	user = u.User.Username()
	password, _ = u.User.Password()
	switch {
	case u.User != nil && user == "":
		err = fmt.Errorf("%w: URL: user is empty", registry.ErrInvalid)
	case strings.Contains(user, ","):
		err = fmt.Errorf("%w: URL: the user has a comma in it (not shown): user and password come once, before the first host, as in "+
			"%s://user:password@host,host2/; a user whose name has a comma cannot be in a URL", registry.ErrInvalid, u.Scheme)
	}
	return user, password, err
}

// Rest returns an error if u has a fragment, or a path with an '@': either may be the rest of a user, a password or a token with an
// unescaped character. The error then shows nothing of u, and must not be joined with another one.
func Rest(u *url.URL) error {
	path, fragment := u.EscapedPath(), u.EscapedFragment()
	switch {
	case fragment != "" && u.User == nil && u.RawQuery == "" && !strings.Contains(path+fragment, "@"):
		return fmt.Errorf("%w: URL: fragment %q has no meaning here", registry.ErrInvalid, u.Fragment)
	case fragment != "":
		return fmt.Errorf("%w: URL: it has a fragment %s: %s", registry.ErrInvalid, notShown, howToEncode)
	case strings.Contains(path, "@"):
		return fmt.Errorf("%w: URL: it has a path with an '@' %s: %s", registry.ErrInvalid, notShown, howToEncode)
	}
	return nil
}

// Path returns an error if u has a path. why comes after the path in its text.
func Path(u *url.URL, why string) error {
	switch {
	case u.Path == "" || u.Path == "/":
		return nil
	case strings.Contains(u.EscapedPath()+u.RawQuery, "@"):
		return fmt.Errorf("%w: URL: it has a path %s: %s", registry.ErrInvalid, notShown, howToEncode)
	}
	return fmt.Errorf("%w: URL: path %q %s", registry.ErrInvalid, u.Path, why)
}

// Address returns an address as an error may show it. The rest of an address with parameters, as a URL for Open has them, may be a
// token or a password.
func Address(text string) string {
	if i := strings.IndexAny(text, afterAddress); i >= 0 {
		return fmt.Sprintf("%q, with more after it %s,", text[:i], notShown)
	}
	return strconv.Quote(text)
}

// afterAddress has the characters that end an address.
const afterAddress = "?#&;="

// MayHaveSecret reports whether an address may have a user, a password or parameters. It may be no proper URL.
func MayHaveSecret(address string) bool { return strings.ContainsAny(address, "@"+afterAddress) }

// quoted is a value in an error text.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// Conceal hides the values in err that may be a part of a secret. err is about settings that were read from u. Hidden are the values
// of the parameters after one of the named secrets, and all of them if there is an '@' in the query.
func Conceal(u *url.URL, err error, secrets ...string) error {
	names := afterSecret(u.RawQuery, secrets)
	if strings.Contains(u.RawQuery, "@") {
		names = afterSecret("&"+u.RawQuery, []string{""}) // all
	}
	if err == nil || len(names) == 0 {
		return err
	}
	text := quoted.ReplaceAllString(err.Error(), notShown)
	for _, name := range names {
		for _, value := range u.Query()[name] {
			if len(value) >= 4 { // an error of the operating system has the name of a file without quotes
				text = strings.ReplaceAll(text, value, notShown)
			}
		}
	}
	if text == err.Error() {
		return err
	}
	if outer, ok := err.(*registry.Error); ok {
		return &registry.Error{Op: outer.Op, Service: outer.Service, ID: outer.ID, Err: Conceal(u, outer.Err, secrets...)}
	}
	if !errors.Is(err, registry.ErrInvalid) {
		return errors.New(text)
	}
	return fmt.Errorf("%w: %s", registry.ErrInvalid, strings.TrimPrefix(text, registry.ErrInvalid.Error()+": "))
}
