package document

import (
	"fmt"
	"strings"
)

// ParseList reads a text with commas between its parts, such as "dc2, dc3". Blanks around a part do not count. The empty text is
// the empty list.
func ParseList(text string) []string {
	if text == "" {
		return []string{}
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// ParsePairs reads a text with commas between its pairs, such as "team=payments, rack=7". The empty text has no pair.
func ParsePairs(text string) (map[string]string, error) {
	pairs := map[string]string{}
	for _, part := range ParseList(text) {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not a pair such as team=payments", part)
		}
		if _, twice := pairs[key]; twice {
			return nil, fmt.Errorf("%q names a key for the second time", part)
		}
		pairs[key] = value
	}
	return pairs, nil
}

// list reads a list of texts, or one text with commas between its parts.
type list []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(data []byte) error { return l.read(jsonOf(data)) }

// UnmarshalYAML is for yaml.v3 and goccy/go-yaml.
func (l *list) UnmarshalYAML(unmarshal func(any) error) error { return l.read(unmarshal) }

func (l *list) read(unmarshal func(any) error) error {
	var parts []string
	err := unmarshal(&parts)
	if err != nil {
		var text string
		if unmarshal(&text) != nil {
			return err
		}
		parts = ParseList(text)
	}
	if parts != nil { // null leaves it as it was
		*l = parts
	}
	return nil
}

// pairs reads a map of texts, or one text with commas between its pairs.
type pairs map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (p *pairs) UnmarshalJSON(data []byte) error { return p.read(jsonOf(data)) }

// UnmarshalYAML is for yaml.v3 and goccy/go-yaml.
func (p *pairs) UnmarshalYAML(unmarshal func(any) error) error { return p.read(unmarshal) }

func (p *pairs) read(unmarshal func(any) error) error {
	var read map[string]string
	err := unmarshal(&read)
	if err != nil {
		var text string
		if unmarshal(&text) != nil {
			return err
		}
		if read, err = ParsePairs(text); err != nil {
			return err
		}
	}
	if read != nil { // null leaves it as it was
		*p = read
	}
	return nil
}
