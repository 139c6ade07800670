package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestRequiredVersion_IsReadFromGoMod(t *testing.T) {
	t.Parallel()
	for _, p := range []*program{&consulProgram, &etcdProgram} {
		root, err := repositoryRoot()
		if err != nil {
			t.Fatal(err)
		}
		version, err := requiredVersion(filepath.Join(root, "tools", p.name, "go.mod"), p.module)
		if err != nil || !strings.HasPrefix(version, "v") {
			t.Errorf("%s is pinned to %q (%v)", p.name, version, err)
		}
	}
	file := write(t, "go.mod", "module m\n\nrequire example.com/single v1.2.3 // indirect\nrequire (\n\texample.com/block v0.1.0\n)\n")
	for module, want := range map[string]string{"example.com/single": "v1.2.3", "example.com/block": "v0.1.0"} {
		if got, err := requiredVersion(file, module); got != want || err != nil {
			t.Errorf("%s is required at %q (%v), want %s", module, got, err, want)
		}
	}
	if v, err := requiredVersion(file, "example.com/other"); err == nil {
		t.Errorf("a module that is not required has version %q", v)
	}
}

func TestRepositoryRoot_IgnoresOtherModules(t *testing.T) {
	outer := filepath.Dir(write(t, "go.mod", "module github.com/rollcall-go/rollcall // the library\n"))
	inner := filepath.Join(outer, "bench", "deep")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	bench := []byte("module github.com/rollcall-go/rollcall/bench\n")
	if err := os.WriteFile(filepath.Join(outer, "bench", "go.mod"), bench, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(inner)
	got, err := repositoryRoot()
	if err != nil || !sameFile(t, got, outer) {
		t.Errorf("the root is %q (%v), want %q", got, err, outer)
	}
}

func TestProgram_LocatesExecutable(t *testing.T) {
	root, err := repositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := requiredVersion(filepath.Join(root, "tools", "etcd", "go.mod"), etcdProgram.module)
	if err != nil {
		t.Fatal(err)
	}
	locate := func(t *testing.T) string {
		t.Helper()
		p := program{
			name: "etcd", pkg: etcdProgram.pkg, module: etcdProgram.module, env: etcdProgram.env,
			versionArgs: etcdProgram.versionArgs, versionLine: etcdProgram.versionLine, buildTime: etcdProgram.buildTime,
		}
		path, err := p.locate()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	// onPath puts an etcd on PATH that only tells its version.
	onPath := func(t *testing.T, version string) string {
		t.Helper()
		file := write(t, "etcd", "#!/bin/sh\necho 'etcd Version: "+strings.TrimPrefix(version, "v")+"'\n")
		t.Setenv("PATH", filepath.Dir(file)+string(os.PathListSeparator)+os.Getenv("PATH"))
		return file
	}

	t.Run("from PATH if it is the pinned version", func(t *testing.T) {
		t.Setenv(etcdProgram.env, "")
		if want, got := onPath(t, pinned), locate(t); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("built if PATH has another version", func(t *testing.T) {
		t.Setenv(etcdProgram.env, "")
		onPath(t, "3.5.0")
		if got := locate(t); !strings.Contains(filepath.Base(got), pinned) {
			t.Errorf("got %s, want the build of %s", got, pinned)
		}
	})
	t.Run("the one in the environment, of any version", func(t *testing.T) {
		want := onPath(t, "3.5.0")
		t.Setenv(etcdProgram.env, "etcd")
		if got := locate(t); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("an error if the environment names a missing file", func(t *testing.T) {
		t.Setenv(etcdProgram.env, filepath.Join(t.TempDir(), "missing"))
		p := program{name: "etcd", env: etcdProgram.env}
		if path, err := p.locate(); err == nil || !strings.Contains(err.Error(), etcdProgram.env) {
			t.Errorf("got %s and the error %v, which does not name the variable", path, err)
		}
	})
}

func TestProgram_BuildsOnce(t *testing.T) {
	t.Parallel()
	p := program{name: "tiny", pkg: "example.com/tiny", env: "ROLLCALL_TINY", buildTime: "a moment"}
	dir := filepath.Dir(write(t, "go.mod", "module example.com/tiny\n\ngo 1.26\n"))
	source := filepath.Join(dir, "main.go")
	path := filepath.Join(t.TempDir(), "rollcall", "tiny-v1")

	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { undefined() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.build(dir, path); err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("a failed build gives the error %v, which does not show what the compiler said", err)
	}

	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := p.build(dir, path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("the build left %v (%v), which is not an executable", info, err)
	}
	if err := p.build("no such folder", path); err != nil {
		t.Errorf("what was built already is built again: %v", err)
	}
}

// write makes an executable file in a folder of its own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(x, y)
}
