# make install: set up .venv. make test: set up, then run all checks. make demo: set up, then prepare, train, generate.
# make docs: set up, then build the documentation into build/docs.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: install test demo docs clean
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
	$(BIN)/salon synthetic demo/paintings --count 200
	$(BIN)/salon prepare demo/paintings --out demo/paintings32.zip --resolution 32 --overwrite
	$(BIN)/salon train --data demo/paintings32.zip --out demo/runs --preset tiny --total-kimg 8
	$(BIN)/salon generate demo/runs --seeds 0-31 --grid 8x4 --out demo/grid.png --overwrite
	@echo "The painter's pictures are in demo/grid.png."

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv demo build
