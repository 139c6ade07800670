package main

import (
	"go/ast"
	"go/doc"
	"go/token"
	"regexp"
	"strings"
)

// start matches the functions that a user starts from.
var start = regexp.MustCompile(`^(New|Open|Run)(\p{Lu}|$)`)

// checker collects the problems of one package.
// called matches the methods that other packages call, such as encoding/json: a type that has no others needs no example.
var called = regexp.MustCompile(`^(Marshal|Unmarshal|String$|Error$|Unwrap$)`)

type checker struct {
	name     string
	set      *token.FileSet
	examples int // of functions, types and methods
	problems []string
}

func (c *checker) report(identifier, problem string) {
	c.problems = append(c.problems, c.name+": "+identifier+problem)
}

// wantDoc reports identifier unless it has a comment.
func (c *checker) wantDoc(identifier, comment string) {
	if strings.TrimSpace(comment) == "" {
		c.report(identifier, " has no doc comment")
	}
}

func (c *checker) check(p *doc.Package) {
	c.wantDoc("the package", p.Doc)
	c.values(p.Consts)
	c.values(p.Vars)
	for _, f := range p.Funcs {
		c.function("", f)
	}
	for _, t := range p.Types {
		c.typ(t)
	}
	onlyVariables := len(p.Consts)+len(p.Funcs)+len(p.Types) == 0 && len(p.Vars) > 0
	if c.examples == 0 && len(p.Examples) == 0 && !onlyVariables {
		c.report("the package", " has no example")
	}
}

func (c *checker) values(all []*doc.Value) {
	for _, v := range all {
		for _, spec := range v.Decl.Specs {
			s, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for _, name := range s.Names {
				if name.IsExported() {
					c.wantDoc(name.Name, v.Doc+s.Doc.Text()+s.Comment.Text())
				}
			}
		}
	}
}

func (c *checker) function(receiver string, f *doc.Func) {
	c.wantDoc(receiver+f.Name, f.Doc)
	c.examples += len(f.Examples)
	if receiver == "" && start.MatchString(f.Name) && len(f.Examples) == 0 {
		c.report(f.Name, " has no example")
	}
}

func (c *checker) typ(t *doc.Type) {
	c.wantDoc(t.Name, t.Doc)
	c.values(t.Consts)
	c.values(t.Vars)
	examples := len(t.Examples)
	c.examples += examples
	for _, f := range t.Funcs {
		c.function("", f)
		examples += len(f.Examples)
	}
	methods := 0
	for _, m := range t.Methods {
		c.function(t.Name+".", m)
		examples += len(m.Examples)
		if !called.MatchString(m.Name) {
			methods++
		}
	}
	if c.members(t) > 0 && methods > 0 && examples == 0 && !strings.HasSuffix(t.Name, "Error") {
		c.report(t.Name, " has no example")
	}
}

// members checks the exported fields of a struct and the methods of an interface. It returns the number of exported fields.
func (c *checker) members(t *doc.Type) (fields int) {
	for _, spec := range t.Decl.Specs {
		s, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		switch kind := s.Type.(type) {
		case *ast.StructType:
			return c.fields(t.Name, kind.Fields)
		case *ast.InterfaceType:
			c.fields(t.Name, kind.Methods)
		}
	}
	return 0
}

// fields checks the members of list that have a name. A comment is for all members on the lines that follow it without an empty line.
func (c *checker) fields(of string, list *ast.FieldList) (exported int) {
	end, above := 0, "" // of the member before: its last line and its comment
	for _, f := range list.List {
		comment := f.Doc.Text() + f.Comment.Text()
		if comment == "" && c.set.Position(f.Pos()).Line == end+1 {
			comment = above
		}
		end, above = c.set.Position(f.End()).Line, comment
		for _, name := range f.Names {
			if name.IsExported() {
				exported++
				c.wantDoc(of+"."+name.Name, comment)
			}
		}
	}
	return exported
}
