// Command doccheck names what the documentation of a Go module lacks:
//
//   - exported identifiers without a doc comment: packages, functions, types, methods, fields, constants and variables;
//   - packages, and functions and types that a user starts from, without an example.
//
// A user starts from a function whose name begins with New, Open or Run, and from a struct with exported fields and methods, if these
// are more than encoders and String. The example of a method or of a constructor counts for its type too. A type whose name ends in Error needs none, and neither does a package
// that exports variables only.
//
//	go run . -root ../..
//
// It looks at all packages of the module that others can import, and leaves out folders named examples and docs.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "the root folder of the module")
	flag.Parse()
	problems, err := checkModule(*root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "doccheck:", err)
		os.Exit(1)
	}
	for _, p := range problems {
		fmt.Println(p)
	}
	if len(problems) > 0 {
		fmt.Fprintf(os.Stderr, "doccheck: %d problems\n", len(problems))
		os.Exit(1)
	}
}
