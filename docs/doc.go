// Package docs has the documentation of Rollcall, as Markdown. Its tests check the Markdown files of the whole repository: that code
// compiles, that commands and tests exist, and that links lead somewhere.
package docs
