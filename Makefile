# Each target is one chore. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
export PYTHONPATH := plugins:.
export BLUEGREEN_SERVICES ?= $(CURDIR)/include/services

.DEFAULT_GOAL := help
.PHONY: install demo airflow test kubernetes test-kubernetes lint bench soak images dashboards lock clean help

install: .venv/installed ## make .venv from requirements.lock

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, found %d.%d: make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' requirements.lock)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: install ## good, bad and refused releases, on a real Airflow, with HAProxy, nginx, PostgreSQL, or ROUTER=kubernetes (KEEP=1 leaves all running)
	$(BIN)/python -m demo.main $(if $(KEEP),--keep) $(if $(PORT),--port $(PORT)) $(if $(ROUTER),--router $(ROUTER))

airflow: install ## a real Airflow on include/services, to try your own service with (PORT=8080)
	$(BIN)/python -m demo.own $(if $(PORT),--port $(PORT))

test: install ## everything but what needs Kubernetes, with the reason of each skip; ARGS="-k …" for some of it
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 3 -m "not system and not kubernetes"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m system
	@echo "left out: what needs Kubernetes' own programs; make test-kubernetes builds or finds them, and runs it"
endif

kubernetes: install ## build Kubernetes' own programs into ~/.cache/bluegreen, once; needs Go (ARGS="plane": the control plane only)
	$(BIN)/python -m tools.kubernetes $(ARGS)

test-kubernetes: install kubernetes ## build or find them, then everything that needs them
	@# Neighbours together: each worker starts a control plane of its own, and a rig of each kind that its tests want.
	$(BIN)/python -m pytest -n 3 --dist worksteal -m kubernetes

lint: install ## ruff, mypy, import-linter, the catalog, DAG integrity
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bluegreen check --catalog
	$(BIN)/python -m pytest --quiet tests/dags/test_integrity.py

bench: install ## measure; tables and JSON in benchmarks/results/
	$(BIN)/python -m benchmarks.run $(ARGS)

soak: install ## a hundred good releases in a row, then rollbacks while every worker slot is taken
	$(BIN)/python -m benchmarks.run soak $(ARGS)

images: install ## take the pictures of docs/airflow-ui.md anew
	BLUEGREEN_IMAGES=1 $(BIN)/python -m pytest tests/system/test_ui.py

dashboards: install ## write include/monitoring/dashboards anew
	$(BIN)/python -m tools.dashboards

lock: install ## compile requirements.lock anew
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --custom-compile-command "make lock" \
		requirements-dev.txt --output-file requirements.lock

clean: ## remove what the targets made
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
