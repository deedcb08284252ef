# faceforge: `make` or `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo app test test-all test-gpu gpu-check matrix lint format docs release bench results clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv and install faceforge with its development tools

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY) ## Install, train a latent editor on drawn faces (about 7 minutes on 2 cores), print the path of the report
	$(BIN)/python train.py experiment=demo

app: $(READY) ## Open the app in the browser; RUNS="runs/a runs/b" uses your runs, otherwise a model of drawn faces
	$(BIN)/faceforge app $(RUNS)

# keep bytecode: tests start many processes, and each would compile all sources again
unexport PYTHONDONTWRITEBYTECODE

test: export OMP_NUM_THREADS ?= 1
test: $(READY) ## Run the daily tests (six to thirteen minutes on 2 cores), one thread per process
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'simulated and not slow' $(ARGS) $$(grep -l 'mark.simulated' tests/test_*.py)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: $(READY) ## Run every test that needs no GPU
	$(BIN)/python -m pytest -m simulated
	$(BIN)/python -m pytest -m 'not gpu and not simulated'

test-gpu: $(READY) ## Run the tests that need a GPU (without one, each is skipped with a reason)
	$(BIN)/python -m pytest -m gpu -rs

matrix: ## Install and test on Python 3.10 to 3.13 and with the oldest dependencies (hours); PYTHONS="3.10 3.13" selects versions
	$(PYTHON) tests/matrix.py $(PYTHONS)

lint: $(READY) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

gpu-check: $(READY) ## Check and measure training on this machine's GPU (8 minutes); writes docs/results/records/gpu_*.json
	$(BIN)/python -m benchmarks.speed.gpu_check

format: $(READY) ## Format the source code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## Build the documentation site into site/; ARGS=serve shows it while it is written
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build)

release: $(READY) ## Build and check the wheel and the sdist, and print the notes of this version
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python tests/release.py

bench: $(READY) ## Measure training, data loading and packing against plain loops (half an hour on an idle machine)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed all
	$(BIN)/python -m benchmarks.results.robustness

results: $(READY) ## Build docs/results.md from its records; ROW=name trains a row first (LFW= LFW_COLOR= CROPS= CELEBA= SIZE=full)
	$(BIN)/python -m benchmarks.results $(if $(ROW),train $(ROW),page)

clean: ## Remove build products and caches (not runs)
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
