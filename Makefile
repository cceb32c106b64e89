# make install: set up .venv. make test: set up, then run all checks. make demo: set up, then the whole loop.
# make docs: set up, then build the documentation into build/docs.
# make screenshots: set up, then every page at two widths, light and dark, in build/screenshots.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: install test test-floor demo docs screenshots clean
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Three workers on two cores: tests wait for servers and processes of their own. All use what one of them compiled.
test: export PYTHONDONTWRITEBYTECODE =
test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The oldest versions that pyproject.toml allows, on Python 3.11. Their own warnings are no errors.
test-floor:
	python3.11 -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-floor.txt -e '.[dev]'
	.venv-floor/bin/python -m pytest -n 2 --dist worksteal -W default

demo: install
	$(BIN)/salon demo

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

screenshots: install
	$(BIN)/python tests/screenshots.py

clean:
	rm -rf .venv .venv-floor demo build
