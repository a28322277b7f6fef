# make demo    the main job on this computer, with a report          make test    everything that is tested
# make check   style, types, layers, documents                       make bench   the figures (ONLY="name name" for some)
# make setup   .venv alone

SHELL := /bin/bash
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: setup demo test check bench clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile | head -3

setup: .venv/.ready-all

.venv/.ready-%: pyproject.toml requirements.lock scripts/setup.sh melt/native/source.py
	@scripts/setup.sh "$(PYTHON)" "$*"

demo: .venv/.ready-all
	@$(PY) -m melt run workloads/demo.yaml

test: .venv/.ready-dev
	@scripts/system-packages.sh
	$(PY) -m pytest -n 2 --dist loadgroup

check: .venv/.ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_layers.py tests/test_docs.py

bench: .venv/.ready-dev
	@$(PY) -m benchmarks $(ONLY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
