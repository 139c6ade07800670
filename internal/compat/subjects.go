package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// A subject is one version of Consul, etcd or gRPC that Rollcall is tested against.
type subject struct {
	program string // consul, etcd or grpc
	version string
	// pkg and requires say what is built, in a module that is made for it. They are empty for the version that the tests use anyway.
	pkg      string
	requires []string
}

const (
	consulProgram = "consul"
	etcdProgram   = "etcd"
	grpcProgram   = "grpc"
)

// subjects are the columns of the page: the oldest and the newest version that Rollcall is made for, and some in between.
var subjects = []subject{
	{program: consulProgram, version: "1.13.9", pkg: "github.com/hashicorp/consul", requires: []string{"github.com/hashicorp/consul@v1.13.9"}},
	{program: consulProgram, version: "1.19.2"},
	{program: etcdProgram, version: "3.4.13", pkg: "go.etcd.io/etcd", requires: []string{
		// The go command knows v3.4.13 by this name only. It does not build with a newer gRPC, and not with an older x/sys.
		"go.etcd.io/etcd@v0.5.0-alpha.5.0.20200824191128-ae9734ed278b", "google.golang.org/grpc@v1.26.0", "golang.org/x/sys@v0.30.0",
	}},
	{program: etcdProgram, version: "3.5.21", pkg: "go.etcd.io/etcd/server/v3", requires: []string{"go.etcd.io/etcd/server/v3@v3.5.21"}},
	{program: etcdProgram, version: "3.6.5", pkg: "go.etcd.io/etcd/server/v3", requires: []string{"go.etcd.io/etcd/server/v3@v3.6.5"}},
	{program: etcdProgram, version: "3.7.3"},
	{program: grpcProgram, version: "1.83.2"},
}

func (s subject) name() string { return s.program + "-" + s.version }

// test runs the tests of the areas of s whose title contains a text.
func (s subject) test(ctx context.Context, area string) (map[string]outcome, error) {
	r := runner{env: os.Environ()}
	switch {
	case s.program == grpcProgram:
		file, err := oldestGRPC(ctx, s.version)
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(filepath.Dir(file))
		r.flags = []string{"-modfile=" + file}
	case s.pkg != "":
		binary, err := s.build(ctx)
		if err != nil {
			return nil, err
		}
		r.env = append(r.env, "ROLLCALL_"+strings.ToUpper(s.program)+"="+binary)
	}
	all := map[string]outcome{}
	for _, p := range plans[s.program] {
		if p = p.only(area); len(p.areas) == 0 {
			continue
		}
		if err := r.test(ctx, p, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// build builds the server in a temporary module, and keeps it in the folder of the servers of internal/testbed.
func (s subject) build(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "rollcall", fmt.Sprintf("%s-v%s-%s-%s", s.program, s.version, runtime.GOOS, runtime.GOARCH))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	dir, err := os.MkdirTemp("", "compat")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for _, args := range [][]string{
		{"mod", "init", "compat"},
		append([]string{"get"}, s.requires...),
		{"build", "-mod=mod", "-ldflags=-s -w", "-o", binary, s.pkg},
	} {
		fmt.Println("go", strings.Join(args, " "))
		c := exec.CommandContext(ctx, "go", args...)
		c.Dir, c.Env = dir, append(os.Environ(), "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return binary, nil
}

// oldestGRPC returns a copy of go.mod without its requirement of gRPC, so that the other requirements choose the version.
func oldestGRPC(ctx context.Context, version string) (file string, err error) {
	dir, err := os.MkdirTemp("", "compat")
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return "", err
		}
	}
	const grpc = "google.golang.org/grpc"
	for _, args := range [][]string{
		{"mod", "edit", "-droprequire=" + grpc, file},
		{"mod", "tidy", "-modfile=" + file},
	} {
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	got, err := exec.CommandContext(ctx, "go", "list", "-modfile="+file, "-m", "-f", "{{.Version}}", grpc).Output()
	if err != nil {
		return "", err
	}
	if v := strings.TrimSpace(string(got)); v != "v"+version {
		return "", fmt.Errorf("the oldest gRPC that go.mod can have is %s, not v%s: change the subject", v, version)
	}
	return file, nil
}
