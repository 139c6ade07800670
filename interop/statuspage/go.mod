// The tests that show the status page to a real browser, which importers of Rollcall are to get nothing of.
module github.com/rollcall-go/rollcall/interop/statuspage

go 1.26.0

require (
	github.com/chromedp/cdproto v0.160.1
	github.com/chromedp/chromedp v0.23.1
	github.com/rollcall-go/rollcall v0.0.0
)

require github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect

replace github.com/rollcall-go/rollcall => ../..
