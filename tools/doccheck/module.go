package main

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkModule returns the problems of all packages below root that others can import, in the order of their folders.
func checkModule(root string) (problems []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if path != root && isLeftOut(path) {
			return filepath.SkipDir
		}
		found, err := checkFolder(root, path)
		problems = append(problems, found...)
		return err
	})
	return problems, err
}

// isLeftOut reports whether a folder has nothing for importers of the module.
func isLeftOut(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || slices.Contains([]string{"internal", "examples", "docs", "testdata"}, name) {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

// checkFolder returns the problems of the package in one folder, and none if there is no package or it is a command.
func checkFolder(root, folder string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	var files []*ast.File
	code := 0
	for _, path := range paths {
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if file.Name.Name == "main" {
			return nil, nil
		}
		files = append(files, file)
		if !strings.HasSuffix(path, "_test.go") {
			code++
		}
	}
	if code == 0 {
		return nil, nil
	}
	p, err := doc.NewFromFiles(set, files, folder)
	if err != nil {
		return nil, err
	}
	name, err := filepath.Rel(root, folder)
	if err != nil {
		return nil, err
	}
	c := &checker{name: filepath.ToSlash(name), set: set}
	c.check(p)
	return c.problems, nil
}
