package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A place is one match of one rule.
type place struct {
	folder, file string // relative to the root, with slashes
	line         int
	rule, text   string
}

// find returns all places below root, in the order of their files. It leaves out hidden folders, testdata and this program,
// whose rules match themselves.
func find(root string) ([]place, error) {
	var places []place
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") && name != ".ci" || name == "testdata" || name == "plainwords") {
				return filepath.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		file := filepath.ToSlash(relative)
		var texts []text
		switch filepath.Ext(name) {
		case ".go":
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			texts = textsOfGo(src)
		case ".md":
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i, line := range strings.Split(string(src), "\n") {
				texts = append(texts, text{i + 1, line})
			}
		}
		folder := filepath.ToSlash(filepath.Dir(relative))
		for _, t := range texts {
			for _, r := range rules {
				for range r.text.FindAllString(t.text, -1) {
					places = append(places, place{folder, file, t.line, r.name, strings.TrimSpace(t.text)})
				}
			}
		}
		return nil
	})
	return places, err
}

// text is a piece of a file.
type text struct {
	line int
	text string
}

// textsOfGo returns the comments and string literals of a Go file line by line, and each identifier once, with blanks between
// its words.
func textsOfGo(src []byte) []text {
	var texts []text
	add := func(line int, s string) {
		for i, l := range strings.Split(s, "\n") {
			texts = append(texts, text{line + i, l})
		}
	}
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	var known []string
	for {
		pos, tok, lit := s.Scan()
		switch tok {
		case token.EOF:
			return texts
		case token.COMMENT, token.STRING:
			add(file.Line(pos), lit)
		case token.IDENT:
			if !slices.Contains(known, lit) {
				known = append(known, lit)
				add(file.Line(pos), wordsOf(lit))
			}
		}
	}
}

var wordStart = regexp.MustCompile(`([a-z0-9])([A-Z])|_`)

// wordsOf returns "beginHold" as "begin Hold".
func wordsOf(identifier string) string { return wordStart.ReplaceAllString(identifier, "$1 $2") }
