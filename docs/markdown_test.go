package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the root of the repository.
const root = ".."

// page is one Markdown file.
type page struct {
	path     string // from root, with slashes
	text     string // without blocks
	headings []string
	blocks   []block
}

// block is one fenced block of a page.
type block struct {
	language string
	text     string
	line     int // of the fence
}

// pages returns all Markdown files of the repository.
func pages(t *testing.T) (all []page) {
	t.Helper()
	for _, path := range files(t, ".md") {
		all = append(all, parse(path, read(t, path)))
	}
	if len(all) < 8 {
		t.Fatalf("found %d Markdown files below %s, want all of the repository", len(all), root)
	}
	return all
}

func parse(path, text string) page {
	p := page{path: path}
	var rest strings.Builder
	var in *block
	for i, line := range strings.SplitAfter(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && in == nil:
			in = &block{language: fence, line: i + 1}
		case isFence:
			p.blocks = append(p.blocks, *in)
			in = nil
		case in != nil:
			in.text += line
		default:
			rest.WriteString(line)
			if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
				p.headings = append(p.headings, strings.TrimSpace(heading))
			}
		}
	}
	p.text = rest.String()
	return p
}

// files returns the paths, from root, of all files with this ending that are part of the repository.
func files(t *testing.T, ending string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != root && (name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".")):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, ending):
			short, err := filepath.Rel(root, path)
			all = append(all, filepath.ToSlash(short))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParse_SeparatesBlocksFromText(t *testing.T) {
	p := parse("x.md", "# Title\ntext\n```go\na := 1 # no heading\n```\n## Second `x`\n")
	if want := "# Title\ntext\n## Second `x`\n"; p.text != want {
		t.Errorf("text = %q, want %q", p.text, want)
	}
	if len(p.blocks) != 1 || p.blocks[0] != (block{"go", "a := 1 # no heading\n", 3}) {
		t.Errorf("blocks = %v", p.blocks)
	}
	if len(p.headings) != 2 || p.headings[1] != "Second `x`" {
		t.Errorf("headings = %q", p.headings)
	}
}
