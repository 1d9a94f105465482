# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test test-slow test-avx2 faults slurm lint clean

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

$(VENV)/.installed: pyproject.toml
	@echo "setting up $(VENV): PyTorch and its companions, a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs evaluations
