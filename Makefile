# make help lists the targets.
GO            ?= go
GOFUMPT       := $(GO) run mvdan.cc/gofumpt@v0.12.0
GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BENCH         ?= .
BENCHFLAGS    ?=
FUZZ          ?= 20s
SUDO          := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: cross help build run test lint fmt bench profile long fuzz clean tools benchtools race

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

build: ## Build bin/gatehouse
	$(GO) build -trimpath -o bin/gatehouse ./cmd/gatehouse

run: build ## Run the demo: two tenants with their backends, and what to try
	./bin/gatehouse run --demo

test: tools build lint race ## Everything: format, lint, laws, all tests with the race detector
	@echo "all tests passed"

# What the tests need beside Go: curl and jq (the pages are run as written),
# nginx and HAProxy (they stand behind the gateway in the differential tests),
# Redis with its Sentinel, and PostgreSQL. RUNLEVEL=1 keeps Debian from
# starting what it installs: the tests start their own.
APT := $(SUDO) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get
tools:
	@need=""; \
	has() { command -v $$1 >/dev/null || [ -x /usr/sbin/$$1 ]; }; \
	has curl || need="$$need curl"; \
	has jq || need="$$need jq"; \
	has nginx || need="$$need nginx-light"; \
	has haproxy || need="$$need haproxy"; \
	has redis-server || need="$$need redis-server"; \
	has redis-sentinel || need="$$need redis-sentinel"; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need="$$need postgresql"; \
	[ -z "$$need" ] || { $(APT) update && $(APT) install -y --no-install-recommends $$need; }

# Tests and lint go without the compiler's profile: it would be a second build of all.
race:
	$(GO) test -race -pgo=off -timeout 20m ./...

lint: ## Check format and lint
	@out="$$($(GOFUMPT) -l $$(git ls-files '*.go'))"; [ -z "$$out" ] || { echo "make fmt would change:"; echo "$$out"; exit 1; }
	$(GO) vet -pgo=off ./...
	GOFLAGS=-pgo=off $(GOLANGCI_LINT) run ./...

# Tests and comparisons need what only Linux has; the program does not.
CROSS := linux/arm64 darwin/arm64 freebsd/amd64 windows/amd64
cross: ## Build the program for other systems, and keep nothing
	@set -e; for p in $(CROSS); do echo "$$p"; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./cmd/gatehouse; done

fmt: ## Format all Go code
	$(GOFUMPT) -w $$(git ls-files '*.go')

bench: benchtools ## Go benchmarks with allocations, then Gatehouse beside other proxies
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...
	$(GO) run ./bench $(BENCHFLAGS)

benchtools: tools
	@need=""; \
	command -v wrk >/dev/null || need="$$need wrk"; \
	command -v caddy >/dev/null || need="$$need caddy"; \
	[ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || need="$$need libnginx-mod-http-lua lua-cjson"; \
	[ -z "$$need" ] || { $(APT) update && $(APT) install -y --no-install-recommends $$need; }


# What the compiler is told of where time goes (https://go.dev/doc/pgo). To be
# made anew when the path of a request has changed, on a quiet machine.
profile: benchtools ## Measure where CPU time goes, for the compiler
	$(GO) run ./bench -profile cmd/gatehouse/default.pgo -rounds 3 -scenarios plain,tenants-1000,key,jwt,jwt-limits,everything,tls,upload,download

long: ## The long forms: 200 takeovers under load, 500 kills, 10,000 writes under kills, bodies of 1 GiB, 9,900 idle sockets
	$(GO) test ./cmd/gatehouse -timeout 30m -v -run 'TestRestarts|TestFlatMemory|TestIdleSockets' -args -restarts 200 -body-mib 1024 -idle 9900
	$(GO) test ./cmd/gatehouse -timeout 30m -v -run 'TestCrashLoop|TestSinkAway' -args -crashes 500 -acks 1000000 -sink-away 30s
	$(GO) test ./cmd/gatehouse -timeout 30m -v -run 'TestControlKilled|TestTwoControlPlanes' -args -writes 10000 -kills 100
	$(GO) test ./control/journal -timeout 30m -v -run 'TestKill|TestFlips|TestVerifierOfMany' -args -writes 10000 -tamper

fuzz: ## Fuzz every target for FUZZ (20s) each
	@set -e; for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	  echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ) -fuzzminimizetime 1x $$p; done; done

clean: ## Remove what was built
	rm -rf bin .cache
