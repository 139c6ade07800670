package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/internal/bubble"
)

func TestToken_FollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	agenttest.WriteFile(t, path, "one\n")
	bubble.Test(t, func(t *testing.T) {
		tok, err := OpenToken(path)
		if err != nil {
			t.Fatal(err)
		}
		want := func(what, value string) {
			t.Helper()
			if got := tok.Current(); got != value {
				t.Errorf("%s: it is %q, want %q", what, got, value)
			}
		}
		want("at first", "one")
		agenttest.WriteFile(t, path, "two")
		want("at once", "one")
		time.Sleep(TokenInterval)
		want("replaced", "two")
		for _, bad := range []string{"", " \n", "th\x00ree", "line\nline"} {
			agenttest.WriteFile(t, path, bad)
			time.Sleep(TokenInterval)
			want(fmt.Sprintf("replaced by %q", bad), "two")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(TokenInterval)
		want("removed", "two")
		if got := tok.Secrets(); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("the secrets are %q", got)
		}
	})
}

// A file that cannot be used is reported once for each reason, unless it can be used again a moment later.
func TestToken_ReportsAFileThatCannotBeUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	agenttest.WriteFile(t, path, "s3cret\n")
	bubble.Test(t, func(t *testing.T) {
		tok, err := OpenToken(path)
		if err != nil {
			t.Fatal(err)
		}
		var reports []string
		tok.Subscribe(func(err error) { reports = append(reports, err.Error()) })
		reads := func(n int) {
			for range n {
				time.Sleep(TokenInterval)
				tok.Current()
			}
		}
		want := func(what string, count int, part string) {
			t.Helper()
			text := strings.Join(reports, "\n")
			if strings.Count(text, "token file unusable") != count || !strings.Contains(text, part) || strings.Contains(text, "s3cret") {
				t.Errorf("%s: want %d reports, %q: %s", what, count, part, text)
			}
		}
		agenttest.WriteFile(t, path, "")
		reads(1)
		agenttest.WriteFile(t, path, "s3cret-two")
		reads(1)
		want("empty for a moment", 0, "")
		agenttest.WriteFile(t, path, "s3cret\x00")
		reads(10)
		want("a control character", 1, "control character")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		reads(10)
		want("removed", 2, "no such file")
		agenttest.WriteFile(t, path, "s3cret-three")
		reads(2)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		reads(2)
		want("removed again", 3, "no such file")
	})
}
