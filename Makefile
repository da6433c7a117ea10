# Offshoot. `make demo` and `make test` work on a fresh machine; everything else is detail.

CARGO ?= cargo
# Real agents that `make test` runs; `make test-agents` runs all of them.
AGENTS ?= claude codex gemini

# Where rustup puts cargo, and where Debian puts ip, also for those whose PATH does not say so.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: build demo test test-agents check advisories fuzz bench fmt clean prerequisites build-prerequisites

build: build-prerequisites ## The binary, as it is shipped: target/release/offshoot
	$(CARGO) build --release --locked -p offshoot

demo: build-prerequisites ## Three tasks at once on a sample repository, without any API key
	$(CARGO) build --locked -p offshoot -p offshoot-testkit
	demo/run $(TARGET)/debug

test: prerequisites check advisories ## Everything
	crates/testkit/install-agents.sh $(AGENTS)
	$(CARGO) build --locked -p offshoot -p offshoot-testkit -p offshoot-sandbox --bins
	OFFSHOOT_TEST_AGENTS="$(AGENTS)" $(CARGO) test --locked --workspace --no-fail-fast
	@echo "real agents in this run: $(AGENTS) (all: make test-agents)"

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

bench: build ## The figures, measured here; ARGS="--repo PATH" for another repository
	bench/run $(ARGS)

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
