# make help lists the targets.
GO            ?= go
GOFUMPT       := $(GO) run mvdan.cc/gofumpt@v0.12.0
GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BENCH         ?= .
SUDO          := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help build run test lint fmt bench clean tools race

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

build: ## Build bin/gatehouse
	$(GO) build -trimpath -o bin/gatehouse ./cmd/gatehouse

run: build ## Run the demo: two tenants with their backends, and what to try
	./bin/gatehouse run --demo

test: tools build lint race ## Everything: format, lint, laws, all tests with the race detector
	@echo "all tests passed"

# What the tests need beside Go: curl (the tutorial is run as it is written).
tools:
	@command -v curl >/dev/null || { $(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends curl; }

race:
	$(GO) test -race -timeout 20m ./...

lint: ## Check format and lint
	@out="$$($(GOFUMPT) -l $$(git ls-files '*.go'))"; [ -z "$$out" ] || { echo "make fmt would change:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GOLANGCI_LINT) run ./...

fmt: ## Format all Go code
	$(GOFUMPT) -w $$(git ls-files '*.go')

bench: ## Go benchmarks with allocations, then Gatehouse against nginx
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...
	bench/quick.sh

clean: ## Remove what was built
	rm -rf bin .cache
