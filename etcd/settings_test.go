package etcd

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Every setting is in the table of the package comment, its parameter sets that field and no other, and there is no other parameter.
func TestConfig_TableNamesEverySetting(t *testing.T) {
	configtest.WantCompleteTable(t, configtest.ReadTable(t), "etcd", parseURL)
}

// ParseURL returns the settings of the URL, and an error that shows no secret.
func TestParseURL_ReturnsWhatOpenUses(t *testing.T) {
	c, err := ParseURL(&url.URL{Scheme: "x", Host: "h:1,i:2", RawQuery: "ttl=20s"})
	if err != nil || c.TTL != 20*time.Second || len(c.Endpoints) != 2 {
		t.Errorf("got %v, %v", c, err)
	}
	_, err = ParseURL(&url.URL{Scheme: "x", User: url.UserPassword("u", "hunter2"), Host: "h", RawQuery: "token=hunter3&ttl=hunter4"})
	if !errors.Is(err, registry.ErrInvalid) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("got %v", err)
	}
}
