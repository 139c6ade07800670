package registry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// saveOne runs a process that sees one instance and ends, and returns the folder and the one file in it.
func saveOne(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "made", "by", "rollcall")
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		in := instance("a")
		in.Metadata = map[string]string{"k": "ü"}
		d.put(in)
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		watch(t, r, web)
		synctest.Wait()
	})
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the folder holds %q, %v, want one file", files, err)
	}
	return dir, files[0]
}

func TestAProcessThatStartsInAnOutageHasItsInstancesFromDisk(t *testing.T) {
	dir, _ := saveOne(t)
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{CacheDir: dir})

		set, err := r.Lookup(t.Context(), web)
		wantIDs(t, set, "a")
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "from disk, saved 2") {
			t.Errorf("Lookup says %v", err)
		}

		w := watch(t, r, web)
		time.Sleep(time.Minute)
		got := w.all()
		if len(got) != 1 {
			t.Fatalf("%d pairs, want 1", len(got))
		}
		wantIDs(t, got[0].set, "a")
		if !strings.Contains(got[0].err.Error(), "from disk, saved 2") || got[0].set[0].Metadata["k"] != "ü" {
			t.Errorf("the watch says %v, %v", got[0].set[0], got[0].err)
		}
		other := watch(t, r, registry.Query{Service: "web", Version: "9"})
		time.Sleep(time.Second)
		if got := other.last(t); got.set != nil || strings.Contains(got.err.Error(), "disk") {
			t.Errorf("a query that was never answered is given %v, %v", ids(got.set), got.err)
		}

		d.put(instance("b"))
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		wantIDs(t, w.last(t).set, "b")
		if err := w.last(t).err; err != nil {
			t.Error(err)
		}
	})
}

func TestARegistryThatNeverAnswersDoesNotKeepTheDiskWaiting(t *testing.T) {
	dir, _ := saveOne(t)
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		open := d.shut()
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		w := watch(t, r, web)
		time.Sleep(time.Second)
		synctest.Wait()
		got := w.last(t)
		wantIDs(t, got.set, "a")
		if !errors.Is(got.err, registry.ErrUnavailable) || !strings.Contains(got.err.Error(), "no answer for 1s; the instances are from disk") {
			t.Errorf("it says %v", got.err)
		}
		open()
		time.Sleep(registry.DefaultEmptyHold) // an empty set right after an outage is not believed at once
		synctest.Wait()
		if got := w.last(t); got.err != nil || len(got.set) != 0 {
			t.Errorf("when the registry answers: %v, %v", ids(got.set), got.err)
		}
	})
}

func TestAQuickAnswerIsNeverPrecededByTheDisk(t *testing.T) {
	dir, _ := saveOne(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{CacheDir: dir})
		w := watch(t, r, web)
		time.Sleep(time.Minute)
		if got := w.all(); len(got) != 1 || got[0].err != nil || len(got[0].set) != 0 {
			t.Errorf("it yielded %v", got)
		}
	})
}

func TestBadCacheFilesAreIgnoredWithALogLine(t *testing.T) {
	for name, spoil := range map[string]func(string) string{
		"torn":              func(s string) string { return s[:len(s)/2] },
		"empty":             func(string) string { return "" },
		"of another format": func(s string) string { return strings.Replace(s, `"format":1`, `"format":2`, 1) },
		"of another store":  func(s string) string { return strings.Replace(s, `"store":"fake"`, `"store":"other"`, 1) },
		"of another query": func(s string) string {
			return strings.Replace(s, `"query":{"service":"web"`, `"query":{"service":"api"`, 1)
		},
		"with a null instance":  func(s string) string { return strings.Replace(s, `"instances":[`, `"instances":[null,`, 1) },
		"without an address":    func(s string) string { return strings.Replace(s, `"address":"10.0.0.1:80"`, `"address":""`, 1) },
		"with an unknown state": func(s string) string { return strings.Replace(s, `"weight":1`, `"status":"odd"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := saveOne(t)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			bad := spoil(string(b))
			if bad == string(b) {
				t.Fatalf("the test spoils nothing in %s", b)
			}
			if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				d := newFake()
				d.fail(errors.New("down"))
				var log bytes.Buffer
				r := newRegistry(t, d, registry.Options{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				set, err := r.Lookup(t.Context(), web)
				if set != nil || !errors.Is(err, registry.ErrUnavailable) || strings.Contains(err.Error(), "disk") {
					t.Errorf("it says %v, %v", ids(set), err)
				}
				if !strings.Contains(log.String(), "a cache file is ignored") || !strings.Contains(log.String(), filepath.Base(file)) {
					t.Errorf("the log says %q", log.String())
				}
			})
		})
	}
}

func TestAFolderThatCannotBeWrittenCostsALogLineOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file, not a folder")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		var log bytes.Buffer
		r := newRegistry(t, d, registry.Options{CacheDir: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		w := watch(t, r, web)
		synctest.Wait()
		wantIDs(t, w.last(t).set, "a")
		r.Close()
		if !strings.Contains(log.String(), "was not saved to disk") {
			t.Errorf("the log says %q", log.String())
		}
	})
}

func TestCacheFilesAreTheUsersOwn(t *testing.T) {
	_, file := saveOne(t)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%s has mode %v, which others may read", filepath.Base(file), info.Mode())
	}
}
