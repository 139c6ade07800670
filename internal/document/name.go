package document

import (
	"fmt"
	"reflect"
	"strings"
)

// nameField returns err with the name of the field that it is about, such as checks.interval. The readers do not tell it to a
// field that reads itself. If no such field is at fault, the error is the reader's own, and returned as it is.
func nameField(err error, of reflect.Type, read func(any) error) error {
	var document map[string]any
	if read(&document) != nil {
		return err
	}
	if name, why := faultIn(document, of); why != nil {
		return fmt.Errorf("%s: %w", name, why)
	}
	return err
}

// faultIn returns the first field of a struct that cannot be read from the document, and the reason.
func faultIn(document map[string]any, of reflect.Type) (name string, why error) {
	for i := range of.NumField() {
		f := of.Field(i)
		value, ok := lookUp(document, nameOf(f))
		if !ok {
			continue
		}
		if inner, isMap := value.(map[string]any); isMap && f.Type.Kind() == reflect.Struct {
			if name, why = faultIn(inner, f.Type); why != nil {
				return nameOf(f) + "." + name, why
			}
			continue
		}
		if shadowOfField(f) == f.Type {
			continue // an error for it comes from its reader, which names it
		}
		if why = set(reflect.New(f.Type).Elem(), f, value); why != nil {
			return nameOf(f), why
		}
	}
	return "", nil
}

// lookUp returns the value of a name, whose case does not matter to encoding/json.
func lookUp(document map[string]any, name string) (any, bool) {
	if name == "" {
		return nil, false
	}
	if value, ok := document[name]; ok {
		return value, true
	}
	for key, value := range document {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return nil, false
}
