package statuspage

import (
	"crypto/sha256"
	_ "embed" // the parts of the page
	"encoding/base64"
	"html/template"
	"strings"
	"time"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// contentSecurityPolicy allows the page's own style and script, and its stream. They are inside the page, so their hashes name them.
var contentSecurityPolicy = strings.Join([]string{
	"default-src 'none'",
	"style-src " + hashSource(pageCSS),
	"script-src " + hashSource(pageJS),
	"connect-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
}, "; ")

func hashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"css":     func() template.CSS { return template.CSS(pageCSS) },
	"js":      func() template.JS { return template.JS(pageJS) },
	"clock":   func(t time.Time) string { return t.Format(clock) },
	"time":    func(t time.Time) string { return t.Format(time.TimeOnly) },
	"iso":     func(t time.Time) string { return t.Format(time.RFC3339) },
	"ago":     func(now, t time.Time) string { return duration(now.Sub(t)) },
	"count":   count[int],
	"grouped": grouped[int],
	"total":   grouped[uint64],
	"number":  count[uint64],
	"pass":    pass,
	"weight":  weightText,
	"problem": func(l level) bool { return l.severity() > 0 },
}).Parse(pageHTML))
