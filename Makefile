# What a developer types. The work is done by scripts/, cargo and PostgreSQL's own test drivers.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SECONDS ?= 1200
.PHONY: help setup setup-build setup-demo setup-bench install demo psql test soak postgres-suites sqlsmith lint audit bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  PG_CONFIG=/path/to/pg_config  works with another server than Debian'\''s PostgreSQL 15'
	@echo '  SECONDS=1200                 how long each part of the soak takes; a quarter more for the run without the cache'
	@echo '  BENCH="--quick"              only checks ratios, with wide margins; --help lists more'
	@echo '  SUITES="regress cluster"      runs only these of: validity eviction glob space worth clock regress isolation cluster accidents consistency roads hostile'

setup: ## install what is missing: Debian packages, Rust toolchain, cargo-pgrx
	@scripts/setup

setup-build:
	@scripts/setup build

setup-demo:
	@scripts/setup demo

setup-bench:
	@scripts/setup bench

install: setup-build ## build the extension and install it into the server of PG_CONFIG
	@scripts/install

demo: setup-demo install ## show what it does, on real data, in a private cluster
	@scripts/run demo

psql: ## a shell into the demo's cluster
	@CARGO_TERM_QUIET=true scripts/run demo psql

test: setup install ## run every test
	@scripts/test $(SUITES)

soak: setup install ## the consistency oracle for long, with and without the cache; then random scripts, then the random attackers
	@scripts/run consistency --soak --seconds $(SECONDS)
	@scripts/run roads --seconds $(SECONDS) --seed $(or $(SEED),2)
	@scripts/run hostile --seconds $(SECONDS) --seed $(or $(SEED),2)

postgres-suites: setup install ## run PostgreSQL's own suites with and without the extension
	@scripts/postgres-suites

sqlsmith: install ## ask random queries for ten minutes; DURATION=60 SEED=7 change that
	@scripts/setup sqlsmith
	@scripts/sqlsmith $(or $(DURATION),600) $(or $(SEED),1)

lint: setup-build ## check format, clippy, documentation, licences, scripts
	@scripts/lint

audit: ## look for known vulnerabilities in the dependencies (downloads the advisories)
	cargo deny --workspace check advisories

bench: setup-bench install ## measure, and compare within the same run
	@scripts/run bench $(BENCH)

clean: ## stop the private clusters and remove everything built
	@scripts/stop-clusters
	cargo clean --quiet
