// Package statuspage has the tests that show the status page to a real browser: the chromium of the search path, which is Debian's
// package of that name, or the program that the environment variable CHROMIUM names. They fail if there is none.
//
// They have the build tag browser, because .ci/run needs nothing that is installed by hand:
//
//	go test -tags browser -timeout 5m .
//
// With SCREENSHOTS set to a folder, the tests write their pictures of the page there. TestPage_Picture makes the pictures of docs.
package statuspage
