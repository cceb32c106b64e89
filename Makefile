# make install: set up .venv. make test: set up, then run all checks. make demo: set up, then the whole loop.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: install test demo clean
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

demo: install
	$(BIN)/salon demo

clean:
	rm -rf .venv demo build
