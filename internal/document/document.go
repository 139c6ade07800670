// Package document reads structs of settings from documents, so that every reader accepts the same document: encoding/json and YAML
// read into a copy of the struct whose fields read themselves, and viper and koanf pass the map that they have parsed.
//
// A field is named by its json tag. Some types of field accept more than their readers do by themselves:
//
//   - time.Duration: text such as "90s", or nanoseconds. With the tag off:"negative", "off" and 0 are read as [Off], since 0
//     in the struct means the default, and any other negative duration is refused.
//   - []string: a list, or one text with commas between its parts.
//   - map[string]string: a map, or one text with commas between its pairs, such as "team=payments,rack=7".
//
// An error names the field, such as checks.interval.
package document

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Off is the value of a duration that is turned off.
const Off time.Duration = -1

// UnmarshalJSON reads data into the struct that to points to. What data does not name stays as it was.
func UnmarshalJSON(data []byte, to any) error { return throughShadow(to, jsonOf(data)) }

// jsonOf returns the function that reads data, in the form that YAML has it.
func jsonOf(data []byte) func(any) error {
	return func(to any) error { return json.Unmarshal(data, to) }
}

// UnmarshalYAML is UnmarshalJSON for YAML. It has the form that both yaml.v3 and goccy/go-yaml know, so it imports neither.
func UnmarshalYAML(unmarshal func(any) error, to any) error {
	return throughShadow(to, unmarshal)
}

// MarshalJSON writes the struct from, with durations as text.
func MarshalJSON(from any) ([]byte, error) {
	v := reflect.ValueOf(from)
	shadow := reflect.New(shadowOf(v.Type())).Elem()
	convertFields(shadow, v)
	return json.Marshal(shadow.Interface())
}

// throughShadow lets read fill a copy of *to whose durations, lists and pairs read themselves, and then copies it back. The copy
// has none of the methods of *to.
func throughShadow(to any, read func(shadow any) error) error {
	v := reflect.ValueOf(to).Elem()
	shadow := reflect.New(shadowOf(v.Type()))
	convertFields(shadow.Elem(), v)
	if err := read(shadow.Interface()); err != nil {
		return nameField(err, v.Type(), read)
	}
	convertFields(v, shadow.Elem())
	return nil
}

func shadowOf(t reflect.Type) reflect.Type {
	fields := make([]reflect.StructField, t.NumField())
	for i := range fields {
		f := t.Field(i)
		fields[i] = reflect.StructField{Name: f.Name, Type: shadowOfField(f), Tag: f.Tag}
	}
	return reflect.StructOf(fields)
}

// shadowOfField returns the type that reads itself in place of the type of f.
func shadowOfField(f reflect.StructField) reflect.Type {
	switch {
	case f.Type == reflect.TypeFor[time.Duration]() && canBeOff(f):
		return reflect.TypeFor[switchable]()
	case f.Type == reflect.TypeFor[time.Duration]():
		return reflect.TypeFor[duration]()
	case f.Type == reflect.TypeFor[[]string]():
		return reflect.TypeFor[list]()
	case f.Type == reflect.TypeFor[map[string]string]():
		return reflect.TypeFor[pairs]()
	}
	return f.Type
}

func convertFields(to, from reflect.Value) {
	for i := range to.NumField() {
		to.Field(i).Set(from.Field(i).Convert(to.Field(i).Type()))
	}
}

func canBeOff(f reflect.StructField) bool { return f.Tag.Get("off") == "negative" }

// duration reads "90s" and nanoseconds, and writes "90s".
type duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *duration) UnmarshalJSON(data []byte) error {
	return unmarshalDuration((*time.Duration)(d), false, jsonOf(data))
}

// UnmarshalYAML is for yaml.v3 and goccy/go-yaml.
func (d *duration) UnmarshalYAML(unmarshal func(any) error) error {
	return unmarshalDuration((*time.Duration)(d), false, unmarshal)
}

// MarshalJSON implements json.Marshaler.
func (d duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// switchable is a duration that can be off.
type switchable time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *switchable) UnmarshalJSON(data []byte) error {
	return unmarshalDuration((*time.Duration)(d), true, jsonOf(data))
}

// UnmarshalYAML is for yaml.v3 and goccy/go-yaml.
func (d *switchable) UnmarshalYAML(unmarshal func(any) error) error {
	return unmarshalDuration((*time.Duration)(d), true, unmarshal)
}

// MarshalJSON implements json.Marshaler.
func (d switchable) MarshalJSON() ([]byte, error) {
	if d < 0 {
		return json.Marshal("off")
	}
	return duration(d).MarshalJSON()
}

func unmarshalDuration(to *time.Duration, canBeOff bool, unmarshal func(any) error) error {
	var in any
	if err := unmarshal(&in); err != nil {
		return err
	}
	return setDuration(to, canBeOff, in)
}

// setDuration sets *to to in, which is text or a number of nanoseconds. nil leaves it as it was.
func setDuration(to *time.Duration, canBeOff bool, in any) error {
	d, err := durationOf(in)
	switch {
	case in == nil:
		return nil
	case canBeOff && (in == "off" || in == false || err == nil && d == 0): // false is "off" to readers of YAML 1.1
		d = Off
	case err != nil:
		return err
	case canBeOff && d < 0 && d != Off:
		return fmt.Errorf("%s is negative; to turn it off, write off", shown(in))
	}
	*to = d
	return nil
}

func durationOf(in any) (time.Duration, error) {
	switch v := reflect.ValueOf(in); v.Kind() {
	case reflect.String:
		if d, err := time.ParseDuration(v.String()); err == nil {
			return d, nil
		}
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil { // a JSON number that its reader keeps as text
			return time.Duration(n), nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return time.Duration(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return time.Duration(v.Uint()), nil
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); f == float64(int64(f)) {
			return time.Duration(f), nil
		}
	}
	return 0, fmt.Errorf("%s is not a duration such as 90s", shown(in))
}

// shown is a value in an error text.
func shown(in any) string {
	if s, ok := in.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(in)
}

// nameOf is the name of a field in documents, or "" if it has none.
func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}
