package configtest

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Row is a row of the table of settings in a package comment.
type Row struct {
	Fields    []string
	Parameter string   // "(the user part)" for the user and the password of the URL, "(none)" if no part of a URL sets the fields
	Rest      []string // the other cells
}

// ReadTable reads the table of settings in doc.go of the folder of the test. A row without a field has the field of the row above it, and
// is for another way to set it.
func ReadTable(t testing.TB) (rows []Row) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(file.Doc.Text(), "\tfield ")
	gap := regexp.MustCompile(`\s{2,}`)
	var fields []string
	for line := range strings.Lines(table[strings.Index(table, "\n")+1:]) {
		line, isRow := strings.CutPrefix(line, "\t")
		if !isRow {
			break
		}
		cells := gap.Split(strings.TrimRight(line, "\n"), -1)
		if len(cells) < 3 {
			t.Fatalf("the row %q has %d cells", line, len(cells))
		}
		if cells[0] != "" {
			fields = strings.Split(cells[0], ", ")
		}
		if parameter := strings.TrimPrefix(cells[1], "(the hosts), "); parameter != "(the hosts)," {
			rows = append(rows, Row{fields, parameter, cells[2:]})
		}
	}
	return rows
}

// WantCompleteTable reports an error unless every setting of C is in exactly one row, its parameter sets it and nothing else, and parseURL
// knows no other parameter.
func WantCompleteTable[C any](t testing.TB, rows []Row, scheme string, parseURL func(*url.URL) (C, error)) {
	t.Helper()
	var zero C
	all := Settings(reflect.ValueOf(zero))
	inTable, parameters := map[string]bool{}, map[string]bool{}
	for _, row := range rows {
		for _, f := range row.Fields {
			if inTable[f] {
				t.Errorf("%s is in the table twice", f)
			}
			inTable[f] = true
		}
		text := scheme + "://user:password@"
		switch row.Parameter {
		case "(none)":
			continue
		case "(the user part)":
		default:
			parameters[row.Parameter] = true
			text = scheme + ":///?" + row.Parameter + "=" + exampleOf(all[row.Fields[0]])
		}
		c, err := parseURL(ParseURL(t, text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if set := setIn(c); !slices.Equal(set, slices.Sorted(slices.Values(row.Fields))) {
			t.Errorf("%s sets %v, and the table says %v", text, set, row.Fields)
		}
	}
	for name := range all {
		if !inTable[name] && name != "Options.Logger" {
			t.Errorf("%s is not in the table", name)
		}
	}
	_, err := parseURL(&url.URL{RawQuery: "nonsense=1"})
	_, known, _ := strings.Cut(fmt.Sprint(err), "known: ")
	known, _, _ = strings.Cut(known, ")")
	if want := strings.Join(slices.Sorted(maps.Keys(parameters)), ", "); known != want || !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("the table has the parameters %q, and the error for an unknown parameter is %v", want, err)
	}
}

// Settings returns the fields of a Config, and of the structs in it, under names such as TLS.CAFile.
func Settings(config reflect.Value) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for i := range config.NumField() {
		name, v := config.Type().Field(i).Name, config.Field(i)
		if v.Kind() != reflect.Struct || v.Type() == reflect.TypeFor[registry.Secret]() {
			all[name] = v
			continue
		}
		for inner, v := range Settings(v) {
			all[name+"."+inner] = v
		}
	}
	return all
}

// setIn returns the names of the settings that are not zero.
func setIn(config any) (names []string) {
	for name, v := range Settings(reflect.ValueOf(config)) {
		if !v.IsZero() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// exampleOf returns a text that a URL parameter for such a setting accepts.
func exampleOf(setting reflect.Value) string {
	switch {
	case setting.Type() == reflect.TypeFor[time.Duration]():
		return "5s"
	case setting.Kind() == reflect.Bool:
		return "true"
	case setting.Kind() == reflect.Map:
		return "k=5"
	}
	return "5"
}
