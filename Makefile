# `make help` lists what there is. Everything runs in .venv, which `make setup` makes once.

PYTHON ?= python3
STUDY ?= studies/quickstart.yaml
PYTEST_ARGS ?=

bin := .venv/bin
installed := .venv/.installed
bench_installed := .venv/.bench-installed

# The version check of pyright would ask the network.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup study test lint format bench clean
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile | expand -t 12

setup: $(installed) ## make .venv with everything in it; free when nothing has changed

$(installed): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" bash scripts/setup.sh
	@touch $@

$(bench_installed): $(installed)
	@$(bin)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

study: setup ## train, measure and report the quickstart study (or STUDY=studies/another.yaml)
	@$(bin)/unseen study run $(STUDY)

# One thread in each of two processes: the numbers do not depend on the machine.
test: setup ## run the tests (PYTEST_ARGS="-m slow" for the slow ones)
	@OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: setup ## check format, style and types; changes nothing
	@$(bin)/ruff format --check .
	@$(bin)/ruff check .
	@$(bin)/pyright

format: setup ## put code in the house format, and repair what ruff can
	@$(bin)/ruff check --fix-only --quiet .
	@$(bin)/ruff format .

bench: $(bench_installed) ## compare speeds with what a user would pick instead
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(bin)/python "$$script"; done

clean: ## remove .venv, caches and builds; never runs/
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
