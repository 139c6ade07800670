package testbed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A program is a server whose executable is found or built in one of the three ways that the package documentation describes.
type program struct {
	name        string   // of the executable, and of its folder in tools
	pkg, module string   // what is built, and the module that its version is read from
	env         string   // the variable that names another executable
	versionArgs []string // makes an executable print its version
	versionLine string   // what precedes the version there
	buildTime   string   // how long the first build takes; the person who waits is told

	once sync.Once
	path string
	err  error
}

var consulProgram = program{
	name:        "consul",
	pkg:         "github.com/hashicorp/consul",
	module:      "github.com/hashicorp/consul",
	env:         "ROLLCALL_CONSUL",
	versionArgs: []string{"version"},
	versionLine: "Consul ",
	buildTime:   "3 to 5 minutes",
}

var etcdProgram = program{
	name:        "etcd",
	pkg:         "go.etcd.io/etcd/server/v3",
	module:      "go.etcd.io/etcd/server/v3",
	env:         "ROLLCALL_ETCD",
	versionArgs: []string{"--version"},
	versionLine: "etcd Version: ",
	buildTime:   "about a minute",
}

// executable finds or builds the program, once a process.
func (p *program) executable() (string, error) {
	p.once.Do(func() { p.path, p.err = p.locate() })
	return p.path, p.err
}

func (p *program) locate() (string, error) {
	if named := os.Getenv(p.env); named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("the environment has %s=%s: %w", p.env, named, err)
		}
		return filepath.Abs(path)
	}
	root, err := repositoryRoot()
	if err != nil {
		return "", fmt.Errorf("cannot tell which %s to build (%w); name an executable in %s", p.name, err, p.env)
	}
	dir := filepath.Join(root, "tools", p.name)
	version, err := requiredVersion(filepath.Join(dir, "go.mod"), p.module)
	if err != nil {
		return "", fmt.Errorf("cannot tell which %s to build (%w); name an executable in %s", p.name, err, p.env)
	}
	if path, err := exec.LookPath(p.name); err == nil && p.versionOf(path) == version {
		return filepath.Abs(path)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s-%s-%s", p.name, version, runtime.GOOS, runtime.GOARCH)
	path := filepath.Join(cache, "rollcall", name)
	return path, p.build(dir, path)
}

// versionOf asks an executable for its version. It returns "", which equals no pinned version, if the executable does not answer.
func (p *program) versionOf(path string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, p.versionArgs...).Output()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), p.versionLine); ok {
			return "v" + strings.TrimPrefix(v, "v")
		}
	}
	return ""
}

// build builds path from the module in dir, unless it exists. Test binaries of several packages call build at the same time: one
// of them builds, and the others wait for its file.
func (p *program) build(dir, path string) (err error) {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	unlock, err := lockFile(path+".lock", func() {
		say("testbed: waiting for another process that builds %s", filepath.Base(path))
	})
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}

	say("testbed: building %s, once on this machine: %s, downloads not counted (or name an executable in %s)",
		filepath.Base(path), p.buildTime, p.env)
	start := time.Now()
	// A fixed name is safe while the file is locked, and the next build removes what an interrupted one has left.
	unfinished := path + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	// The C compiler, tags and flags of the environment stay as they are, so that `go tool -modfile=…` shares the build
	// cache. Only the target is set: it is the platform of this test binary.
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", unfinished, p.pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s in %s: %w\n%s", cmd, dir, err, output.Bytes())
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	say("testbed: built %s in %s", filepath.Base(path), time.Since(start).Round(time.Second))
	return nil
}

// say prints a message for the person who waits, on the terminal if there is one. The go command delays what tests of several
// packages print to the standard error until each test is done.
func say(format string, args ...any) {
	w := os.Stderr
	if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
		defer func() { _ = tty.Close() }()
		w = tty
	}
	fmt.Fprintf(w, format+"\n", args...)
}
