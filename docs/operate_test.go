package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// notLibrary are the folders whose programs and tests log for themselves.
var notLibrary = []string{"bench/", "cmd/", "docs/", "examples/", "internal/testbed/", "interop/", "registry/registrytest/", "tools/"}

// TestOperate_HasEachLogLine compares the log lines of operate.md with the lines in the code.
func TestOperate_HasEachLogLine(t *testing.T) {
	want := map[string]bool{}
	for _, name := range files(t, ".go") {
		if strings.HasSuffix(name, "_test.go") || slices.ContainsFunc(notLibrary, func(folder string) bool { return strings.HasPrefix(name, folder) }) {
			continue
		}
		for _, line := range logLines(t, name, read(t, name)) {
			want[line] = true
		}
	}
	if len(want) < 40 {
		t.Errorf("the code has %d log lines, want at least 40", len(want))
	}
	compareWithOperate(t, firstColumn(read(t, "docs/operate.md"), "rollcall: "), want)
}

// TestOperate_HasEachMetricOfResolvers compares the metrics of gRPC channels; a test of package rollcallotel compares the others.
func TestOperate_HasEachMetricOfResolvers(t *testing.T) {
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`describe\("(\w+)", "`).FindAllStringSubmatch(read(t, "grpcx/metrics.go"), -1) {
		want["rollcall.resolver."+m[1]] = true
	}
	if len(want) == 0 {
		t.Error("the code has no metric of a resolver")
	}
	compareWithOperate(t, firstColumn(read(t, "docs/operate.md"), "rollcall.resolver."), want)
}

// TestOperate_HasEachMetricOfPolicies does the same for the metrics of balancing policies.
func TestOperate_HasEachMetricOfPolicies(t *testing.T) {
	want := map[string]bool{}
	for _, name := range files(t, ".go") {
		if strings.HasPrefix(name, "grpcx/") {
			for _, m := range regexp.MustCompile(`MetricDescriptor\{\s*Name: +"(rollcall\.\w+\.\w+)"`).FindAllStringSubmatch(read(t, name), -1) {
				want[m[1]] = true
			}
		}
	}
	compareWithOperate(t, firstColumn(read(t, "docs/operate.md"), "rollcall.zone."), want)
	if !want["rollcall.zone.picks"] {
		t.Errorf("the code has the metrics %v, want rollcall.zone.picks among them", want)
	}
}

func compareWithOperate(t *testing.T, got []string, want map[string]bool) {
	t.Helper()
	for _, line := range slices.Sorted(maps.Keys(want)) {
		if !slices.Contains(got, line) {
			t.Errorf("docs/operate.md has no row for %q", line)
		}
	}
	for i, line := range got {
		if !want[line] {
			t.Errorf("docs/operate.md has %q, which is not in the code", line)
		}
		if slices.Contains(got[:i], line) {
			t.Errorf("docs/operate.md has %q twice", line)
		}
	}
}

// firstColumn returns the texts with this prefix that are the first cell of a row of a table.
func firstColumn(page, prefix string) (all []string) {
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, "| `"+prefix); ok {
			cell, _, _ := strings.Cut(text, "`")
			all = append(all, prefix+cell)
		}
	}
	return all
}

// logLines returns the texts in a file that start like a log line. The text of an error starts like that too, but is not one.
func logLines(t *testing.T, name, source string) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path.Base(name), source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	add := func(values []ast.Expr) {
		for _, v := range values {
			if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err == nil && strings.HasPrefix(text, "rollcall: ") && text != "rollcall: " {
					all = append(all, text)
				}
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			add(n.Rhs)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); !ok || !slices.Contains([]string{"Errorf", "New", "Sprintf"}, f.Sel.Name) {
				add(n.Args)
			}
		}
		return true
	})
	return all
}

func TestLogLines(t *testing.T) {
	source := "package p\nfunc f() {\n\ttext := \"rollcall: a\"\n\tlog.Warn(\"rollcall: b\", \"x\")\n\t_ = fmt.Errorf(\"rollcall: c\")\n\tb.WriteString(\"rollcall: \")\n}\n"
	if got := logLines(t, "p.go", source); !slices.Equal(got, []string{"rollcall: a", "rollcall: b"}) {
		t.Errorf("log lines are %q, want rollcall: a and rollcall: b", got)
	}
}
