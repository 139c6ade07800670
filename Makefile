# Shortcuts; everything here can be typed by hand too. The first word of a target's comment line is its name in `make help`.
.DEFAULT_GOAL := help
.PHONY: help test quick lint generate quickstart consul bench bench-short ci

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## all tests with the race detector; real Consul and etcd, built on the first run (20 minutes)
	go test -race -parallel 6 -timeout 30m ./...

quick: ## the tests that need no server (15 seconds once they are compiled)
	.ci/quick

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=tools/lint/go.mod staticcheck ./...

generate: ## write generated files anew
	go tool -modfile=tools/wire/go.mod wire ./examples/wire

quickstart: ## the demonstration in one process
	go run ./examples/quickstart

consul: ## a development Consul on 127.0.0.1:8500, without Docker (about 3 minutes to build the first time)
	go tool -modfile=tools/consul/go.mod consul agent -dev

bench: ## Rollcall and its peers side by side over the same servers, at full scale; long
	cd bench && go run .

bench-short: ## the same at a small scale, which tells whether it runs (3 minutes)
	cd bench && go run . -short

ci: ## everything that main must pass
	.ci/run
