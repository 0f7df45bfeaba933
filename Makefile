# Two commands do all their own set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.PHONY: install demo app test check lock screenshots clean browser real-client

install: $(READY)

# The lock holds names, versions and hashes; pip's own configuration says where they come from.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "optimizer needs Python 3.11 or newer; set PYTHON=/path/to/python3.11."; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing the locked packages into .venv (a minute or two)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements.lock || \
		{ echo "The locked packages could not be fetched: check the network or pip's index."; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@# Where Python is told to write no bytecode, every command would compile for seconds.
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true
	@touch $(READY)

demo: $(READY)
	$(BIN)/optimizer demo

app: $(READY)
	$(BIN)/optimizer app

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The browser tests drive a real Chromium; Debian and Ubuntu have it as a package.
browser:
	@command -v chromium >/dev/null || { \
		command -v apt-get >/dev/null || \
			{ echo "Install Chromium so that \`chromium\` is on the PATH, then run make again."; exit 1; }; \
		SUDO=$$( [ "$$(id -u)" = 0 ] || echo sudo ); \
		$$SUDO apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq chromium fonts-dejavu-core \
			>/dev/null; }

# What the tests of a file share is set up once, on one worker. Files go in their order, not by their
# number of tests: the longest stand early, so that no worker ends long after the other.
test: $(READY) browser check
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

screenshots: $(READY) browser
	$(BIN)/python -m tests.browser.screenshots build/screenshots

# Needs uv; the versions move only when this is run.
lock:
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-annotate --no-header \
		--output-file requirements.lock

# Cloud Custodian as it is on PyPI, in a throw-away environment (docs/other-clients.md).
real-client: $(READY)
	$(BIN)/python -m benchmarks.real_client

clean:
	rm -rf .venv .optimizer .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
