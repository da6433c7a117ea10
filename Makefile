# Offshoot. `make demo` and `make test` work on a fresh machine; everything else is detail.

CARGO ?= cargo
# Real agents that `make test` runs; `make test-agents` runs all of them.
AGENTS ?= claude codex gemini

# Where rustup puts cargo, and where Debian puts ip, also for those whose PATH does not say so.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

WEB := cd web && npm

.PHONY: build web demo test test-agents test-web check advisories fuzz bench fmt clean prerequisites build-prerequisites web-prerequisites

build: web ## The binary, as it is shipped: target/release/offshoot
	$(CARGO) build --release --locked -p offshoot

web: web-prerequisites ## The dashboard: web/dist
	$(WEB) ci --no-fund --no-audit
	$(WEB) run build

demo: build-prerequisites ## Three tasks at once on a sample repository, without any API key
	$(CARGO) build --locked -p offshoot -p offshoot-testkit
	demo/run $(TARGET)/debug

test: prerequisites web check advisories ## Everything
	crates/testkit/install-agents.sh $(AGENTS)
	$(CARGO) build --locked -p offshoot -p offshoot-testkit -p offshoot-sandbox --bins
	$(MAKE) test-web
	OFFSHOOT_TEST_AGENTS="$(AGENTS)" $(CARGO) test --locked --workspace --no-fail-fast
	@echo "real agents in this run: $(AGENTS) (all: make test-agents)"

test-web: export OFFSHOOT_BIN ?= $(TARGET)/debug
test-web: ## The dashboard: lints, types, unit tests; then in Chromium, with the binaries that are there
	$(WEB) run check
	$(WEB) run e2e

test-agents: prerequisites ## The real agents, all five
	crates/testkit/install-agents.sh
	$(CARGO) build --locked -p offshoot -p offshoot-testkit
	OFFSHOOT_TEST_AGENTS="claude codex gemini opencode aider" \
		$(CARGO) test --locked --no-fail-fast -p offshoot -p offshoot-testkit real
	@echo "real agents in this run: claude codex gemini opencode aider"

check: ## Format and lints, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

advisories: ## Vulnerable or withdrawn dependencies, as far as that can be looked up here
	scripts/advisories

fuzz: ## Each fuzz target for half a minute; SECONDS=600 for longer. Needs cargo-fuzz
	scripts/fuzz $(or $(SECONDS),30)

prerequisites: ## What the tests need besides Rust: installed where that is possible, else named
	scripts/prerequisites

build-prerequisites:
	@scripts/prerequisites build

web-prerequisites:
	@scripts/prerequisites web

bench: build ## The figures, measured here; ARGS="--repo PATH" for another repository
	bench/run $(ARGS)

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
