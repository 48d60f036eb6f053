# `make demo` and `make test` do everything on a fresh machine; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VIDEOS ?= ../shared/videos
# Threads that wait sleep instead of spinning: on a shared machine that is many times as fast (the commands set it themselves).
export OMP_WAIT_POLICY ?= passive

.PHONY: help demo test check bench wheel clean

help:
	@echo "make demo    install into $(VENV), draw 60 small videos, label them, show the page; offline"
	@echo "make test    install, run the tests"
	@echo "make check   install, run ruff, the type checker and the import rules"
	@echo "make wheel   build dist/alt_ray-*.whl, with the pocket inside"
	@echo "make bench   run the benchmarks (VIDEOS=$(VIDEOS)); prints tables for benchmarks/README.md"

# Reinstalled when what is asked for changes; -e, so that code changes need nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/alt-ray demo --out demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/isolation.py $(VIDEOS)
	$(BIN)/python benchmarks/merging.py
	$(BIN)/python benchmarks/throughput.py $(VIDEOS)/ucf101
	$(BIN)/python benchmarks/throughput.py $(VIDEOS)/ucf101 --dtype bfloat16

wheel: $(VENV)/.installed
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@ls -l dist

clean:
	rm -rf $(VENV) demo build dist *.egg-info
