# Everything runs in .venv. PYTHON may be any of 3.10 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard src/anytime/ext/*.pyx src/anytime/ext/*.pxd src/anytime/ext/*.h)

.PHONY: demo test check wheel evidence clean

demo: $(VENV)/.demo  ## set up and do the main job: highway scenes at 20, 50, 100 and 200 ms
	$(BIN)/python examples/demo.py

test: $(VENV)/.test check  ## set up and pass the tests
	$(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(VENV)/.test
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

evidence: $(VENV)/.test  ## the measurements the documentation quotes, some hours on a quiet machine
	$(BIN)/anytime profile
	-$(BIN)/python -m bench.scheduler --json docs/results/scheduler.json
	-$(BIN)/python -m bench.engine --json docs/results/engine.json
	-$(BIN)/python -m bench.precision --json docs/results/precision.json
	-$(BIN)/python -m bench.reference --json docs/results/reference.json
	-$(BIN)/python -m bench.deadline --json docs/results/deadline.json
	-$(BIN)/python -m bench.guarantee --keep build/guarantee.jsonl --json docs/results/guarantee.json
	-$(BIN)/python -m bench.order --json docs/results/order.json
	-$(BIN)/python -m bench.guarantee soak --json docs/results/soak.json
	-$(BIN)/python -m bench.peers --json docs/results/peers.json
	-$(BIN)/python -m bench.anytime --json docs/results/anytime.json --plot docs/results/anytime.svg
	-$(BIN)/python -m bench.together --json docs/results/together.json
	-$(BIN)/python -m bench.node --json docs/results/node.json
	-$(BIN)/python -m bench.arm64 --json docs/results/arm64.json
	-$(BIN)/python -m bench.gpu --json docs/results/gpu.json
	-$(BIN)/python -m bench.age --json docs/results/age.json
	-$(BIN)/python -m bench.highway --keep build/highway.jsonl --json docs/results/highway.json
	-$(BIN)/python -m tests.trt_bindings $(CURDIR)/build/trt --builder
	-ANYTIME_TRT_BINDINGS=$(CURDIR)/build/trt $(BIN)/python -m pytest tests/test_trt_bindings.py
	$(BIN)/python -m bench.curve --json docs/results/curve.json --plot docs/results/curve.svg
	$(BIN)/python -m bench.summary

clean:
	rm -rf build dist $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and 'anytime needs Python 3.10 to 3.13, this is ' + sys.version)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable '.[cpu,grammar]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[cpu,grammar,calibrate,export,recipes,test]'
	touch $@ $(VENV)/.demo
