package consul

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"errors"
	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/registry"
	"net/url"
)

// Every setting is in the table of the package comment, its parameter sets that field and no other, and there is no other parameter.
func TestConfig_TableNamesEverySetting(t *testing.T) {
	configtest.WantCompleteTable(t, configtest.ReadTable(t), "consul", parseURL)
}

// The variables that Consul's own tools read for HTTP are in the table. TestNext_SendsTheSettingsWithARead, TestConfig_Addresses and TestTLS_Settings show
// what each does.
func TestConfig_TableNamesEveryVariable(t *testing.T) {
	want := []string{
		api.HTTPAddrEnvName, api.HTTPAuthEnvName, api.HTTPCAFile, api.HTTPCAPath, api.HTTPClientCert, api.HTTPClientKey, api.HTTPNamespaceEnvName,
		api.HTTPPartitionEnvName, api.HTTPSSLEnvName, api.HTTPSSLVerifyEnvName, api.HTTPTLSServerName, api.HTTPTokenEnvName, api.HTTPTokenFileEnvName,
	}
	var got []string
	for _, row := range configtest.ReadTable(t) {
		if len(row.Rest) != 3 {
			t.Fatalf("the row of %s has %d cells", row.Fields, 2+len(row.Rest))
		}
		if variable := row.Rest[0]; variable != "(none)" {
			got = append(got, variable)
		}
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
}

// A file can have every setting. Its name is the same in JSON and in YAML.
func TestConfig_EverySettingHasTheSameNameInJSONAndYAML(t *testing.T) {
	var full Config
	for name, v := range configtest.Settings(reflect.ValueOf(&full).Elem()) {
		switch {
		case name == "Options.Logger": // is left to the program
		case v.Kind() == reflect.Struct: // a secret, which is not written
		case v.Kind() == reflect.String:
			v.SetString(name)
		case v.Kind() == reflect.Slice:
			v.Set(reflect.ValueOf([]string{"a", "b"}))
		case v.Kind() == reflect.Map:
			v.Set(reflect.ValueOf(map[string]string{"k": "v"}))
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
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, full) {
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
			if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[registry.Secret]() {
				compare(f.Type)
			}
		}
	}
	compare(reflect.TypeFor[Config]())
}

// ParseURL returns the settings of the URL, and an error that shows no secret.
func TestParseURL_ReturnsWhatOpenUses(t *testing.T) {
	c, err := ParseURL(&url.URL{Scheme: "x", Host: "h:1,i:2", RawQuery: "ttl=20s"})
	if err != nil || c.TTL != 20*time.Second || len(c.Addresses) != 2 {
		t.Errorf("got %v, %v", c, err)
	}
	_, err = ParseURL(&url.URL{Scheme: "x", User: url.UserPassword("u", "hunter2"), Host: "h", RawQuery: "token=hunter3&ttl=hunter4"})
	if !errors.Is(err, registry.ErrInvalid) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("got %v", err)
	}
}
