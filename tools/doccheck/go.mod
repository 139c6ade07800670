module github.com/rollcall-go/rollcall/tools/doccheck

go 1.26.0
