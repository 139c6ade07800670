package registry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// saveOne runs a process that sees one instance and ends, and returns the folder and the one file in it.
func saveOne(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "made", "by", "rollcall")
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		in := instance("a")
		in.Metadata = map[string]string{"k": "ü"}
		d.put(in)
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		watchtest.Watch(t, r, web)
		synctest.Wait()
	})
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the folder has %q, %v, want one file", files, err)
	}
	return dir, files[0]
}

func TestWatch_StartsFromDiskInAnOutage(t *testing.T) {
	dir, _ := saveOne(t)
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{CacheDir: dir})

		set, err := r.Lookup(t.Context(), web)
		watchtest.WantIDs(t, set, "a")
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "from disk, saved 2") {
			t.Errorf("Lookup says %v", err)
		}

		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Minute)
		got := w.All()
		if len(got) != 1 {
			t.Fatalf("%d pairs, want 1", len(got))
		}
		watchtest.WantIDs(t, got[0].Set, "a")
		if !strings.Contains(got[0].Err.Error(), "from disk, saved 2") || got[0].Set[0].Metadata["k"] != "ü" {
			t.Errorf("the watch says %v, %v", got[0].Set[0], got[0].Err)
		}
		other := watchtest.Watch(t, r, registry.Query{Service: "web", Version: "9"})
		time.Sleep(time.Second)
		if got := other.Last(); got.Set != nil || strings.Contains(got.Err.Error(), "disk") {
			t.Errorf("a query that was never answered is given %v, %v", watchtest.IDs(got.Set), got.Err)
		}

		d.put(instance("b"))
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		watchtest.WantIDs(t, w.Last().Set, "b")
		if err := w.Last().Err; err != nil {
			t.Error(err)
		}
	})
}

func TestWatch_YieldsTheSetFromDiskIfTheRegistryNeverAnswers(t *testing.T) {
	dir, _ := saveOne(t)
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		open := d.shut()
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Second)
		synctest.Wait()
		got := w.Last()
		watchtest.WantIDs(t, got.Set, "a")
		if !errors.Is(got.Err, registry.ErrUnavailable) || !strings.Contains(got.Err.Error(), "no answer for 1s; what comes beside this error is from disk") {
			t.Errorf("it says %v", got.Err)
		}
		open()
		time.Sleep(registry.DefaultOutageGrace) // an empty set right after an outage is withheld
		synctest.Wait()
		if got := w.Last(); got.Err != nil || len(got.Set) != 0 {
			t.Errorf("when the registry answers: %v, %v", watchtest.IDs(got.Set), got.Err)
		}
	})
}

func TestWatch_YieldsNothingFromDiskBeforeAQuickAnswer(t *testing.T) {
	dir, _ := saveOne(t)
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{CacheDir: dir})
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Minute)
		if got := w.All(); len(got) != 1 || got[0].Err != nil || len(got[0].Set) != 0 {
			t.Errorf("it yielded %v", got)
		}
	})
}

func TestCacheDir_IgnoresAndLogsBadFiles(t *testing.T) {
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
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				d.fail(errors.New("down"))
				var log bytes.Buffer
				r := newRegistry(t, d, registry.Options{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				set, err := r.Lookup(t.Context(), web)
				if set != nil || !errors.Is(err, registry.ErrUnavailable) || strings.Contains(err.Error(), "disk") {
					t.Errorf("it says %v, %v", watchtest.IDs(set), err)
				}
				if !strings.Contains(log.String(), "a cache file is ignored") || !strings.Contains(log.String(), filepath.Base(file)) {
					t.Errorf("the log says %q", log.String())
				}
			})
		})
	}
}

func TestCacheDir_LogsThatItCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file, not a folder")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		var log bytes.Buffer
		r := newRegistry(t, d, registry.Options{CacheDir: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		watchtest.WantIDs(t, w.Last().Set, "a")
		r.Close()
		if !strings.Contains(log.String(), "was not saved to disk") {
			t.Errorf("the log says %q", log.String())
		}
	})
}

func TestCacheDir_FilesAreReadableByTheUserOnly(t *testing.T) {
	_, file := saveOne(t)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%s has mode %v, which others may read", filepath.Base(file), info.Mode())
	}
}

func TestWatch_ValidatesSavedInstances(t *testing.T) {
	for name, c := range map[string]struct{ old, new, names string }{
		"weight":        {`"weight":1`, `"weight":9223372036854775807`, "Weight"},
		"low weight":    {`"weight":1`, `"weight":-2`, "Weight"},
		"address":       {`"address":"10.0.0.1:80"`, `"address":"10.0.0.1:99999"`, "Address"},
		"host":          {`"address":"10.0.0.1:80"`, `"address":"not a host\u001b[2J:80"`, "Address"},
		"ID":            {`"id":"a"`, `"id":"a\u001b[2J"`, "ID"},
		"long ID":       {`"id":"a"`, `"id":"` + strings.Repeat("a", 1025) + `"`, "ID"},
		"no ID":         {`"id":"a"`, `"id":""`, "ID"},
		"other service": {`"id":"a","service":"web"`, `"id":"a","service":"api"`, "Service"},
		"metadata":      {`"metadata":{"k":"ü"}`, `"metadata":{"":"ü"}`, "Metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			log, set, err := restart(t, c.old, c.new)
			if set != nil || !errors.Is(err, registry.ErrUnavailable) || strings.Contains(err.Error(), "disk") {
				t.Errorf("it says %v, %v", watchtest.IDs(set), err)
			}
			if log.with("level=WARN", "a cache file is ignored", c.names) != 1 || log.with("cache file") != 1 {
				t.Errorf("the log says %s", &log.text)
			}
		})
	}
	t.Run("drained", func(t *testing.T) {
		_, set, err := restart(t, `"weight":1`, `"weight":-1`)
		if len(set) != 1 || set[0].Weight != -1 {
			t.Errorf("it says %v, %v", watchtest.IDs(set), err)
		}
		wantStale(t, err, registry.FromDisk)
	})
}

// A file in CacheDir may be anything, if others can write to the folder. It must not fill the memory, or keep Lookup or Close waiting.
func TestWatch_BoundsSavedFiles(t *testing.T) {
	pad := func(f *os.File, text string, n int) error {
		_, err := f.WriteString(strings.Repeat(text, n))
		return err
	}
	for name, c := range map[string]struct {
		write func(t *testing.T, f *os.File) error
		names string
	}{
		"large":                {func(_ *testing.T, f *os.File) error { return f.Truncate(1 << 40) }, "more than 134217728 bytes"},
		"instances of nothing": {func(_ *testing.T, f *os.File) error { return pad(f, `{},`, 8<<20) }, "instance 0"},
		"a large instance": {func(_ *testing.T, f *os.File) error {
			return pad(f, `{"tags":[`+strings.Repeat(`"",`, 2<<20)+`""]}`, 1)
		}, "more than 1048576 bytes"},
		"many empty tags": {func(_ *testing.T, f *os.File) error {
			return pad(f, `{"id":"a","service":"web","address":"10.0.0.1:80","tags":[`+strings.Repeat(`"",`, 100_000)+`""]}]}`, 1)
		}, "another store or query"},
		"a folder": {func(_ *testing.T, f *os.File) error {
			return errors.Join(os.Remove(f.Name()), os.Mkdir(f.Name(), 0o700))
		}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := saveOne(t)
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(pad(f, `{"format":1,"instances":[`, 1), c.write(t, f), f.Close()); err != nil {
				t.Fatal(err)
			}
			log := &lines{}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				d.fail(errors.New("down"))
				r := newRegistry(t, d, registry.Options{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
				if set, err := r.Lookup(t.Context(), web); set != nil || !errors.Is(err, registry.ErrUnavailable) {
					t.Errorf("it says %v, %v", watchtest.IDs(set), err)
				}
				r.Close()
			})
			runtime.ReadMemStats(&after)
			if log.with("level=WARN", "a cache file is ignored", c.names) != 1 {
				t.Errorf("the log says %s", &log.text)
			}
			if log.text.Len() > 2000 {
				t.Errorf("the log has %d bytes", log.text.Len())
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
				t.Errorf("%d MiB were allocated", got>>20)
			}
		})
	}
}

// restart has a process save a set, replaces a text in the file, and looks up in an outage.
func restart(t *testing.T, from, to string) (log *lines, set []*registry.Instance, err error) {
	t.Helper()
	dir, file := saveOne(t)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		t.Fatalf("the file has no %s: %s", from, b)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	log = &lines{}
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
		set, err = r.Lookup(t.Context(), web)
	})
	return log, set, err
}

// Every instance that a driver returns is of use after a restart.
func TestWatch_SavesInstancesOfOtherTools(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		for _, id := range []string{"_nomad-task-5ffe1d3c-group-api-web-http", "10.0.0.1:80/tcp", "host name", "web/1", "wéb", strings.Repeat("a", 1024)} {
			in := instance(id)
			in.Tags = []string{"", "http"}
			in.Weight = registry.Drained
			d.put(in)
		}
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		before := lookup(t, r, web)
		r.Close()

		d.fail(errors.New("down"))
		log := new(lines)
		r = newRegistry(t, d, registry.Options{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
		set, err := r.Lookup(t.Context(), web)
		wantStale(t, err, registry.FromDisk)
		if !slices.EqualFunc(set, before, (*registry.Instance).Equal) || len(set) != 6 {
			t.Errorf("from disk come %q, want %q; the log says %s", watchtest.IDs(set), watchtest.IDs(before), &log.text)
		}
	})
}

// A set that was withheld is saved when a departure has it published, too.
func TestDeregister_ThatEndsAGracePeriodSavesTheSet(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("b"), instance("c"))
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		g := watchtest.Register(t, r, instance("a"))
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Second)
		d.crash("a", "b")
		wantWithheld(t, w, []string{"a", "b"}, "a", "b", "c")
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSet(t, w, "c")
		r.Close()

		d.fail(errors.New("down"))
		r = newRegistry(t, d, registry.Options{CacheDir: dir})
		set, err := r.Lookup(t.Context(), web)
		watchtest.WantIDs(t, set, "c")
		wantStale(t, err, registry.FromDisk)
	})
}
