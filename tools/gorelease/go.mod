module github.com/rollcall-go/rollcall/tools/gorelease

go 1.26.0

tool golang.org/x/exp/cmd/gorelease

require (
	golang.org/x/exp v0.0.0-20260218203240-3dfff04db8fa // indirect
	golang.org/x/mod v0.33.0 // indirect
	golang.org/x/sync v0.19.0 // indirect
	golang.org/x/tools v0.42.0 // indirect
)
