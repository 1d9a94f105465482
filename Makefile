# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test test-slow test-avx2 faults slurm lint locked lock audit clean

run: $(VENV)/.installed
	$(BIN)/python train.py +experiment=ranker_distill_6l

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m slow

# What depends on the processor, as on one without AVX-512: most laptops.
test-avx2: $(VENV)/.installed
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 \
	  --dist loadfile -m "not slow" tests/inference tests/commands/test_export.py tests/models

# Every row of the fault matrix by the tests that prove it; the page gets the table of how they ended.
faults: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m fault \
	  -p tests.faults.outcomes --fault-table tests/faults/README.md

slurm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[slurm]'
	$(BIN)/python tests/flow/slurm/check.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# The versions of requirements.lock, each file held against its hash, in place of the newest that pyproject.toml allows: in a
# fresh .venv, which the targets above then use.
locked: requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.installed

# Versions that are locked stay, as far as pyproject.toml allows; without the file the newest are locked.
lock:
	test -x $(VENV)/lock/bin/uv || { $(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet 'uv>=0.9,<1'; }
	$(VENV)/lock/bin/uv pip compile --quiet pyproject.toml --extra demo --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-config --custom-compile-command "make lock" --output-file requirements.lock

# Known vulnerabilities of what is locked. It asks an advisory service, which needs a network that .ci/run may not have.
audit:
	test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet 'pip-audit>=2.9,<3'; }
	$(VENV)/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

$(VENV)/.installed: pyproject.toml
	@echo "setting up $(VENV): PyTorch and its companions, a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs evaluations
