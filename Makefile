# Every way to build, try and check mlxsup. Each target does the set-up it needs; `make help` lists them.
# Kept to what the make of macOS (GNU make 3.81) understands.

.DEFAULT_GOAL := help
.PHONY: help setup mlx mlx-lm model build test test-mlx-lm fuzz schedule-oracle sim sim-mutations continuity chaos chaos-engines
.PHONY: lint fmt check-macos deny demo plist run seams fairness conformance bench bench-gateway bench-daemon
.PHONY: bench-history bench-prefix bench-memory trace

CARGO ?= cargo
# Fault injection for the tests; never part of a release build.
TEST_FEATURES := --features mlxsup/fake-worker
CARGO_DENY_VERSION := 0.20.2

help: ## list the targets
	@awk -F ': .*## ' '/^[a-z-]+: .*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: mlx model ## MLX and the small model, under target/

mlx: ## real MLX for mlx-rs, under target/mlx
	@sh etc/setup/mlx.sh

model: ## the small real model, under target/models
	@sh etc/setup/model.sh

mlx-lm: model ## mlx_lm and the small model as a folder, under target/mlx-lm and target/models
	@sh etc/setup/mlx_lm.sh

build: mlx ## release binaries, in target/release
	$(CARGO) build --locked --release --workspace --bins

# Documentation tests first, so that the runner's own summary is the last line. nextest is used where it is installed.
test: setup ## everything that must pass: unit, integration and documentation tests
	$(CARGO) test --locked --workspace $(TEST_FEATURES) --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked --no-fail-fast $(if $(CI),--profile ci) --workspace $(TEST_FEATURES); \
	else \
		set -x; $(CARGO) test --locked --no-fail-fast --workspace $(TEST_FEATURES) --lib --bins --tests; \
	fi

# The Python side of `engine = "mlx_lm"` by itself: docs/mlx_lm.md.
test-mlx-lm: mlx-lm ## mlx_lm.server under supervision, with the small model (some minutes)
	target/mlx-lm/bin/python -B tests/mlx_lm/test_worker.py

# `make test` takes two of the fifteen years for schedules that fire often.
schedule-oracle: ## crontab text across fifteen years of clock changes, against croner (a minute or two)
	MLXSUP_TEST_ALL_YEARS=1 $(CARGO) test --locked -p mlxsup $(TEST_FEATURES) --lib schedule::oracle

# The short form is part of `make test` (tests/fuzzing.rs). What the fuzzer finds lies under fuzz/artifacts/.
FUZZ_TARGETS := events intake keys config crontab state_file
FUZZ_SECONDS ?= 60
fuzz: ## every reader of foreign bytes under libFuzzer, FUZZ_SECONDS each
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || { \
		echo "make fuzz needs nightly Rust and cargo-fuzz; run: rustup toolchain install nightly && cargo install cargo-fuzz" >&2; \
		exit 1; }
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target; \
		$(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 || exit 1; \
	done

# The short form is part of `make test`. Any CHAOS_… variable of the caller wins: docs/testing.md.
chaos: ## a thousand worker deaths, daemon kills, upgrades and hand-overs under load; a table at the end (about an hour)
	CHAOS_KILLS=$${CHAOS_KILLS:-1000} CHAOS_DAEMON_KILLS=$${CHAOS_DAEMON_KILLS:-300} \
	CHAOS_UPGRADES=$${CHAOS_UPGRADES:-200} CHAOS_HANDOVERS=$${CHAOS_HANDOVERS:-200} \
	CHAOS_LONGEST_MS=$${CHAOS_LONGEST_MS:-30000} CHAOS_LIMIT_S=$${CHAOS_LIMIT_S:-3600} \
	$(CARGO) test --locked --release -p mlxsup $(TEST_FEATURES) --test chaos -- --nocapture whatever_happens

# Their short forms are part of `make test` as well. One engine alone: CHAOS_ENGINE=mlx_lm make chaos.
chaos-engines: ## the same, fewer and for the other engines, openai and mlx_lm, one after the other (half an hour)
	@for engine in openai mlx_lm; do \
		CHAOS_ENGINE=$$engine CHAOS_KILLS=$${CHAOS_KILLS:-200} CHAOS_DAEMON_KILLS=$${CHAOS_DAEMON_KILLS:-100} \
		CHAOS_UPGRADES=$${CHAOS_UPGRADES:-50} CHAOS_HANDOVERS=$${CHAOS_HANDOVERS:-50} \
		CHAOS_LONGEST_MS=$${CHAOS_LONGEST_MS:-8000} CHAOS_LIMIT_S=$${CHAOS_LIMIT_S:-1800} \
		$(CARGO) test --locked --release -p mlxsup $(TEST_FEATURES) --test chaos -- --nocapture whatever_happens || exit 1; \
	done

# The short form is part of `make test`.
continuity: setup ## the real model under kills and hand-overs, every answer compared (about twenty minutes)
	$(CARGO) build --locked --release -p mlxsup-worker
	CONTINUITY_KILLS=$${CONTINUITY_KILLS:-40} CONTINUITY_RESTARTS=$${CONTINUITY_RESTARTS:-10} \
	CONTINUITY_TOKENS=$${CONTINUITY_TOKENS:-40} \
	$(CARGO) test --locked --release --workspace $(TEST_FEATURES) --test continuity -- --nocapture

conformance: build model ## the official clients (openai for Python and Node, litellm) against a real model (some minutes)
	@tests/conformance/run.sh

# How good continuation is: answers of the real model cut at random places. Minutes; RUNS=1000 makes an hour of it.
RUNS ?= 200
seams: setup ## cut and continue RUNS real answers, and print a table
	MLXSUP_SEAMS=$(RUNS) $(CARGO) test --locked --package mlxsup-worker --test link near_ties -- --nocapture

# One seed again: SIM_SEED=7 SIM_HOURS=24 make sim. docs/simulation.md tells more.
sim: ## the decision core in 10,000 made-up days of trouble, and 10,000 slow workers
	SIM_SEEDS=$${SIM_SEEDS:-10000} SIM_HOURS=$${SIM_HOURS:-24} SIM_SLOW=$${SIM_SLOW:-10000} \
		$(CARGO) test --locked --release --test sim

# Needs a Python with matplotlib: PYTHON=… make fairness.
PYTHON ?= python3
fairness: ## twelve clients, one of them greedy, with and without fair turns: docs/fairness.png
	@mkdir -p target
	FAIRNESS_CSV=$(CURDIR)/target/fairness.csv $(CARGO) test --locked --test sim -- --exact \
		shares::shares_of_twelve_clients_one_of_them_greedy
	$(PYTHON) etc/fairness.py target/fairness.csv docs/fairness.png

# Takes what the machine has: compare within one run only.
bench: bench-gateway bench-daemon bench-prefix bench-history bench-memory ## all of the following, one after the other (three quarters of an hour, as root)

bench-gateway: ## mlxsupd as a proxy beside nginx, HAProxy and bare hyper; a table at the end
	@benches/gateway/run.sh

bench-daemon: build model ## what the daemon itself costs while nobody asks anything (two minutes)
	@benches/daemon.sh

bench-prefix: build model ## a long prompt asked again, at once and after restarts (two minutes)
	@python3 -B benches/prefix.py

bench-history: ## how long percentiles over seven days of history take
	$(CARGO) test --locked --release -p mlxsup --lib -- --nocapture history::percentile::tests::a_week_is_read_whole

# Linux as root: it borrows a zram device and a control group. docs/experiment.md tells the story.
bench-memory: build model ## an idle worker under real compression: unwired, wired, watched by rules (a quarter of an hour)
	@benches/memory/run.sh

trace: build model ## an hour of a worker's memory on Linux, quiet and in trouble, for tests/traces
	@python3 -B benches/memory/record.py

sim-mutations: ## the core broken on purpose, one line at a time: the simulation must notice each
	@CARGO="$(CARGO)" tests/sim/mutations/run.sh

# The documentation is for those who work on the code: private items are in it, and links to them are welcome.
lint: mlx ## formatting, clippy and documentation, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(TEST_FEATURES) -- -D warnings
	$(CARGO) clippy --locked -p mlxsup --all-targets --no-default-features $(TEST_FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

fmt: ## format all code
	$(CARGO) fmt --all

check-macos: ## compile and lint all crates for Apple silicon, on Debian
	@sh etc/setup/macos-check.sh

# Advisories live in a database on a git host; what is checked here needs only the lock file.
deny: ## licences, bans and sources of all dependencies
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		set -x; $(CARGO) deny --workspace --locked check licenses bans sources; \
	else \
		if ! [ -x target/tools/bin/cargo-deny ]; then \
			echo "building cargo-deny $(CARGO_DENY_VERSION) into target/tools (once, some minutes)"; \
			$(CARGO) install --quiet --locked --debug --version $(CARGO_DENY_VERSION) --root target/tools \
				--target-dir target/tools/build cargo-deny && rm -rf target/tools/build || exit 1; \
		fi; \
		set -x; target/tools/bin/cargo-deny --workspace --locked check licenses bans sources; \
	fi

demo: build model ## a real answer, a restart with a request waiting, the status table
	@etc/demo.sh

plist: build ## service files for launchd and systemd, filled in, under target/units
	@target/release/mlxsupctl install --for launchd --into target/units
	@target/release/mlxsupctl install --for systemd --into target/units

run: build model ## the same, and the daemon stays until Ctrl-C
	@etc/demo.sh --stay
