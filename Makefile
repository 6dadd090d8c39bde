# One command each: make prepares whatever a target needs, and says what it does. Options go through as ARGS="…".

VENV := .venv
BIN := $(VENV)/bin
ARGS :=
# The first of these that is new enough and can make a virtual environment; PYTHON=/usr/bin/python3.12 overrides it.
PYTHON := python3.13 python3.12 python3.11 python3
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install
# No trace in a lock of the index or mirror that it was made with.
UV_COMPILE := UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url $(ARGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint format bench errors months quality lock clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'Options go through as ARGS="…", for example: make test ARGS="-k incidents"'

setup: $(VENV)/.dev ## Make .venv with streamdrift and everything that its tests need
	@echo '$(VENV) is ready: $(BIN)/streamdrift --help'

demo: $(VENV)/.runtime ## Watch a fraud model's traffic drift, on an embedded broker (ARGS="--for 90s --json")
	@$(BIN)/streamdrift demo $(ARGS)

test: $(VENV)/.dev ## Run the tests, on the embedded broker and on Apache Kafka (ARGS are pytest's)
	@$(FETCH_KAFKA)
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## Check style, types and shell scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run

format: $(VENV)/.dev ## Format the code and repair what can be repaired by rule
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Run the benchmarks
	@$(BIN)/python -m tests.bench $(ARGS)

errors: $(VENV)/.dev ## Find concept drift in the errors of frozen models, next to River (ARGS="--seeds 1")
	@$(BIN)/python -m tests.bench.error_streams $(ARGS)

months: $(VENV)/.dev ## Run months of traffic of every rate, and changes in it (hours; ARGS="--seeds 1 --days 3")
	@$(BIN)/python -m tests.rates $(ARGS)

quality: $(VENV)/.dev ## False alarms and delays against promises, beside others (fifty minutes; ARGS="--short --seeds 7")
	@$(BIN)/python -m tests.quality $(ARGS)

lock: $(VENV)/.dev ## Lock the dependencies anew (ARGS="--upgrade" takes the newest versions)
	@echo 'Resolving the dependencies of pyproject.toml into requirements/*.lock'
	@$(UV_COMPILE) --extra compiled pyproject.toml -o requirements/runtime.lock
	@$(UV_COMPILE) --group build -c requirements/runtime.lock -o requirements/build.lock
	@$(UV_COMPILE) pyproject.toml --extra parquet --extra compiled --group dev \
		-c requirements/runtime.lock -c requirements/build.lock -o requirements/dev.lock

clean: ## Remove everything that make made
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the virtual environment ---------------------------------------------------------------------------------------

# Two stamps: the demo needs a third of what the tests need. Without build isolation, because the build backend is
# locked with a hash as everything else is. All of it is said on stderr: what the demo says may be piped on.
$(VENV)/.runtime: requirements/runtime.lock requirements/build.lock pyproject.toml | $(BIN)/python
	@echo 'Installing streamdrift and the locked versions of what it runs on into $(VENV)' >&2
	@$(PIP_INSTALL) --require-hashes -r requirements/runtime.lock -r requirements/build.lock >&2
	@$(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable . >&2
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(BIN)/python
	@echo 'Installing streamdrift and the locked versions of what its tests need into $(VENV)' >&2
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.lock >&2
	@$(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable . >&2
	@touch $(VENV)/.runtime $@

$(BIN)/python:
	@$(MAKE_VENV)

define MAKE_VENV
for python in $(PYTHON); do \
  if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    echo "Making $(VENV) with $$($$python --version)" >&2; \
    $$python -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
    exit 0; \
  fi; \
done; \
$(SAY_HOW_TO_GET_PYTHON) >&2; \
exit 1
endef

# One line to copy. A Python that is new enough but has no venv lacks a package of its own version (Debian splits it
# off); where python3 is too old, distributions that have a newer one name it by version.
define SAY_HOW_TO_GET_PYTHON
{ \
  sudo=$$([ "$$(id -u)" = 0 ] || echo 'sudo '); \
  packages='python3 python3-venv'; \
  if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))' 2>/dev/null; then \
    packages='python3.11 python3.11-venv'; \
  fi; \
  for python in $(PYTHON); do \
    found=$$($$python -c 'import sys; sys.version_info >= (3, 11) and print("python%d.%d" % sys.version_info[:2])' 2>/dev/null); \
    if [ -n "$$found" ]; then packages="$$found-venv"; break; fi; \
  done; \
  echo 'streamdrift needs Python 3.11 or newer with venv. This installs what is missing:'; \
  if [ "$$(uname)" = Darwin ]; then echo '  brew install python@3.13'; \
  else echo "  $${sudo}apt-get install -y $$packages"; fi; \
}
endef

# ---- Apache Kafka for the tests ------------------------------------------------------------------------------------

# Without it the tests that need it are skipped, and this line says why; a run with CI=true must not skip them.
define FETCH_KAFKA
java=$$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1); \
missing=''; \
if [ "$${java:-0}" -lt 17 ]; then missing='Java 17 or newer'; fi; \
if ! command -v mvn >/dev/null; then missing="$${missing:+$$missing and }Maven"; fi; \
if [ -z "$$missing" ] && ! $(BIN)/python -m tests.support.apache_kafka --fetch; then \
  missing='what Maven could not fetch (see above)'; \
fi; \
if [ -n "$$missing" ]; then \
  echo "Apache Kafka needs $$missing: the tests that run on it are skipped." >&2; \
  if [ "$$CI" = true ]; then echo 'CI=true: nothing may be skipped.' >&2; exit 1; fi; \
fi
endef
