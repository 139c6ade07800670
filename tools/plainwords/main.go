// Command plainwords counts, for each folder of a Go repository, the words and turns of phrase that the house style advises
// against, in comments, string literals, identifiers and Markdown. It compares the counts with a baseline and fails if one
// has risen, so that the language of a package gets plainer with each change and never less plain.
//
//	go run . -root ../.. -baseline baseline.txt           # fails if a count has risen
//	go run . -root ../.. -baseline baseline.txt -update   # writes today's counts
//	go run . -root ../.. -list registry                   # shows each place in one folder
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// counts has the number of places by folder and rule.
type counts map[string]map[string]int

func (c counts) add(folder, rule string, n int) {
	if c[folder] == nil {
		c[folder] = map[string]int{}
	}
	c[folder][rule] += n
}

func main() {
	root := flag.String("root", ".", "the folder of the repository")
	baseline := flag.String("baseline", "", "the file with the counts that must not rise")
	update := flag.Bool("update", false, "write the counts of today to the baseline")
	list := flag.String("list", "", "show each place in this folder, relative to the root")
	flag.Parse()
	if err := run(*root, *baseline, *list, *update); err != nil {
		fmt.Fprintln(os.Stderr, "plainwords:", err)
		os.Exit(1)
	}
}

func run(root, baseline, list string, update bool) error {
	places, err := find(root)
	if err != nil {
		return err
	}
	if list != "" {
		for _, p := range places {
			if p.folder == filepath.ToSlash(filepath.Clean(list)) {
				fmt.Printf("%s:%d: %s: %s\n", p.file, p.line, p.rule, p.text)
			}
		}
		return nil
	}
	now := counts{}
	for _, p := range places {
		now.add(p.folder, p.rule, 1)
	}
	if baseline == "" {
		return write(os.Stdout, now)
	}
	if update {
		return writeFile(baseline, now)
	}
	before, err := read(baseline)
	if err != nil {
		return err
	}
	return compare(before, now, places)
}

// compare returns an error that names each count that has risen, and shows the places of the first few.
func compare(before, now counts, places []place) error {
	var risen []string
	for _, folder := range slices.Sorted(maps.Keys(now)) {
		for _, r := range rules {
			if n, was := now[folder][r.name], before[folder][r.name]; n > was {
				risen = append(risen, fmt.Sprintf("%s: %q %d times, %d before: write %s", folder, r.name, n, was, r.instead))
				for _, p := range places {
					if p.folder == folder && p.rule == r.name && was == 0 {
						risen = append(risen, fmt.Sprintf("  %s:%d: %s", p.file, p.line, p.text))
					}
				}
			}
		}
	}
	if len(risen) > 0 {
		return errors.New("these became more (see CONTRIBUTING.md; -list FOLDER shows all places):\n" + strings.Join(risen, "\n"))
	}
	return nil
}

func writeFile(path string, c counts) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f, c), f.Close())
}

func write(f *os.File, c counts) error {
	w := bufio.NewWriter(f)
	for _, folder := range slices.Sorted(maps.Keys(c)) {
		for _, rule := range slices.Sorted(maps.Keys(c[folder])) {
			fmt.Fprintf(w, "%s\t%s\t%d\n", folder, rule, c[folder][rule])
		}
	}
	return w.Flush()
}

func read(path string) (counts, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist; -update writes it", path)
	}
	if err != nil {
		return nil, err
	}
	c := counts{}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		fields := strings.Split(line, "\t")
		if line == "" {
			continue
		}
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s:%d: %q is not FOLDER, RULE and COUNT with tabs between them", path, i+1, line)
		}
		n, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		c.add(fields[0], fields[1], n)
	}
	return c, nil
}
