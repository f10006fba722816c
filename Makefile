# `make` lists what there is.

# Where rustup puts Rust, for a shell that was opened before.
export PATH := $(PATH):$(HOME)/.cargo/bin
MAKEFLAGS += --no-print-directory

# For the command: make demo ARGS="--voters 5000000"
ARGS ?=

.PHONY: help setup demo test times soak fuzz bench lint clean

help: ## List what make can do
	@echo 'make TARGET, with one of'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 10

setup: ## Check what is needed; on Debian and Ubuntu, as root, install it
	@tools/setup

demo: ## Run it all: votes, count, page, audit; options of `scrutin demo` in ARGS="--voters 5000000 …"
	@tools/setup demo
	@cargo build --release --locked
# exec: no shell between make and the program has to understand Ctrl-C too.
	@exec cargo run --release --locked --quiet -- demo $(ARGS)

# The benches run small here. Real results and ballots are replayed if they are in SCRUTIN_TEST_DATA.
test: ## Run all tests, on a PostgreSQL, Kafka brokers and a Spark of their own
	@tools/test $(ARGS)

times: ## Show how long each part of lint and test takes, and the slowest tests
	@tools/times

soak: ## Run the long tests: kills, outages, whole elections, and builds without TLS
	@tools/setup
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --release --locked --all-features --test it -- --ignored --nocapture --test-threads 1 $(ARGS)

fuzz: ## Damage files, and compare the two parsers on 200 million inputs, or SCRUTIN_FUZZ_INPUTS, other ones each time
	@tools/setup
	@seed=$${SCRUTIN_FUZZ_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} && echo "SCRUTIN_FUZZ_SEED=$$seed" && \
	SCRUTIN_FUZZ_SEED=$$seed SCRUTIN_FUZZ_FILES=$${SCRUTIN_FUZZ_FILES:-100000} \
	cargo test --release --locked --workspace --lib damaged && \
	SCRUTIN_FUZZ_SEED=$$seed SCRUTIN_FUZZ_INPUTS=$${SCRUTIN_FUZZ_INPUTS:-200000000} \
	cargo test --release --locked --test it -- --exact parser::the_fast_parser_says_what_serde_says --nocapture

bench: ## Measure at full size (forty minutes once built, 10 GB of disk) into benches/results/
	@tools/setup
	cargo bench --locked --all-features --bench throughput --bench kafka --bench spark --bench page

lint: ## Check form, lints, docs, and the dependencies' licences
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
# The program as it is without Spark.
	cargo clippy --locked --lib --bins --profile test --features tls -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --all-features --no-deps --document-private-items
	tools/check-dependencies
	tools/check-dashboards

clean: ## Delete what was built; the demo's votes and count in scrutin-data stay
	cargo clean
