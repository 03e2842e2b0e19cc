# make run    a prediction log on http://127.0.0.1:8000, with a PostgreSQL of its own unless DATABASE_URL is set
# make test   the whole suite, on every storage engine that can be had here, several files at once
# make test-quick   the domain, the use cases and the client, without a database
# make test-faults  every fault, kill -9 a hundred times, on TimescaleDB and plain; then thousands of hostile requests
# make test-hosts   the client in hosts that are too large for every run: BentoML, LitServe, MLServer, Ray Serve
# make demo   something to look at: a week of predictions of six models, and the dashboard
# make demo-check  two real models, called a few thousand times, counted twice
# make docs   the documentation as pages in docs/_build; a warning is an error
# make settings   .env.example and docs/settings.md, from config.py
# make release   wheels and sdists of service and client in dist/, with checksums and a bill of materials
# make lint   style and types, on Python 3.11 or newer, which some of what the tests import needs
# make check   whether the migrations match the tables

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# The lists are complete, so nothing else is resolved: --no-deps keeps Django out, which only a package of files names.
# A file that is not the one that was pinned is refused, wherever it comes from.
INSTALL = $(PIP) --require-hashes
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --default-index https://pypi.org/simple
LOCK    = $(COMPILE) setup.cfg --extra embedded --extra docs --extra dashboard
# The hosts in .venv-hosts pin what they share with the service to other versions.
HOSTS   := .venv-hosts

# Four at once keep two cores busy: while one test waits for a process, others compute. Each worker starts databases of
# its own, and the tests of a file stay together.
WORKERS ?= 4
PYTEST   = $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

.PHONY: run test test-quick test-quick-service test-quick-client test-faults test-hosts demo demo-check docs settings release lint check lock clean
.DEFAULT_GOAL := run

run: $(VENV)/run
	@exec $(BIN)/python -m app

test: $(VENV)/test
	$(PYTEST) --cov
	cd client && ../$(PYTEST) --cov

# The service's part and the client's side by side: the service's computes, in one process, and the client's waits, in
# three. The service's part has fewer examples of each property. The client's part leaves out what needs a
# framework, a server of another make, a process of its own or many seconds.
QUICK_CLIENT = --ignore=tests/hosts --ignore=tests/integrations \
	$(foreach file,command_line companions exits export forks hosts ledger poison sdist spool,--ignore=tests/test_$(file).py)

test-quick: $(VENV)/test
	@$(MAKE) --no-print-directory -j 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) \
		test-quick-service test-quick-client

test-quick-service: $(VENV)/test
	EXAMPLES=10 $(BIN)/python -m pytest tests/domain tests/application

test-quick-client: $(VENV)/test
	cd client && ../$(BIN)/python -m pytest -n 3 $(QUICK_CLIENT)

test-faults: $(VENV)/test
	KILLS=$${KILLS:-100} FAULT_SECONDS=$${FAULT_SECONDS:-10} $(BIN)/python -m pytest --timeout=1200 -s tests/faults
	HOSTILE_CASES=$${HOSTILE_CASES:-5000} $(BIN)/python -m pytest -s tests/hostile

test-hosts: $(VENV)/test $(HOSTS)/installed
	cd client && ../$(BIN)/python -m pytest tests/hosts

demo: $(VENV)/run
	@exec $(BIN)/python -m examples.demo

demo-check: $(VENV)/test
	$(BIN)/python -m examples.demo_check

docs: $(VENV)/test
	$(BIN)/python -m sphinx -E -W --keep-going --quiet -b html docs docs/_build

settings: $(VENV)/run
	$(BIN)/python -m app.settings.pages env >.env.example
	$(BIN)/python -m app.settings.pages markdown >docs/settings.md

# cyclonedx-bom is for this alone, so it has an environment of its own that goes away.
release: $(VENV)/test
	FROM_REGISTRY=1 $(BIN)/python -m pytest -q -o timeout=600 tests/test_package.py
	$(BIN)/python -m tools.release
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-release.txt && \
	"$$folder/bin/cyclonedx-py" requirements --output-reproducible --validate --of JSON \
		-o dist/predlog-server.cdx.json requirements.txt && \
	cd dist && sha256sum predlog-server.cdx.json >> SHA256SUMS

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd client && ../$(BIN)/mypy

# All that may name a database, blank: neither the environment nor a .env leads to one that is in use.
NO_DATABASE = DATABASE_URL= DATABASE_URL_FILE= DATABASE_READ_URL= DATABASE_READ_URL_FILE= \
	DATABASE_DIRECT_URL= DATABASE_DIRECT_URL_FILE= DB_HOST=

# On a database made for it, since the one of `make run` may be in use and older.
check: $(VENV)/run
	@folder=$$(mktemp -d) && chmod 755 "$$folder" && trap 'rm -rf "$$folder"' EXIT && \
	export EMBEDDED_DATA_DIR="$$folder/postgresql" $(NO_DATABASE) && \
	$(BIN)/flask --app wsgi db upgrade && $(BIN)/flask --app wsgi db check

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Predlog needs Python 3.10 or newer, $(PYTHON) is %d.%d; choose one with PYTHON=…" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: requirements.txt $(VENV)/python
	@echo "Installing what the service needs"
	@$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/test: requirements-test.txt $(VENV)/run
	@echo "Installing what the tests need"
	@$(INSTALL) -r requirements-test.txt
	@touch $@

$(HOSTS)/installed: requirements-hosts.txt
	@echo "Installing large hosts in $(HOSTS)"
	@$(PYTHON) -m venv $(HOSTS)
	@$(HOSTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Pin everything anew, with the hashes of PyPI's files for every platform. Django is overridden away:
# drf-spectacular-sidecar and django-unfold are taken for their files alone. The tests have Django, for the client is at
# home in it.
lock: $(VENV)/python
	@$(PIP) uv
	$(LOCK) --override overrides.txt --output-file requirements.txt
	$(LOCK) --extra test --extra lint --extra sphinx --constraint requirements.txt --output-file requirements-test.txt
	echo 'cyclonedx-bom >=7.5, <8' | $(COMPILE) - --output-file requirements-release.txt
	$(COMPILE) client/pyproject.toml --extra heavy --output-file requirements-hosts.txt

clean:
	rm -rf $(VENV) $(HOSTS) .pytest_cache .mypy_cache .ruff_cache .hypothesis docs/_build
