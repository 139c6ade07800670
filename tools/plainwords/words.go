package main

import "regexp"

// A rule finds one way of writing that CONTRIBUTING.md's house rules on language advise against.
type rule struct {
	name    string // as it is written in the baseline
	instead string // what to write
	text    *regexp.Regexp
}

func word(name, instead, pattern string) rule {
	return rule{name, instead, regexp.MustCompile(`(?i)\b(?:` + pattern + `)\b`)}
}

// rules are matched against comments, string literals, Markdown, and identifiers whose words are separated by blanks. A rule may
// match a sentence that is fine: the count of a package may fall and must not rise, so that only new text has to give reasons.
var rules = []rule{
	word("where", `"if" or "when" for a condition; "where" is for places`, `where`),
	word("whoever", "the noun: the caller, the client, the next attempt", `whoever|whichever|whatever`),
	word("nobody", "the noun, or a passive sentence", `nobody|somebody`),
	word("that of", "the noun again", `(?:that|those) (?:of|that|which|who)`),
	word("the one which", "the noun again", `the ones? (?:which|that|who)`),
	word("one that", "the noun again", `\bone (?:that|which|who)`),
	word("no longer", "what the code does; history belongs in commits", `no longer|any more|anymore`),
	word("announce", "register", `announc(?:e|es|ed|ing|ement|ements|er)`),
	word("stands", "is registered", `stands?|stood`),
	word("stands aside", "yields", `stand(?:s|ing)? aside|stood aside`),
	word("hold", "grace period, withheld; or keep", `(?:un)?hold(?:s|ing)?|held`),
	word("doubt", "suspect", `doubt(?:s|ed|ing)?|(?:is|are) (?:not )?believed|believes?`),
	word("patience", "timeout, grace period, deadline", `patience|patient`),
	word("crowd", "connection limiter, request class, slot", `crowd(?:s|ed)?|errands?`),
	word("mark", "owner tag, sequence number", `marks?`),
	word("leftover", "orphaned entry, orphaned lease", `left ?overs?`),
	word("silence", "liveness check: idle, unverified, supervise, verify", `silen(?:ce|t|tly)|mute(?:d|ly)?|oversee(?:s|n)?|dispels?|dispelled`),
	word("fate", "handoff: owned, handing over, handed over", `fates?`),
	word("late write", "delayed write", `late writes?`),
	word("take and give", "lock and unlock", `takes? the turn|has the turn|gives? the turn|whose turn`),
	word("urge", "reconnect now", `urg(?:e|es|ed|ing)`),
	word("alike", "shared decoding, template entry", `alike`),
	word("grudge", "recorded failures", `grudges?`),
	word("hurry", "deadline", `hurr(?:y|ies|ied)`),
	word("in vain", "failed attempt", `in vain|vain`),
	word("faces", "the local address used to reach the registry", `fac(?:es|ing) (?:the|it)`),
}
