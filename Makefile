# make demo | make test | make test-fast | make lint | make bench: each makes .venv first where there is none.
# make minimal: the package without its extras; make lowest: with the oldest versions that pyproject.toml allows. Each in an
# environment of its own.
PYTHON ?= python3
BIN := .venv/bin
# One thread a worker: more would fight over the same cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := -m pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-fast lint bench tables minimal lowest clean

demo: .venv/installed
	$(BIN)/idaa demo

test: .venv/installed
	$(ONE_THREAD) $(BIN)/python $(PYTEST) --durations 15

test-fast: .venv/installed
	$(ONE_THREAD) $(BIN)/python $(PYTEST) -m 'not slow'

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/bench.py

tables: .venv/installed
	$(BIN)/python -m benchmarks.tables

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, this is {v}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps torchattacks  # a peer in benchmarks; it pins an old requests
	touch $@

minimal:
	$(PYTHON) -m venv .venv-minimal
	.venv-minimal/bin/python -m pip install --quiet .
	.venv-minimal/bin/python tests/minimal.py

lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	.venv-lowest/bin/python -m pip install --quiet --no-deps torchattacks
	$(ONE_THREAD) .venv-lowest/bin/python $(PYTEST) --durations 15

clean:
	rm -rf .venv .venv-minimal .venv-lowest dist build demo-out .hypothesis .pytest_cache .ruff_cache .mypy_cache
