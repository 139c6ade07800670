package consul

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	gotoken "go/token"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// setting is a row of the table in the package comment.
type setting struct {
	fields              []string
	parameter, variable string // "" where there is none
}

// settingsTable reads the table.
func settingsTable(t *testing.T) []setting {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(file.Doc.Text(), "\tfield ")
	lines := strings.Split(table, "\n")
	gap := regexp.MustCompile(` {2,}`)
	var rows []setting
	for _, line := range lines[1:] {
		if line == "" {
			break
		}
		cells := gap.Split(strings.TrimSpace(line), -1)
		if len(cells) != 5 {
			t.Fatalf("there are %d cells in the row %q", len(cells), line)
		}
		row := setting{fields: strings.Split(cells[0], ", "), parameter: cells[1], variable: cells[2]}
		switch {
		case row.parameter == "(the hosts), address":
			row.parameter = "address"
		case strings.HasPrefix(row.parameter, "("):
			row.parameter = ""
		}
		if row.variable == "(none)" {
			row.variable = ""
		}
		rows = append(rows, row)
	}
	return rows
}

// leaves returns the fields of a struct, and of those that it has, under names such as TLS.CAFile.
func leaves(v reflect.Value, prefix string) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		if v.Field(i).Kind() == reflect.Struct {
			maps.Copy(all, leaves(v.Field(i), name+"."))
		} else {
			all[name] = v.Field(i)
		}
	}
	return all
}

// isForeign reports whether a field is one of registry.Options that has no URL parameter.
func isForeign(field string) bool {
	return strings.HasPrefix(field, "Options.") && field != "Options.CacheDir" && field != "Options.Linger"
}

// values are what the parameter of a field is set to, where 5 is none of its kind.
var values = map[string]string{
	"Scheme": "true", "TLS.InsecureSkipVerify": "true", "Connect": "true", "Stale": "true", "MaxStale": "5s", "Consistent": "true",
	"Wait": "5s", "Timeout": "5s", "TTL": "5s", "DeregisterAfter": "5m", "Checks.Interval": "5s", "Checks.Timeout": "5s", "Checks.TLS": "true",
	"Checks.InsecureSkipVerify": "true", "Sidecar": "true", "ConnectNative": "true", "EnableTagOverride": "true", "Options.Linger": "5s",
}

// Every setting that there is stands in the table, its parameter sets that field and no other, and there is no parameter beside.
func TestTableOfSettings(t *testing.T) {
	rows := settingsTable(t)
	fields, parameters := map[string]bool{}, map[string]bool{}
	for _, row := range rows {
		for _, f := range row.fields {
			if fields[f] {
				t.Errorf("%s stands there twice", f)
			}
			fields[f] = true
		}
		text := "consul://user:password@"
		if row.parameter != "" {
			parameters[row.parameter] = true
			text = "consul:///?" + row.parameter + "=" + cmp.Or(values[row.fields[0]], "5")
		}
		c, err := parseURL(parse(t, text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var set []string
		for name, v := range leaves(reflect.ValueOf(c), "") {
			if !v.IsZero() {
				set = append(set, name)
			}
		}
		if slices.Sort(set); !slices.Equal(set, slices.Sorted(slices.Values(row.fields))) {
			t.Errorf("%s sets %v, and the table says %v", text, set, row.fields)
		}
	}
	for name := range leaves(reflect.ValueOf(Config{}), "") {
		if !fields[name] && !isForeign(name) {
			t.Errorf("%s does not stand in the table", name)
		}
	}
	_, err := parseURL(&url.URL{RawQuery: "nonsense=1"})
	_, list, _ := strings.Cut(fmt.Sprint(err), "known: ")
	list, _, _ = strings.Cut(list, ")")
	if known := strings.Split(list, ", "); !errors.Is(err, registry.ErrInvalid) || !slices.Equal(known, slices.Sorted(maps.Keys(parameters))) {
		t.Errorf("the table has the parameters %q, and those that are read are in %v", slices.Sorted(maps.Keys(parameters)), err)
	}
}

// The variables that Consul's own tools read for HTTP are in the table. TestWhatIsSent, TestConfigAddresses and TestTLSSettings show
// what each does.
func TestVariablesInTheTable(t *testing.T) {
	want := []string{
		api.HTTPAddrEnvName, api.HTTPAuthEnvName, api.HTTPCAFile, api.HTTPCAPath, api.HTTPClientCert, api.HTTPClientKey, api.HTTPNamespaceEnvName,
		api.HTTPPartitionEnvName, api.HTTPSSLEnvName, api.HTTPSSLVerifyEnvName, api.HTTPTLSServerName, api.HTTPTokenEnvName, api.HTTPTokenFileEnvName,
	}
	var got []string
	for _, row := range settingsTable(t) {
		if row.variable != "" {
			got = append(got, row.variable)
		}
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
}

// A file can hold every setting, in JSON and in YAML under the same name.
func TestEverySettingHasANameInAFile(t *testing.T) {
	var full Config
	for name, v := range leaves(reflect.ValueOf(&full).Elem(), "") {
		switch {
		case strings.HasPrefix(name, "Options."): // is left to the program
		case v.Kind() == reflect.String:
			v.SetString(name)
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		default:
			v.SetInt(7)
		}
	}
	text, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var again Config
	if err := json.Unmarshal(text, &again); err != nil || again != full {
		t.Errorf("read from a file it is %+v, %v", printed(again), err)
	}
	var compare func(reflect.Type)
	compare = func(of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			inJSON, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			inYAML, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if inJSON == "" || inJSON != inYAML {
				t.Errorf("%s.%s is %q in JSON and %q in YAML", of, f.Name, inJSON, inYAML)
			}
			if f.Type.Kind() == reflect.Struct && inJSON != "-" {
				compare(f.Type)
			}
		}
	}
	compare(reflect.TypeFor[Config]())
}
