# Everything runs in a virtual environment of its own; nothing else is installed or changed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help install demo test lint types layers pytest fidelity faults cluster bench lock rights clean

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: requirements.lock pyproject.toml $(wildcard _build/*.py workers/load/engine/*.c workers/load/engine/*.h)
	@echo "Setting up $(VENV) (first time: one or two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

install: $(VENV)/installed ## Set up the virtual environment

demo: install ## Run the quickstart benchmark: real proxies against no mesh, in minutes
	$(BIN)/meshgauge run plans/quickstart.yaml

test: lint types layers pytest ## The one test command

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

layers: $(VENV)/installed-dev
	$(BIN)/lint-imports

# Tests of clusters mostly wait: they run beside those that measure nothing. Those that measure have the machine alone.
SHORT := -m "not slow and not cluster and not bench"
CLUSTERS := tests/adapters/kubernetes tests/cluster
MEASURING := tests/adapters/local tests/faults tests/fidelity tests/integration tests/workers

pytest: $(VENV)/installed-dev
	@log=$$(mktemp); $(BIN)/python -m pytest $(SHORT) $(CLUSTERS) >$$log 2>&1 & clusters=$$!; \
	trap "kill $$clusters" INT TERM; \
	$(BIN)/python -m pytest $(SHORT) $(addprefix --ignore=,$(CLUSTERS) $(MEASURING)); rest=$$?; \
	wait $$clusters; clusters=$$?; cat $$log; rm -f $$log; test $$rest = 0 -a $$clusters = 0
	$(BIN)/python -m pytest $(SHORT) $(MEASURING)

fidelity: $(VENV)/installed-dev ## Long: the instrument measured against known truths
	$(BIN)/python -m pytest tests/fidelity tests/reports tests/browser -m "not cluster and not bench"

faults: $(VENV)/installed-dev ## Long: every fault of the failure matrix, and a seeded chaos monkey
	$(BIN)/python -m pytest tests/faults -m "not cluster and not bench"

cluster: $(VENV)/installed-dev ## The contract suite against the fakes, and a real cluster: make cluster CONTEXT=kind-kind
	MESHGAUGE_TEST_CONTEXT=$(CONTEXT) $(BIN)/python -m pytest tests/cluster $(if $(CONTEXT),,-m "not cluster")

bench: $(VENV)/installed-dev ## Print speeds and ratios
	for script in tests/bench/bench_*.py; do $(BIN)/python $$script || exit 1; done

lock: ## Pin the newest dependencies (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade \
		--quiet --output-file requirements.lock
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate \
		--quiet --constraint requirements.lock --output-file requirements-dev.lock
	uv pip compile pyproject.toml --extra helm --extra exchange --universal --python-version 3.11 --generate-hashes \
		--no-annotate --quiet --constraint requirements-dev.lock --output-file deploy/requirements.lock

rights: install ## Write again the rights each mesh takes into the Helm chart
	for file in deploy/chart/meshgauge/files/rbac/*.yaml; do \
		$(BIN)/meshgauge adapters rbac $$(basename $$file .yaml) > $$file || exit 1; done

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
