# `make` lists the targets.

# Where rustup installs Rust, for a shell opened before that.
export PATH := $(PATH):$(HOME)/.cargo/bin
MAKEFLAGS += --no-print-directory

# Options for the command: make demo ARGS="--voters 5000000"
ARGS ?=

.PHONY: help setup demo test times soak fuzz bench lint clean

help: ## List the targets
	@echo 'make TARGET, with one of'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 10

setup: ## Check the requirements; on Debian and Ubuntu, as root, install them
	@tools/setup

demo: ## Run everything: votes, count, page, audit; options of `scrutin demo` in ARGS="--voters 5000000 …"
	@tools/setup demo
	@cargo build --release --locked
# exec: no shell between make and the program, which would have to handle Ctrl-C too.
	@exec cargo run --release --locked --quiet -- demo $(ARGS)

# The benches run at a small size here. Real results and ballots are replayed if SCRUTIN_TEST_DATA has them.
test: ## Run all tests, on a PostgreSQL, Kafka brokers and a Spark of their own
	@tools/test $(ARGS)

times: ## Show how long each part of lint and test takes, and the slowest tests
	@tools/times

soak: ## Run the long tests: kills, outages, whole elections, and builds without TLS
	@tools/setup
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --release --locked --all-features --test it -- --ignored --nocapture --test-threads 1 $(ARGS)

fuzz: ## Damage files and Kafka's record batches, and compare the two parsers on 200 million (SCRUTIN_FUZZ_INPUTS) inputs, new ones each time
	@tools/setup
	@seed=$${SCRUTIN_FUZZ_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} && echo "SCRUTIN_FUZZ_SEED=$$seed" && \
	SCRUTIN_FUZZ_SEED=$$seed SCRUTIN_FUZZ_FILES=$${SCRUTIN_FUZZ_FILES:-100000} PROPTEST_CASES=$${PROPTEST_CASES:-100000} \
	cargo test --release --locked --workspace --lib damaged && \
	SCRUTIN_FUZZ_SEED=$$seed SCRUTIN_FUZZ_INPUTS=$${SCRUTIN_FUZZ_INPUTS:-200000000} \
	cargo test --release --locked --test it -- --exact parser::the_fast_parser_says_what_serde_says --nocapture

bench: ## Measure at full size (an hour and a half once built, 30 GB of disk) into benches/results/
	@tools/setup
	cargo bench --locked --all-features --bench throughput --bench kafka --bench spark --bench rehearsal --bench country --bench page

lint: ## Check formatting, lints, docs, and the dependencies' licences
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
# The program without Spark.
	cargo clippy --locked --workspace --all-targets --features tls -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --all-features --no-deps --document-private-items
	tools/check-dependencies
	tools/check-dashboards

clean: ## Delete build output; keeps the demo's votes and count in scrutin-data
	cargo clean
