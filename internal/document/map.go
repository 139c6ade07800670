package document

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/oneline"
)

// UnmarshalMap reads a map that viper or koanf has parsed into the struct that to points to. As with their own decoder, the case
// of a name does not matter, unknown names are ignored, and a number or a switch may be text, as in an environment variable.
func UnmarshalMap(in, to any) error {
	target := reflect.ValueOf(to).Elem()
	source := reflect.ValueOf(in)
	for source.Kind() == reflect.Pointer && !source.IsNil() {
		source = source.Elem()
	}
	switch {
	case !source.IsValid() || source.Kind() == reflect.Pointer:
		return nil
	case source.Type() == target.Type():
		target.Set(source)
		return nil
	case source.Kind() != reflect.Map:
		return fmt.Errorf("%s is not a group of settings", source.Type())
	}
	var errs []error
	for key, value := range source.Seq2() {
		name := fmt.Sprint(key.Interface())
		for i := range target.NumField() {
			f := target.Type().Field(i)
			if known := nameOf(f); known == "" || !strings.EqualFold(known, name) {
				continue
			}
			if err := set(target.Field(i), f, value.Interface()); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	return oneline.Join(errs...)
}

// mapReader is a type that reads the value that viper or koanf has parsed.
type mapReader interface{ UnmarshalMapstructure(any) error }

func set(to reflect.Value, f reflect.StructField, in any) error {
	if own, ok := to.Addr().Interface().(mapReader); ok {
		return own.UnmarshalMapstructure(in)
	}
	if d, ok := to.Addr().Interface().(*time.Duration); ok {
		return setDuration(d, canBeOff(f), in)
	}
	if in == nil {
		return nil
	}
	switch to.Kind() {
	case reflect.Struct:
		return UnmarshalMap(in, to.Addr().Interface())
	case reflect.Slice:
		return setList(to, in)
	case reflect.Map:
		return setPairs(to, in)
	}
	text, err := textOf(in)
	if err != nil {
		return err
	}
	switch to.Kind() {
	case reflect.String:
		to.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%s is not true or false", shown(in))
		}
		to.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 0)
		if err != nil {
			return fmt.Errorf("%s is not a whole number", shown(in))
		}
		to.SetInt(n)
	default:
		return fmt.Errorf("%s cannot be read", to.Type())
	}
	return nil
}

// textOf returns one value as text.
func textOf(in any) (string, error) {
	switch v := reflect.ValueOf(in); v.Kind() {
	case reflect.Invalid:
		return "", nil
	case reflect.Map, reflect.Slice, reflect.Struct, reflect.Pointer:
		return "", errors.New("it is not one value")
	case reflect.Float64: // a JSON number, which Sprint may write as 1e+06
		return strconv.FormatFloat(v.Float(), 'f', -1, 64), nil
	}
	return fmt.Sprint(in), nil
}

// setList accepts a list of texts, or one text with commas between its parts.
func setList(to reflect.Value, in any) error {
	var parts []string
	switch v := reflect.ValueOf(in); v.Kind() {
	case reflect.Slice:
		parts = []string{}
		for i := range v.Len() {
			text, err := textOf(v.Index(i).Interface())
			if err != nil {
				return err
			}
			parts = append(parts, strings.TrimSpace(text))
		}
	case reflect.String:
		parts = ParseList(v.String())
	default:
		return fmt.Errorf("%s is not a list", shown(in))
	}
	to.Set(reflect.ValueOf(parts))
	return nil
}

// setPairs accepts a map of texts, or one text with commas between its pairs.
func setPairs(to reflect.Value, in any) error {
	read := map[string]string{}
	switch v := reflect.ValueOf(in); v.Kind() {
	case reflect.Map:
		for key, value := range v.Seq2() {
			text, err := textOf(value.Interface())
			if err != nil {
				return fmt.Errorf("%v: %w", key.Interface(), err)
			}
			read[fmt.Sprint(key.Interface())] = text
		}
	case reflect.String:
		var err error
		if read, err = ParsePairs(v.String()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is not a map", shown(in))
	}
	to.Set(reflect.ValueOf(read))
	return nil
}
