# Everything that a developer does, in one word each. Every target sets up .venv by itself;
# PYTHON=python3.12 make install chooses another interpreter for it.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(if $(wildcard $(STAMP)),$(BIN)/python,python3)
DEMO_WORKSPACE ?= workspace
DATA ?= ../shared/data
BENCH ?= build/bench
WORKERS ?= 2
# Each of them computes with one thread; the tests of a file share what they set up.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# An interpreter other than the one that .venv was made with: install anew.
version = $(shell $(1) -V 2>&1)
ifneq ($(call version,$(PYTHON)),$(call version,$(BIN)/python))
.PHONY: $(STAMP)
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(STAMP) ## set up .venv with every extra and the test tools, at the tested versions

$(STAMP): pyproject.toml constraints.txt
	@[ "$$($(BIN)/python -V 2>&1)" = "$$($(PYTHON) -V)" ] && $(BIN)/python -m pip -V >/dev/null \
	  || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

.PHONY: demo
demo: export LLMCTL_WORKSPACE := $(DEMO_WORKSPACE)
demo: install ## raw text in, a model that writes and a filter for spam out: offline, in minutes
	$(BIN)/llmctl collect demo
	$(BIN)/llmctl tokenize
	$(BIN)/llmctl pretrain --config examples/demo/demo.toml
	$(BIN)/llmctl predict --model base "The capital of France is ___" "The lion is in the ___" "I went to the ___"
	$(BIN)/llmctl generate --model base "The lion" --max-tokens 100
	$(BIN)/python examples/demo/score_probes.py $(DEMO_WORKSPACE)
	$(BIN)/llmctl finetune classify --config examples/spam/spam.toml
	$(BIN)/llmctl predict --model spam --top 1 "Running late, start dinner without me" "Claim your refund now, confirm your card here"

.PHONY: check
check: install ## format, lint, types and spelling: what CI asks first
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/codespell

.PHONY: fix
fix: install ## repair what can be repaired without thinking
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test
test: export OMP_NUM_THREADS := 1
test: install ## the whole offline suite on the CPU, WORKERS files at a time
	$(PYTEST)

.PHONY: test-fast
test-fast: export OMP_NUM_THREADS := 1
test-fast: install ## the same without the slow tests
	$(PYTEST) -m "not slow"

.PHONY: soak
soak: install ## 400 random kills of training in one process, 100 in two, compared bit for bit; 1,000 broken inputs
	$(BIN)/python -m pytest tests/test_resume.py -k random_kills --kills 400
	$(BIN)/python -m pytest tests/data/test_mutations.py --mutations 1000

.PHONY: live
live: install ## the tests that need the internet: a hub, a published model
	$(BIN)/python -m pytest --online -m network

.PHONY: bench
bench: install ## prepare BENCH from DATA and time the tokenizer; the rest is in tests/benchmarks
	$(BIN)/python tests/benchmarks/prepare.py --data $(DATA) --out $(BENCH)
	$(BIN)/python tests/benchmarks/tokenize_speed.py --bench $(BENCH)

.PHONY: clean
clean: ## remove .venv, caches and builds; the workspace stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find llmctl tests -name __pycache__ -prune -exec rm -rf {} +
