package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// columns is the width that output is made for.
const columns = 80

// progress shows on a terminal, in one line that is erased in the end, what a command waits for. Elsewhere it shows nothing.
type progress struct{ a *app }

func (a *app) newProgress() progress { return progress{a} }

// eraseLine moves to the beginning of the line and erases it.
const eraseLine = "\r\x1b[2K"

// say replaces the line. It cuts a long text, since a line that wraps could not be erased.
func (p progress) say(format string, args ...any) {
	if isTerminal(p.a.stderr) {
		fmt.Fprint(p.a.stderr, eraseLine, clip(cell(fmt.Sprintf(format, args...)), columns-1))
	}
}

func (p progress) end() {
	if isTerminal(p.a.stderr) {
		fmt.Fprint(p.a.stderr, eraseLine)
	}
}

// sayWaiting says what a command waits for that has nothing to show until then: at once on a terminal, and elsewhere in one line after a
// moment. It goes on until the function is called that it returns.
func (a *app) sayWaiting(ctx context.Context, text string) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	p := a.newProgress()
	p.say("%s", text)
	var work sync.WaitGroup
	if !isTerminal(a.stderr) {
		work.Go(func() {
			if sleep.For(ctx, waitingInterval) {
				a.report("%s", text)
			}
		})
	}
	return sync.OnceFunc(func() {
		cancel()
		work.Wait()
		p.end()
	})
}

// waitingInterval is how long an answer may take before a command that is not on a terminal says that it waits.
const waitingInterval = 2 * time.Second

// clip returns text with at most n characters.
func clip(text string, n int) string {
	if all := []rune(text); len(all) > n {
		return string(all[:n-1]) + "…"
	}
	return text
}

// step says on a terminal, in a line of its own, what the command does next. The program that register runs writes to the same terminal.
func (a *app) step(format string, args ...any) {
	if isTerminal(a.stderr) {
		fmt.Fprintln(a.stderr, "rollcall:", cell(fmt.Sprintf(format, args...)))
	}
}
