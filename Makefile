# make demo | make test | make test-fast | make lint | make bench | make tables | make docs | make pictures: each makes .venv first where there is none.
# make minimal: the package without its extras, in an environment of its own. make app: the same with the app, and its tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast lint bench tables docs pictures minimal clean

demo: .venv/installed
	$(BIN)/idaa demo

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --durations 20 --durations-min 5

# The inner loop: without what takes seconds.
test-fast: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto -m "not slow"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks.bench

tables: .venv/installed
	$(BIN)/python -m benchmarks.tables

# The site, in build/docs/index.html. A name that does not resolve, a link that leads nowhere, a page that fails: all are errors.
# One thread: more wait for each other where other work has a core.
docs: .venv/installed
	OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/sphinx-build --nitpicky --fail-on-warning --keep-going --jobs 2 -c docs -d build/doctrees . build/docs
	$(BIN)/python docs/check_links.py build/docs
	@echo 'The site is built: open build/docs/index.html'

# The pictures that README and the pages show on a forge, from the site's.
pictures: docs
	$(BIN)/python docs/make_pictures.py

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

# gradio wants an older Pillow than the rest, so it is not in .venv. Browser tests need chromium and its driver, too.
.PHONY: app
app:
	$(PYTHON) -m venv .venv-app
	.venv-app/bin/python -m pip install --quiet --editable '.[app]' hypothesis pytest selenium
	.venv-app/bin/python -m pytest -ra tests/test_app.py tests/test_app_view.py

# The oldest versions that pyproject.toml allows.
.PHONY: lowest
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	.venv-lowest/bin/python -m pip install --quiet --no-deps torchattacks
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 .venv-lowest/bin/python -m pytest --numprocesses auto --durations 20

clean:
	rm -rf .venv .venv-minimal .venv-lowest .venv-app dist build demo-out docs/api docs/gallery docs/notebooks
	rm -rf .hypothesis .pytest_cache .ruff_cache .mypy_cache
