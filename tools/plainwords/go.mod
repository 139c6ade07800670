module github.com/rollcall-go/rollcall/tools/plainwords

go 1.26.0
