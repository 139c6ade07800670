package testbed

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const modulePath = "github.com/rollcall-go/rollcall"

// repositoryRoot is the folder of the go.mod that declares modulePath. It looks upward from the working directory first,
// which in a test is the folder of its package, and passes by the go.mod of other modules of the repository, such as
// bench; a program that runs elsewhere is found by the position of this source file.
func repositoryRoot() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, start := range starts {
		for dir := start; ; dir = filepath.Dir(dir) {
			if declaresModule(filepath.Join(dir, "go.mod")) {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("no go.mod of %s above %s", modulePath, strings.Join(starts, " or "))
}

func declaresModule(file string) bool {
	found := false
	_ = eachLine(file, func(fields []string) bool {
		found = len(fields) >= 2 && fields[0] == "module" && fields[1] == modulePath
		return !found
	})
	return found
}

// requiredVersion is the version of module that the given go.mod requires.
func requiredVersion(file, module string) (string, error) {
	version := ""
	err := eachLine(file, func(fields []string) bool {
		if len(fields) > 0 && fields[0] == "require" {
			fields = fields[1:]
		}
		if len(fields) >= 2 && fields[0] == module {
			version = fields[1]
		}
		return version == ""
	})
	if err == nil && version == "" {
		err = fmt.Errorf("%s does not require %s", file, module)
	}
	return version, err
}

// eachLine passes the fields of each line to f until that returns false.
func eachLine(file string, f func(fields []string) bool) (err error) {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if !f(strings.Fields(lines.Text())) {
			return nil
		}
	}
	return lines.Err()
}
