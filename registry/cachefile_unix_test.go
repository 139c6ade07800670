//go:build unix

package registry_test

import (
	"log/slog"
	"os"
	"syscall"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Another writer of CacheDir must not be able to stop a watch, or fill the memory.
func TestWatch_IgnoresWhatIsNoCacheFile(t *testing.T) {
	for name, place := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"huge": func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := saveOne(t)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := place(file); err != nil {
				t.Fatal(err)
			}
			d := newFake()
			d.put(instance("b"))
			log := new(lines)
			r := newRegistry(t, d, registry.Options{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
			watchtest.WantIDs(t, lookup(t, r, web), "b")
			if log.with("level=WARN", "a cache file is ignored") != 1 {
				t.Errorf("the log says %s", &log.text)
			}
		})
	}
}
