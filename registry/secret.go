package registry

import (
	crand "crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"unique"
)

// Secret is a text that must not be shown, such as a password or a token. The zero value is no secret.
//
// Every encoding and printing shows [HiddenSecret] in its place: fmt with any verb, log/slog, encoding/json, YAML, XML and
// gob. In an unexported field, which fmt prints without asking the type, it shows an address in memory. [Secret.Reveal]
// is the one way to the text.
//
// A Secret reads as plain text from JSON, YAML, viper, koanf and anything else that knows [encoding.TextUnmarshaler]. Text that
// looks like a number has to be in quotes.
//
// Code uses NewSecret("text"). A string constant cannot be assigned to a Secret: a type that allows this is a string, and fmt prints
// strings in unexported fields.
//
// Two secrets with the same text are equal under ==. A Secret is safe for concurrent use, as a string is.
type Secret struct {
	// masked is kept behind a pointer, which fmt does not follow, and is unreadable without mask, for printers that do.
	masked unique.Handle[string]
}

// HiddenSecret is what is shown in place of a [Secret].
const HiddenSecret = "(hidden)"

// NewSecret returns text as a secret. An empty text is no secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(mask(text))}
}

// Reveal returns the text. It is "" if there is no secret.
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return mask(s.masked.Value())
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// String returns [HiddenSecret], or "" if there is no secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return HiddenSecret
}

// GoString returns [HiddenSecret] in quotes, or "" in quotes if there is no secret.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// Format implements [fmt.Formatter], so that no verb shows the text.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		io.WriteString(f, s.GoString())
		return
	}
	io.WriteString(f, s.String())
}

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String does, so a Secret that was encoded cannot be read back.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads plain text. It refuses [HiddenSecret], which an encoding shows in place of a secret.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == HiddenSecret {
		return fmt.Errorf("%w: %s is what programs write in place of a secret; the secret itself is needed", ErrInvalid, HiddenSecret)
	}
	*s = NewSecret(string(text))
	return nil
}

// UnmarshalYAML reads plain text for yaml.v3 and goccy/go-yaml. It refuses what UnmarshalMapstructure does.
func (s *Secret) UnmarshalYAML(unmarshal func(any) error) error {
	var in any
	if unmarshal(&in) != nil {
		return errNoText // the text of the error may quote the secret
	}
	return s.UnmarshalMapstructure(in)
}

// UnmarshalMapstructure reads plain text for viper and koanf. It refuses a value without quotes that these readers take for a
// number or a boolean, since its text is lost: 0123 has become 83.
func (s *Secret) UnmarshalMapstructure(in any) error {
	switch in := in.(type) {
	case nil:
		return nil
	case string:
		return s.UnmarshalText([]byte(in))
	case Secret:
		*s = in
		return nil
	case *Secret:
		if in != nil {
			*s = *in
		}
		return nil
	}
	return errNoText
}

var errNoText = fmt.Errorf("%w: a secret must be text: put it in quotes", ErrInvalid)

// GobEncode returns what String does. Gob does not know [encoding.TextMarshaler].
func (s Secret) GobEncode() ([]byte, error) { return s.MarshalText() }

// GobDecode reads as UnmarshalText does.
func (s *Secret) GobDecode(text []byte) error { return s.UnmarshalText(text) }

// maskSeed is new in each process. The mask guards against printers that follow pointers, not against a reader of the memory.
var maskSeed = func() (seed [32]byte) {
	crand.Read(seed[:]) // never fails
	return seed
}()

// mask makes text unreadable, and masked text readable.
func mask(text string) string {
	out := make([]byte, len(text))
	rand.NewChaCha8(maskSeed).Read(out)
	subtle.XORBytes(out, out, []byte(text))
	return string(out)
}
