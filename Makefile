# make install: set up .venv. make test: set up, then run all checks. make demo: set up, then the whole loop.
# make docs: set up, then build the documentation into build/docs.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: install test test-floor demo docs clean
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

# The oldest versions that pyproject.toml allows, on Python 3.11. Their own warnings are no errors.
test-floor:
	python3.11 -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-floor.txt -e '.[tensorboard,export,openvino,gallery]' httpx prdc pytest pytest-xdist hypothesis pyyaml
	.venv-floor/bin/python -m pytest -n 2 -W default tests/test_cli.py tests/test_formats.py tests/test_gan_*.py tests/test_eval_*.py tests/test_curation_*.py

demo: install
	$(BIN)/salon demo

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-floor demo build
